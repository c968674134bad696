package outbox

import "math"

// This file has messages that come from a source that can be read again. They have numbers and are not kept. When an attempt is
// lost, the caller pulls again what is not acknowledged: that is a new *pass*. So a number may be sent more than once, and the
// highest number ever sent, which is what an acknowledgement may come to (invariant 7), is not where the pass is.
//
// Nothing else with a number is sent while a source has messages that are not acknowledged: they would have to come after them, and
// only the source knows them.

// source is where an outbox is with one.
type source[A comparable] struct {
	active  bool   // somebody pulls
	pulled  uint64 // the highest number that came from a source
	floor   uint64 // numbers up to here did not: they are not pulled again
	on      A      // the attempt of the pass
	at      uint64 // the number of the last message of the pass
	closing bool   // the half-close was sent, or is being sent, at the end of the pass
	new     uint64 // how many messages came from a source, each counted once
	again   uint64 // how many of them were sent again

	before undo // where the source was before the message in hand
}

// undo is where a source was before a message.
type undo struct {
	at, pulled uint64
	isNew      bool
}

// sourceOwes reports whether the source has to send again what is not acknowledged, if the attempt is lost.
func (o *Outbox[A]) sourceOwes() bool { return o.source.pulled > o.acked }

// StartSource begins to pull, unless somebody does, and the verdict is then Sourced. FinishSource ends it.
func (o *Outbox[A]) StartSource() Verdict {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.ended != nil:
		return Ended
	case o.closed:
		return Closed
	case o.source.active:
		return Sourced
	}
	o.source.active = true
	if o.last > o.source.pulled {
		o.source.floor = o.last
	}
	return Go
}

// FinishSource ends what StartSource began. With closed, nothing more will be sent; if it returns true then, the caller sends the
// half-close on the attempt, and calls HalfClosed.
func (o *Outbox[A]) FinishSource(closed bool) (a A, now bool) {
	o.mu.Lock()
	o.source.active = false
	o.changed()
	o.mu.Unlock()
	if !closed {
		return a, false
	}
	return o.CloseSend()
}

// BeginPass waits for an attempt, and returns it and the number that the source has to go on after. If the attempt has had a pass, it
// goes on with that. With sent, the last pass came to the end of the source: if all of that is acknowledged, the verdict is
// Acked.
func (o *Outbox[A]) BeginPass(sent bool) (a A, after uint64, v Verdict) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var none A
	for {
		switch {
		case sent && !o.sourceOwes():
			return none, 0, Acked
		case o.ended != nil:
			return none, 0, Ended
		case o.closed:
			return none, 0, Closed
		case o.attempt != none:
			s := &o.source
			if s.on != o.attempt {
				s.on, s.at, s.closing = o.attempt, 0, false
				o.quiet = o.ticks
			}
			s.at = max(s.at, o.acked, s.floor)
			return s.on, s.at, Go
		}
		o.await()
	}
}

// BeginPulled is Begin for the next message of the pass on a. If a is gone, the verdict is Over: a new pass begins. It waits while
// there is an attempt, or until Interrupt is called.
func (o *Outbox[A]) BeginPulled(a A, seq uint64) (Ticket[A], Verdict) {
	o.mu.Lock()
	defer o.mu.Unlock()
	v := o.verdictOnPulled(a, seq)
	for v == NotYet {
		if o.urgent {
			o.urgent = false
			break
		}
		o.await()
		v = o.verdictOnPulled(a, seq)
	}
	if v != Go {
		return Ticket[A]{}, v
	}
	s := &o.source
	if !o.config.Explicit {
		seq = s.at + 1
	}
	if !o.owesNow() {
		o.quiet = o.ticks
	}
	t := o.takeTurn(a, pulled)
	t.before = o.last
	s.before = undo{at: s.at, pulled: s.pulled, isNew: seq > o.last}
	s.at, s.pulled, o.last = seq, max(s.pulled, seq), max(o.last, seq)
	if s.before.isNew {
		s.new++
	} else {
		s.again++
	}
	return t, Go
}

func (o *Outbox[A]) verdictOnPulled(a A, seq uint64) Verdict {
	switch {
	case o.ended != nil:
		return Ended
	case o.closed:
		return Closed
	case o.newest != a:
		return Over
	case o.config.Explicit && seq <= o.source.at:
		return OutOfOrder
	case !o.config.Explicit && o.source.at == math.MaxUint64:
		return Exhausted
	case o.busy || o.attempt != a: // paused, or about to be lost
		return NotYet
	default:
		return Go
	}
}

// settlePulled is Settle for a message of a pass. It can be sent again like one that is kept.
func (o *Outbox[A]) settlePulled(t Ticket[A], said Said) Outcome {
	outcome := outcomeOf(said, Unknown, true)
	if s := &o.source; outcome.Message == TakenBack {
		s.at, s.pulled, o.last = s.before.at, s.before.pulled, t.before
		o.acked = min(o.acked, o.last)
		if s.before.isNew {
			s.new--
		} else {
			s.again--
		}
	}
	o.free()
	return outcome
}

// ClosePass begins the half-close at the end of the pass on a. If it returns true, the caller sends it, and calls HalfClosed.
func (o *Outbox[A]) ClosePass(a A) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.newest == a && (o.busy || o.attempt != a) && o.ended == nil && !o.closed {
		o.await()
	}
	if o.newest != a || o.closed || o.closedOn == a || o.ended != nil {
		return false
	}
	o.source.closing = true
	o.busy, o.since = true, o.ticks
	return true
}

// PassEnds says that the source has come to its end. It returns where the pass is, and the highest number that the source is known to
// have. Short means that the source has fewer messages than were sent before, and the rest is not acknowledged.
func (o *Outbox[A]) PassEnds() (at, highest uint64, short bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := &o.source
	return s.at, s.pulled, s.on == o.newest && s.at < s.pulled && o.sourceOwes()
}

// AwaitPass waits until everything that was pulled is acknowledged, or the attempt of the pass is gone, or the stream has
// ended.
func (o *Outbox[A]) AwaitPass(a A) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.sourceOwes() && o.newest == a && o.ended == nil {
		o.flushes++
		o.await()
		o.flushes--
	}
}
