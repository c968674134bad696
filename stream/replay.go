package stream

import (
	"fmt"

	"google.golang.org/grpc/mem"
)

// replay sends again, in order, what the server has not acknowledged, and then opens a for the application's own
// sends: they wait until then, so what is newer comes after (invariant 13). It runs in the lifecycle goroutine, while
// the application receives already. Where a dies on the way, whoever finds out ends it.
func (s *ClientStream[Req, Res]) replay(a *attempt[Req, Res]) {
	if n := s.outbox.unacknowledged(); n > 0 {
		s.events.publish(event{kind: eventReplaying, attempt: a.epoch, count: uint64(n)})
	}
	for seq := uint64(0); ; {
		k, acked, ok := s.outbox.next(seq)
		if !ok {
			break
		}
		seq = k.seq
		if !s.sendAgain(a, k, acked) {
			return
		}
	}
	s.outbox.attach(a)
}

// sendAgain sends k on a; data in k is the caller's own reference. It reports whether a is still of use.
func (s *ClientStream[Req, Res]) sendAgain(a *attempt[Req, Res], k keptMessage, acked uint64) bool {
	m := new(Req)
	if err := s.outbox.codec.Unmarshal(k.data, m); err != nil {
		k.data.Free()
		a.fail(&loss{op: "replay", err: fmt.Errorf("decoding kept message %d: %w", k.seq, err), final: ReasonResume})
		return false
	}
	known := k.data
	if s.callbacks.Replay != nil {
		k.data.Free()
		known = nil // the callback may have changed m
		s.calling(func() { m = s.callbacks.Replay(m, acked) })
		if m == nil {
			s.outbox.discard(k.seq)
			return true
		}
	}
	s.outbox.resume(m, k.seq, known)
	err := a.send(m)
	s.outbox.resumed()
	switch {
	case err == nil:
		s.counts.replayed.Add(1)
		return true
	case a.diedOf(err):
		return false
	default:
		a.fail(&loss{op: "replay", err: err, final: ReasonResume}) // it was sent before: what a callback has made of it is bad
		return false
	}
}

// unacknowledged returns the number of messages kept.
func (o *outbox[Req, Res]) unacknowledged() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.kept.len()
}

// next returns the first kept message after seq, with a reference to its data for the caller.
func (o *outbox[Req, Res]) next(seq uint64) (k keptMessage, acked uint64, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	found := o.after(seq)
	if found == nil {
		return keptMessage{}, o.acked, false
	}
	found.data.Ref()
	return *found, o.acked, true
}

// resume notes that the kept message with this number is on its way again, as m; data are its bytes if they are known,
// and a reference that the outbox takes over.
func (o *outbox[Req, Res]) resume(m *Req, seq uint64, data mem.BufferSlice) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.busy, o.since = true, o.ticks
	o.inHand, o.number, o.resend = m, seq, data
	o.turn.Add(1)
	o.again.Store(data != nil)
}

// resumed ends what resume began.
func (o *outbox[Req, Res]) resumed() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.settle()
}

// discard drops one kept message: the server has it, the Replay callback says.
func (o *outbox[Req, Res]) discard(seq uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.kept.len() > 0 && o.kept.front().seq == seq {
		o.drop(o.kept.popFront())
	} else {
		o.dropFromWithin(seq)
	}
	o.full = o.full && o.isFull()
	o.wake.Broadcast()
}

func (o *outbox[Req, Res]) dropFromWithin(seq uint64) {
	for range o.kept.len() { // once around, without the one
		if k := o.kept.popFront(); k.seq == seq {
			o.drop(k)
		} else {
			o.kept.push(k)
		}
	}
}

// attach lets the application send on a, after a half-close that was asked for earlier (invariant 15).
func (o *outbox[Req, Res]) attach(a *attempt[Req, Res]) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		o.halfClose(a)
	}
	if a.loss.Load() == nil {
		o.attempt = a
		o.wake.Broadcast()
	}
}

// closeSend remembers that the application has nothing more to send, and tells the attempt, if there is one.
func (o *outbox[Req, Res]) closeSend() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	for o.busy && o.attempt != nil && o.ended == nil {
		o.wake.Wait()
	}
	o.closed = true
	if o.attempt != nil {
		o.halfClose(o.attempt)
	}
}

// halfClose calls CloseSend of a. The caller holds mu, which is let go for the call.
func (o *outbox[Req, Res]) halfClose(a *attempt[Req, Res]) {
	o.busy, o.since = true, o.ticks
	o.mu.Unlock()
	_ = a.stream.CloseSend() // grpc: always nil; the status is Recv's to tell
	o.mu.Lock()
	o.settle()
}
