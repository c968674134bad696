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
	alive := true
	s.calling(func() { // a codec, an interceptor, a callback
		alive = s.sendAllAgain(a)
		if alive {
			s.outbox.attach(a)
		}
	})
}

// sendAllAgain sends what is kept on a. It reports whether a is still of use.
func (s *ClientStream[Req, Res]) sendAllAgain(a *attempt[Req, Res]) bool {
	var dropped []uint64
	defer func() { s.outbox.discard(dropped) }()
	for seq := uint64(0); a.ctx.Err() == nil; {
		k, acked, ok := s.outbox.next(seq)
		if !ok {
			return true
		}
		seq = k.seq
		sent, ok := s.sendAgain(a, k, acked)
		if !ok {
			return false
		}
		if !sent {
			dropped = append(dropped, seq)
		}
	}
	return false
}

// sendAgain sends k on a; data in k is the caller's own reference. It reports whether k was sent, and not dropped by the
// Replay callback, and whether a is still of use.
func (s *ClientStream[Req, Res]) sendAgain(a *attempt[Req, Res], k keptMessage, acked uint64) (sent, ok bool) {
	m := new(Req)
	if err := s.outbox.codec.Unmarshal(k.data, m); err != nil {
		k.data.Free()
		a.fail(&loss{op: "replay", err: fmt.Errorf("decoding kept message %d: %w", k.seq, err), final: ReasonResume})
		return false, false
	}
	known := k.data
	if s.callbacks.Replay != nil {
		k.data.Free()
		known = nil // the callback may have changed m
		if m = s.callbacks.Replay(m, acked); m == nil {
			return false, true
		}
	}
	s.outbox.resume(m, k.seq, known)
	defer s.outbox.resumed()
	switch err := a.send(m); {
	case err == nil:
		s.counts.replayed.Add(1)
		return true, true
	case !a.refuses(err):
		return false, false
	case k.refused && !neverSent(err) && s.isLastWord(&loss{op: "replay", err: err}):
		return false, true
	default:
		s.refuseReplay(a, err)
		return false, false
	}
}

// refuseReplay ends a, where a message was refused that had been sent before: a callback has made something bad of it, or
// an interceptor does not let it pass now.
func (s *ClientStream[Req, Res]) refuseReplay(a *attempt[Req, Res], err error) {
	l := &loss{op: "replay", err: err}
	if neverSent(err) || s.isLastWord(l) {
		l.final = ReasonResume
		a.aborted.Store(l)
	}
	a.fail(l)
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

// discard drops kept messages, in order: the server has them, the Replay callback says.
func (o *outbox[Req, Res]) discard(dropped []uint64) {
	if len(dropped) == 0 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for range o.kept.len() { // once around
		k := o.kept.popFront()
		for len(dropped) > 0 && dropped[0] < k.seq { // acknowledged since
			dropped = dropped[1:]
		}
		if len(dropped) > 0 && dropped[0] == k.seq {
			o.drop(k)
		} else {
			o.kept.push(k)
		}
	}
	o.wake.Broadcast()
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
	returned := false
	defer func() {
		if !returned { // an interceptor panics, or ends the goroutine
			a.fail(&loss{op: "send", err: errGoroutineEnded, final: ReasonResume})
		}
		o.mu.Lock()
		o.settle()
	}()
	_ = a.stream.CloseSend() // grpc: always nil; the status is Recv's to tell
	returned = true
}
