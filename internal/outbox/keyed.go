package outbox

import (
	"container/list"

	"google.golang.org/grpc/mem"
)

// This file has sends that are state, and not events: of the messages with one key only the newest is kept. Each attempt gets all
// of them, in the order in which the keys were first sent. There is nothing to acknowledge.
//
// While an attempt is there, a message is sent, and then kept. While there is none, it is only kept. In between, in a replay, it
// waits: it must not come before the older one of its key, and must not be missed (invariant 13).

// state is the newest message of a key.
type state struct {
	key     string
	data    mem.BufferSlice
	size    int  // of both
	refused bool // Send has returned an error for it: if it is refused again, it is let go
}

// states are the newest messages of all keys.
type states struct {
	order  list.List // of *state, as the keys were first sent
	at     map[string]*list.Element
	size   int
	cursor *list.Element // what the replay sends next

	hand *state // what is on its way on an attempt, and becomes the state of its key when it is settled
	ends bool   // or it ends its key
}

// BeginKey is Begin for a message with a key; data are its bytes, which BeginKey takes over. With last the message ends its key.
// It does not wait for an attempt: if the verdict is Stored, the message is kept, and there is nothing to send. If it is Full,
// there are too many keys. If it is Go, the caller sends m.
func (o *Outbox[A]) BeginKey(m any, key string, last bool, data mem.BufferSlice) (Ticket[A], Verdict) {
	data = o.copies.fit(data) // it may copy: not while mu is held
	o.mu.Lock()
	defer o.mu.Unlock()
	in := &state{key: key, data: data, size: len(key) + data.Len()}
	v := o.verdictOnKey(in, last)
	for v == NotYet {
		o.await()
		v = o.verdictOnKey(in, last)
	}
	switch v { //nolint:exhaustive // the others refuse it
	case Stored:
		o.others++
		o.states.set(in, last)
		return Ticket[A]{}, v
	case Go:
		t := o.takeTurn(o.attempt, keyed)
		t.turn = o.turn.Add(1)
		data.Ref()
		o.inHand, o.number, o.resend = m, 0, data
		o.again.Store(data != nil)
		o.states.hand, o.states.ends = in, last
		return t, v
	default:
		data.Free()
		return Ticket[A]{}, v
	}
}

func (o *Outbox[A]) verdictOnKey(in *state, last bool) Verdict {
	var none A
	switch {
	case o.ended != nil:
		return Ended
	case o.closed:
		return Closed
	case o.busy:
		return NotYet
	case !last && !o.fits(in):
		return Full
	case o.attempt != none:
		return Go
	case o.newest != none: // a replay, or an attempt that is about to be lost or replaced
		return NotYet
	default:
		return Stored
	}
}

// fits reports whether there is room for in, in place of what its key has (invariant 8).
func (o *Outbox[A]) fits(in *state) bool {
	keys, size := o.states.order.Len()+1, o.states.size+in.size
	if e := o.states.at[in.key]; e != nil {
		keys, size = keys-1, size-stateOf(e).size
	}
	return keys <= o.config.Keys && size <= o.config.KeyBytes
}

// settleKey is Settle for a message with a key. What may have reached the wire is its state (invariant 34), and so is what never
// did because the attempt is dead: the next one gets it.
func (o *Outbox[A]) settleKey(t Ticket[A], said Said) Outcome {
	encoded := No
	if o.inHand == nil || o.coded == t.turn {
		encoded = Yes
	}
	outcome := outcomeOf(said, encoded, true)
	in := o.states.hand
	o.states.hand = nil
	switch outcome.Message {
	case TakenBack:
		in.data.Free()
	case Sent, Again, InDoubt:
		in.refused = outcome.Message == InDoubt
		o.states.set(in, o.states.ends)
	}
	o.free()
	return outcome
}

// NextState returns the next message of the replay that Opened has begun, with a reference to its data for the caller. It is
// what Next is for messages with numbers.
func (o *Outbox[A]) NextState() (k Kept, key string, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	e := o.states.cursor
	if e == nil {
		return Kept{}, "", false
	}
	o.states.cursor = e.Next()
	s := stateOf(e)
	s.data.Ref()
	return Kept{Data: s.data, Encoded: true, Refused: s.refused}, s.key, true
}

// DropState lets go of the message of a key.
func (o *Outbox[A]) DropState(key string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.states.remove(key)
}

// set makes in the newest message of its key, or ends the key.
func (s *states) set(in *state, last bool) {
	e := s.at[in.key]
	switch {
	case last:
		s.remove(in.key)
		in.data.Free()
	case e != nil: // in its place
		s.size += in.size - stateOf(e).size
		stateOf(e).data.Free()
		*stateOf(e) = *in
	default:
		if s.at == nil {
			s.at = make(map[string]*list.Element)
		}
		s.at[in.key] = s.order.PushBack(in)
		s.size += in.size
	}
}

func (s *states) remove(key string) {
	e := s.at[key]
	if e == nil {
		return
	}
	s.size -= stateOf(e).size
	stateOf(e).data.Free()
	s.order.Remove(e)
	delete(s.at, key)
}

func stateOf(e *list.Element) *state { return e.Value.(*state) } //nolint:errcheck,forcetypeassert // set puts nothing else there
