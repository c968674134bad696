package stream

import (
	"sync/atomic"
	"time"
)

// This file says when a wait makes the connection suspect (invariants 22 and 36). A limit that passes says only that this
// stream got nothing. If bytes have come on the connection since the wait began, it is alive, and the handler is stuck. If not,
// it is asked for a sign of life, and closed if there is none.

// How long a connection has to answer: a quarter of the limit, at least and at most this.
const (
	leastProbe = 250 * time.Millisecond
	mostProbe  = 2 * time.Second
)

// probeLimit returns how long a connection has to answer if that limit passes.
func probeLimit(limit time.Duration) time.Duration { return min(max(limit/4, leastProbe), mostProbe) }

// doubt is what the timer of a direction thinks of the connection. It is owned by that timer.
type doubt struct {
	route  *route       // nil: the connection is not known, and a limit that passes is enough
	reads  uint64       // of the socket at the first tick of the wait
	answer *atomic.Bool // true when the connection is not dead, or nobody knows; nil: it was not asked
}

func newDoubt(r *route) *doubt {
	if r == nil || r.socket == nil {
		return &doubt{}
	}
	return &doubt{route: r}
}

// begins says that there is no wait, or that a new one has begun.
func (d *doubt) begins() {
	if d.route != nil {
		d.reads, d.answer = d.route.socket.Reads(), nil
	}
}

// over reports whether the attempt is to be given up for a wait, at a tick. If the connection is found to be dead, dead is called
// from another goroutine, just before it is closed.
//
// The connection is asked at the tick before the limit has passed for sure, if the answer cannot be due before that. So the probe
// makes no difference to when a stream is given up, except where it finds a dead connection.
func (d *doubt) over(w wait, tick time.Duration, dead func()) bool {
	over := passed(w.ticks, tick, w.limit)
	switch {
	case d.route == nil:
		return over
	case w.limit <= 0 || w.ticks <= 1:
		d.begins()
		return false
	case d.route.socket.Reads() != d.reads:
		return over
	case d.answer != nil:
		return over && d.answer.Load()
	}
	within := probeLimit(w.limit)
	if over || within > tick && passed(w.ticks+1, tick, w.limit) {
		d.answer = d.route.suspect(within, dead)
	}
	return false
}

// suspect asks whether the connection is dead. If it is, dead is called; otherwise the answer becomes true.
func (r *route) suspect(within time.Duration, dead func()) (answer *atomic.Bool) {
	answer = new(atomic.Bool)
	r.socket.Suspect(r.ctx, r.probe, within, func(isDead bool) {
		if isDead {
			dead()
		}
		answer.Store(true)
	})
	return answer
}
