package stream

import (
	"fmt"

	"github.com/streamsafe/streamsafe/internal/outbox"
)

// replay sends again, in order, what the server has not acknowledged, and then opens a for the application's own
// sends: they wait until then, so what is newer comes after (invariant 13). It runs in the lifecycle goroutine, while
// the application receives already. Where a dies on the way, whoever finds out ends it.
func (s *ClientStream[Req, Res]) replay(a *attempt[Req, Res]) {
	if kept := s.outbox.Stats(); kept.Unacked+kept.Keys > 0 {
		s.events.publish(event{kind: eventReplaying, attempt: a.epoch, count: uint64(kept.Unacked + kept.Keys)})
	}
	alive := true
	s.calling(func() { // a codec, an interceptor, a callback
		alive = s.sendStates(a) && s.sendAllAgain(a)
		for alive && s.outbox.Attach(a, a.loss.Load() == nil) { // a half-close that was asked for earlier comes first
			s.halfClose(a)
		}
	})
}

// sendAllAgain sends what is kept on a. It reports whether a is still of use.
func (s *ClientStream[Req, Res]) sendAllAgain(a *attempt[Req, Res]) bool {
	var dropped []uint64
	defer func() { s.outbox.Discard(dropped) }()
	for seq := uint64(0); a.ctx.Err() == nil; {
		k, acked, ok := s.outbox.Next(seq)
		if !ok {
			return true
		}
		seq = k.Seq
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
func (s *ClientStream[Req, Res]) sendAgain(a *attempt[Req, Res], k outbox.Kept, acked uint64) (sent, ok bool) {
	m := new(Req)
	if err := s.codec.Unmarshal(k.Data, m); err != nil {
		k.Data.Free()
		a.fail(&loss{op: "replay", err: fmt.Errorf("decoding kept message %d: %w", k.Seq, err), final: ReasonResume})
		return false, false
	}
	known := k.Data
	if s.callbacks.Replay != nil {
		k.Data.Free()
		known = nil // the callback may have changed m
		if m = s.callbacks.Replay(m, acked); m == nil {
			return false, true
		}
	}
	if !s.outbox.Resume(m, k.Seq, known) {
		return false, false
	}
	g := guard{gone: func() { s.outbox.Resumed(outbox.Failed) }}
	defer g.check()
	err := a.send(m)
	g.returned = true
	said := a.said(err)
	switch s.outbox.Resumed(said) {
	case outbox.Lives:
		s.counts.replayed.Add(1)
		return true, true
	case outbox.Suspect:
		a.suspected()
		return false, false
	case outbox.GivenUp:
		if k.Refused && s.isLastWord(&loss{op: "replay", err: err, origin: originOf(err, fromCallback)}) {
			s.counts.rejected.Add(1)
			return false, true
		}
	case outbox.Aborted:
	}
	s.refuseReplay(a, said, err)
	return false, false
}

// refuseReplay ends a, whose message was refused though it had been sent before: a callback has made something bad of it, or
// an interceptor does not let it pass now.
func (s *ClientStream[Req, Res]) refuseReplay(a *attempt[Req, Res], said outbox.Said, err error) {
	l := &loss{op: "replay", err: err, origin: originOf(err, fromCallback)}
	if said == outbox.Rejected || s.isLastWord(l) {
		l.final = ReasonResume
		a.abortedBy(l)
	}
	a.fail(l)
}
