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
	l, r := s.options.limits, a.link.route.Load()
	giveUp := func(op string, w wait, dead bool) {
		a.fail(&loss{op: op, err: &limitError{what: w.what, limit: w.limit, dead: dead}, origin: fromStream})
	}
	late := func(op string, d *doubt, w wait, tick time.Duration) bool {
		over := d.over(w, tick, func() { giveUp(op, w, true) })
		if over {
			giveUp(op, w, false)
		}
		return over
	}
	message, taken, acked := newDoubt(r), newDoubt(r), newDoubt(r)
	stopRecv := every(tickOf(l.idle, l.firstMessage), func(tick time.Duration) time.Duration {
		next, now := l.tickRecv(s.inbox, tick)
		if next != tick {
			message.begins()
			return next
		}
		if late("recv", message, now, tick) {
			return 0
		}
		return tick
	})
	stopSend := every(tickOf(l.send, l.ack), func(tick time.Duration) time.Duration {
		sending, unacked := s.outbox.Tick()
		if late("send", taken, wait{what: "message not taken", ticks: sending, limit: l.send}, tick) ||
			late("send", acked, wait{what: "nothing acknowledged", ticks: unacked, limit: l.ack}, tick) {
			return 0
		}
		if passed(2*unacked, tick, l.ack) { // the acknowledgement may be there, and nobody receives
			go s.standIn(s.outbox.Owes) // ends with the attempt, or when all is acknowledged; the fence waits for it
		}
		return tick
	})
	return func() { stopRecv(); stopSend() }
}

// wait is one that has a limit.
type wait struct {
	what  string        // has not happened
	ticks uint64        // that it has taken; zero: nobody waits
	limit time.Duration // zero or less: none
}

// waits is the part of an inbox that its timer talks to.
type waits interface {
	Tick() (waited uint64, fresh bool)
	Rewait()
}

// tickRecv counts one tick, and returns the length of the next one: after the first message that is a tick of the idle limit, zero if there is
// none. It also returns how long the application has waited for a message.
func (l limits) tickRecv(w waits, tick time.Duration) (next time.Duration, now wait) {
	waited, fresh := w.Tick()
	if idle := tickOf(l.idle); !fresh && tick != idle { // counted in shorter ticks so far
		w.Rewait()
		return idle, wait{}
	}
	if fresh && l.firstMessage > 0 {
		return tick, wait{what: "no first message", ticks: waited, limit: l.firstMessage}
	}
	return tick, wait{what: "no message", ticks: waited, limit: l.idle}
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
