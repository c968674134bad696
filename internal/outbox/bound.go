package outbox

// This file sends what belongs to one attempt: an acknowledgement, a heartbeat, the answer to a nonce. Such a message has no
// number, is not kept, and is in no doubt when the attempt is lost.

// kind is what the message of a ticket is.
type kind uint8

const (
	numbered kind = iota // it has a number, and is kept with replay
	bound                // it belongs to one attempt
	keyed                // it is the state of its key
	pulled               // it comes from a source, and has a number
)

// BeginOn is Begin for a message that belongs to a. It need not wait for a replay: it may go between two messages of it. Nor does it
// wait for room. If a is gone, the verdict is Over.
func (o *Outbox[A]) BeginOn(a A, wait bool) (Ticket[A], Verdict) {
	o.mu.Lock()
	defer o.mu.Unlock()
	v := o.verdictOn(a)
	for wait && v == NotYet {
		o.asking++
		o.await()
		o.asking--
		v = o.verdictOn(a)
	}
	if v != Go {
		if o.granted {
			o.free() // for another one, if there is
		}
		return Ticket[A]{}, v
	}
	o.granted = false
	return o.takeTurn(a, bound), Go
}

func (o *Outbox[A]) verdictOn(a A) Verdict {
	switch {
	case o.ended != nil:
		return Ended
	case o.newest != a:
		return Over
	case o.closed || o.closedOn == a:
		return Closed
	case o.busy && !o.granted:
		return NotYet
	default:
		return Go
	}
}

// takeTurn makes the caller busy with a message that has no number of its own.
func (o *Outbox[A]) takeTurn(a A, of kind) Ticket[A] {
	t := Ticket[A]{Attempt: a, Manner: Manner{Watch: !o.watched, kind: of}}
	o.busy, o.since, o.watched = true, o.ticks, true
	o.others++
	return t
}

// settleOther is Settle for the other kinds of messages.
func (o *Outbox[A]) settleOther(t Ticket[A], said Said) Outcome {
	switch t.kind { //nolint:exhaustive // the others have no more than an outcome
	case keyed:
		return o.settleKey(t, said)
	case pulled:
		return o.settlePulled(t, said)
	}
	outcome := outcomeOf(said, Unknown, false)
	o.free()
	return outcome
}
