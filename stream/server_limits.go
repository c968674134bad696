package stream

import (
	"time"
)

// watch starts the timers of a stream.
func (s *ServerStream) watch() {
	o := &s.server.options
	if tick := tickOf(o.idle, o.send); tick > 0 {
		s.stops = append(s.stops, every(tick, s.tick))
	}
	if o.age.most > 0 {
		s.endAfter(o.age.draw(), agedEnd)
	}
	if o.around.limit > 0 && !isExempt(s.method) {
		s.endAfter(o.around.limit, timeoutEnd)
	}
}

// tick looks for a call in flight that takes too long: see ClientStream.watch for how that is counted.
func (s *ServerStream) tick(tick time.Duration) (next time.Duration) {
	o, now := &s.server.options, s.ticks.Add(1)
	switch {
	case s.ending.Load() != nil:
		return 0
	case passed(waited(now, s.sending.Load()), tick, o.send):
		s.end(slowEnd(o.send))
		return 0
	case passed(waited(now, s.receiving.Load()), tick, o.idle):
		s.end(idleEnd(o.idle))
		return 0
	default:
		return tick
	}
}

// waited returns how many ticks have begun since a call did, zero if none is in flight.
func waited(now, began uint64) uint64 {
	if began == 0 {
		return 0
	}
	return now - began
}

// endAfter ends the stream after d, with what why makes of that.
func (s *ServerStream) endAfter(d time.Duration, why func(time.Duration) *EndedError) {
	timer := time.AfterFunc(d, func() { s.end(why(d)) })
	s.stops = append(s.stops, func() { timer.Stop() })
}
