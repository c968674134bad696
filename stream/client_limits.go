package stream

import (
	"sync/atomic"
	"time"
)

// limits are the time limits of an attempt and of an outage. Zero or less means no limit.
type limits struct {
	open, firstMessage, idle, send, maxOutage time.Duration
}

// watch starts the timers of an attempt, one for each direction that has a limit, and returns the function that stops
// them.
//
// Time is counted in ticks of the timer, so that a message costs no clock reading: a call notes the tick that it began
// in, and is over its limit when more than that many ticks have begun since. A limit is never cut short.
func (s *ClientStream[Req, Res]) watch(a *attempt[Req, Res]) (stop func()) {
	l := s.options.limits
	stopRecv := every(tickOf(l.idle, l.firstMessage), func(tick time.Duration) time.Duration {
		late, next := s.inbox.tick(tick, l)
		if late != nil {
			a.fail(&loss{op: "recv", err: late, ours: true})
		}
		return next
	})
	stopSend := every(tickOf(l.send), func(tick time.Duration) time.Duration {
		if late := s.outbox.tick(tick, l); late != nil {
			a.fail(&loss{op: "send", err: late, ours: true})
			return 0
		}
		return tick
	})
	return func() { stopRecv(); stopSend() }
}

// ticksOfLimit is how many ticks the shortest limit of a direction has. A limit is found to be passed up to one tick late.
const ticksOfLimit = 8

// tickOf returns the time between two ticks, zero where there is no limit. It is 1 ms at the least.
func tickOf(limits ...time.Duration) time.Duration {
	var shortest time.Duration
	for _, l := range limits {
		if l > 0 && (shortest == 0 || l < shortest) {
			shortest = l
		}
	}
	if shortest == 0 {
		return 0
	}
	return max(roundUp(shortest, ticksOfLimit), time.Millisecond)
}

// every calls f after each tick, and f returns the length of the next one, until that is zero, or until the function that
// it returns is called.
func every(tick time.Duration, f func(tick time.Duration) (next time.Duration)) (stop func()) {
	if tick == 0 {
		return func() {}
	}
	var stopped atomic.Bool
	var timer *time.Timer
	ready := make(chan struct{}) // closed when timer is set
	timer = time.AfterFunc(tick, func() {
		<-ready
		if stopped.Load() {
			return
		}
		if tick = f(tick); tick > 0 {
			timer.Reset(tick)
		}
	})
	close(ready)
	return func() {
		stopped.Store(true)
		timer.Stop()
	}
}

// passed reports whether a call that began in tick began has taken at least limit now, in tick now.
func passed(began, now uint64, tick, limit time.Duration) bool {
	return limit > 0 && now-began > uint64(roundUp(limit, tick)) //nolint:gosec // neither is negative
}

// roundUp returns a/b, rounded up; a limit may be as long as can be.
func roundUp(a, b time.Duration) time.Duration {
	if a%b > 0 {
		return a/b + 1
	}
	return a / b
}

// tick counts one, and returns the error where somebody has waited too long in Recv. Only that time counts: a slow
// application is not a dead server. It returns the length of the next tick as well: after the first message that is one of
// the idle limit, zero where there is none.
func (b *inbox[Req, Res]) tick(tick time.Duration, l limits) (late *limitError, next time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ticks++
	if idle := tickOf(l.idle); !b.fresh && tick != idle {
		b.since = b.ticks - 1 // counted in shorter ticks so far; the wait began before this one
		return nil, idle
	}
	limit, what := l.idle, "no message"
	if b.fresh && l.firstMessage > 0 {
		limit, what = l.firstMessage, "no first message"
	}
	if b.busy && passed(b.since, b.ticks, tick, limit) {
		return &limitError{what: what, limit: limit}, 0
	}
	return nil, tick
}

// tick counts one, and returns the error where the transport has not taken a message for too long.
func (o *outbox[Req, Res]) tick(tick time.Duration, l limits) *limitError {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ticks++
	if o.busy && passed(o.since, o.ticks, tick, l.send) {
		return &limitError{what: "message not taken", limit: l.send}
	}
	return nil
}
