package stream

import (
	"sync/atomic"
	"time"
)

// limits are the time limits of an attempt and of an outage. Zero means no limit.
type limits struct {
	open, firstMessage, idle, send, maxOutage time.Duration
}

// watch starts the timers of an attempt, one for each direction that has a limit, and returns the function that stops
// them. A timer that fires when nothing is overdue is set again for what is left: a message costs a clock reading.
func (s *ClientStream[Req, Res]) watch(a *attempt[Req, Res]) (stop func()) {
	l := s.options.limits
	stopRecv, stopSend := func() {}, func() {}
	if l.idle > 0 || l.firstMessage > 0 {
		stopRecv = every(func() (time.Duration, *limitError) { return s.inbox.overdue(l) }, func(err error) {
			a.fail(&loss{op: "recv", err: err, ours: true})
		})
	}
	if l.send > 0 {
		stopSend = every(func() (time.Duration, *limitError) { return s.outbox.overdue(l.send) }, func(err error) {
			a.fail(&loss{op: "send", err: err, ours: true})
		})
	}
	return func() { stopRecv(); stopSend() }
}

// every calls check now and whenever the time that it returned has passed, until that is zero or check returns an
// error, which goes to fire. The function it returns ends that.
func every(check func() (time.Duration, *limitError), fire func(error)) (stop func()) {
	left, err := check()
	if left == 0 || err != nil {
		return func() {}
	}
	var stopped atomic.Bool
	var timer *time.Timer
	ready := make(chan struct{}) // closed when timer is set
	timer = time.AfterFunc(left, func() {
		<-ready
		if stopped.Load() {
			return
		}
		left, err := check()
		switch {
		case err != nil:
			fire(err)
		case left > 0:
			timer.Reset(left)
		}
	})
	close(ready)
	return func() {
		stopped.Store(true)
		timer.Stop()
	}
}

// overdue returns the time after which to look again, zero where Recv may wait for ever, or the error where it has
// waited too long. Only the time that somebody waits in Recv counts: a slow application is not a dead server.
func (b *inbox[Req, Res]) overdue(l limits) (time.Duration, *limitError) {
	now := time.Since(b.start)
	b.mu.Lock()
	defer b.mu.Unlock()
	limit, what := l.idle, "no message"
	again := limit // a message may come meanwhile, and the idle limit count from it
	if b.fresh && l.firstMessage > 0 {
		limit, what = l.firstMessage, "no first message"
		if again <= 0 {
			again = limit
		}
	}
	if limit <= 0 {
		return 0, nil // the first message came, and later ones have no limit
	}
	if !b.busy {
		return min(limit, again), nil
	}
	left := limit - (now - max(b.since, b.openedAt, b.lastMessage))
	if left <= 0 {
		return 0, &limitError{what: what, limit: limit}
	}
	return min(left, again), nil
}

// overdue returns the time that is left until a Send has waited too long, or the error where it has.
func (o *outbox[Req, Res]) overdue(limit time.Duration) (time.Duration, *limitError) {
	now := time.Since(o.start)
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.busy {
		return limit, nil
	}
	left := limit - (now - o.since)
	if left <= 0 {
		return 0, &limitError{what: "message not taken", limit: limit}
	}
	return left, nil
}
