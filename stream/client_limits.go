package stream

import (
	"sync/atomic"
	"time"
)

// limits are the time limits of an attempt and of an outage. Zero or less means no limit.
type limits struct {
	open, firstMessage, idle, send, ack, maxOutage time.Duration
}

// watch starts the timers of an attempt, one for each direction that has a limit, and returns the function that stops
// them.
//
// Time is counted in ticks of the timer, so that a message costs no clock reading: a call notes the tick that it began
// in, and is over its limit when more than that many ticks have begun since. A limit is never cut short.
func (s *ClientStream[Req, Res]) watch(a *attempt[Req, Res]) (stop func()) {
	l := s.options.limits
	stopRecv := every(tickOf(l.idle, l.firstMessage), func(tick time.Duration) time.Duration {
		next, late := l.tickRecv(s.inbox, tick)
		if late != nil {
			a.fail(&loss{op: "recv", err: late, origin: fromStream})
		}
		return next
	})
	stopSend := every(tickOf(l.send, l.ack), func(tick time.Duration) time.Duration {
		sending, unacked := s.outbox.Tick()
		switch {
		case passed(sending, tick, l.send):
			a.fail(&loss{op: "send", err: &limitError{what: "message not taken", limit: l.send}, origin: fromStream})
			return 0
		case passed(unacked, tick, l.ack):
			a.fail(&loss{op: "send", err: &limitError{what: "nothing acknowledged", limit: l.ack}, origin: fromStream})
			return 0
		case passed(2*unacked, tick, l.ack): // the acknowledgement may be there, and nobody receives
			go s.standIn(s.outbox.Owes) // ends with the attempt, or when all is acknowledged; the fence waits for it
		}
		return tick
	})
	return func() { stopRecv(); stopSend() }
}

// waits is the part of an inbox that its timer talks to.
type waits interface {
	Tick() (waited uint64, fresh bool)
	Rewait()
}

// tickRecv counts one tick, and returns the length of the next one: after the first message that is a tick of the idle limit, zero if there is
// none. It returns an error if the application has waited for a message for too long.
func (l limits) tickRecv(w waits, tick time.Duration) (next time.Duration, late error) {
	waited, fresh := w.Tick()
	if idle := tickOf(l.idle); !fresh && tick != idle { // counted in shorter ticks so far
		w.Rewait()
		return idle, nil
	}
	limit, what := l.idle, "no message"
	if fresh && l.firstMessage > 0 {
		limit, what = l.firstMessage, "no first message"
	}
	if passed(waited, tick, limit) {
		return 0, &limitError{what: what, limit: limit}
	}
	return tick, nil
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

// passed reports whether a wait of so many ticks, the first of them not whole, has taken at least limit.
func passed(waited uint64, tick, limit time.Duration) bool {
	return limit > 0 && waited > uint64(roundUp(limit, tick)) //nolint:gosec // neither is negative
}

// roundUp returns a/b, rounded up; a limit may be as long as can be.
func roundUp(a, b time.Duration) time.Duration {
	if a%b > 0 {
		return a/b + 1
	}
	return a / b
}
