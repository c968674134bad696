package tap

import (
	"sync/atomic"
	"time"
)

// Counters count what handles decide. The zero value is ready; see [WithCounters]. A nil *Counters counts nothing.
type Counters struct {
	passed, exempt, unstarted, ended, failed atomic.Uint64
	running                                  atomic.Int64
	busy                                     atomic.Int64 // nanoseconds
	denied                                   [reasonCount]atomic.Uint64
}

// Stats is a snapshot of Counters. Its parts are read one after the other, not at one instant.
type Stats struct {
	Admitted uint64            // RPCs that passed
	Exempt   uint64            // RPCs that passed without being asked about; not in Admitted
	Refused  map[Reason]uint64 // RPCs refused, by what refused them; reasons that never occurred are left out

	// The fields below are counted by an Accountant only.

	Running   int64         // RPCs that passed and have not ended
	Unstarted uint64        // RPCs that passed and never began: cut off before, or of a method that nobody serves
	Ended     uint64        // RPCs that ended
	Failed    uint64        // RPCs that ended by the server's fault
	Time      time.Duration // sum of the durations of RPCs that ended, from admission on
}

// Stats returns a snapshot. It may be called at any time from any goroutine.
func (c *Counters) Stats() Stats {
	s := Stats{Refused: make(map[Reason]uint64)}
	if c == nil {
		return s
	}
	s.Admitted, s.Exempt = c.passed.Load(), c.exempt.Load()
	s.Running, s.Unstarted, s.Ended, s.Failed = c.running.Load(), c.unstarted.Load(), c.ended.Load(), c.failed.Load()
	s.Time = time.Duration(c.busy.Load())
	for reason := range c.denied {
		if n := c.denied[reason].Load(); n > 0 {
			s.Refused[Reason(reason)] = n
		}
	}
	return s
}

func (c *Counters) admitted() {
	if c != nil {
		c.passed.Add(1)
	}
}

func (c *Counters) exempted() {
	if c != nil {
		c.exempt.Add(1)
	}
}

func (c *Counters) refused(reason Reason) {
	if c != nil {
		c.denied[reason].Add(1)
	}
}

// finished counts the end of an RPC that was admitted. An Accountant always has counters.
func (c *Counters) finished(o outcome, took time.Duration) {
	c.running.Add(-1)
	if o == unrun {
		c.unstarted.Add(1)
		return
	}
	if o == fault {
		c.failed.Add(1)
	}
	c.busy.Add(int64(took))
	c.ended.Add(1)
}
