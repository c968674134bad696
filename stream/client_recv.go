package stream

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/streamsafe/streamsafe/internal/inbox"
	"github.com/streamsafe/streamsafe/internal/permit"
)

// Recv returns the next message for the application. It waits until there is one, across outages.
//
// After the end of the stream, Recv returns the messages that have arrived, and then always the same error. It is io.EOF if
// the server ended the stream with OK, and WithReplay keeps no unacknowledged message. Otherwise it is an [*Error]. After
// Close, when the context is done, and if another stream has acquired the key in the store, Recv returns the error at once.
func (s *ClientStream[Req, Res]) Recv() (*Res, error) { return s.receivePolitely(nil) }

// receivePolitely is receive under the policies for messages, if there are any.
func (s *ClientStream[Req, Res]) receivePolitely(into *Res) (*Res, error) {
	if s.recvs.none() {
		return s.receive(into, nil, nil)
	}
	return s.recvUnderPolicies(into)
}

// receive is Recv without policies, into a message of its own or into the one given. held hears of attempts that break. If cut is
// not nil and its execution is over, the error is errAnotherTry.
func (s *ClientStream[Req, Res]) receive(into *Res, held *permit.Held, cut *cutter[Req, Res]) (*Res, error) {
	for {
		m, a, err := s.inbox.Begin()
		switch {
		case err != nil:
			if !isAbrupt(err) {
				_ = s.flushed() // Close tells
			}
			return nil, err
		case m != nil:
			s.awaitEnd()
			return m, nil
		}
		if !cut.enters(a) && s.ctx.Err() == nil { // over while there was no attempt
			cut.leaves()
			s.inbox.Yield()
			return nil, errAnotherTry
		}
		m, mine, alive := s.receiveFrom(a, into, false)
		cut.leaves()
		if mine {
			s.awaitEnd()
			return m, nil
		}
		if !alive {
			s.faultIn(a, held)
		}
		if cut.expired() && s.ctx.Err() == nil {
			return nil, errAnotherTry
		}
		into = nil // a codec that does not reset messages would leave something in it
	}
}

// receiveFrom receives one message from a, which the caller is busy with, and accounts for it. It reports whether the message
// is the application's, and whether a may have more. With queue the message is put where Recv finds it.
func (s *ClientStream[Req, Res]) receiveFrom(a *attempt[Req, Res], into *Res, queue bool) (m *Res, mine, alive bool) {
	g := guard{gone: func() { // nobody is receiving any more
		a.fail(&loss{op: "recv", err: errGoroutineEnded, final: ReasonResume})
		s.inbox.Refuse(a, false)
	}}
	defer g.check()
	m, err := a.recv(into)
	if err == nil {
		mine, alive = s.take(a, m, queue)
	} else {
		a.recvFailed(err)
		s.inbox.Refuse(a, false)
	}
	g.returned = true
	return m, mine, alive
}

// take accounts for m, which a has received. It reports whether m is the application's, now, and whether more may be taken
// from a.
func (s *ClientStream[Req, Res]) take(a *attempt[Req, Res], m *Res, queue bool) (mine, alive bool) {
	if s.kind == clientStreaming {
		return s.takeAnswer(a, m, queue)
	}
	if told := s.callbacks.Err; told != nil {
		switch err := told(m); {
		case err == nil:
		case errors.Is(err, Rotate):
			a.announces(err)
		default:
			return s.takeNothing(a, &loss{op: "recv", err: err, origin: originOf(err, fromCallback)})
		}
	}
	if acked := s.callbacks.Acked; acked != nil {
		if seq, ok := acked(m); ok && !s.outbox.Acknowledge(seq) {
			return s.takeNothing(a, s.ackTooHigh("recv", seq))
		}
	}
	in := inbox.Arrival[Res]{Message: m, Epoch: a.epoch}
	if at := s.callbacks.Checkpoint; at != nil {
		in.Position, in.HasPosition = at(m)
		in.HasPosition = in.HasPosition && (in.Position.Seq != 0 || !in.Position.IsZero())
	}
	if control := s.callbacks.Control; control != nil {
		in.Control = control(m)
	}
	switch {
	case queue:
		in.Size = sizeOf(m)
	case s.options.holds:
		in.Size = int(a.codec.received.Load())
	}
	mine, report := s.inbox.Arrived(a, &in, queue)
	if report != nil {
		return mine, s.settle(a, report)
	}
	return mine, true
}

// takeNothing ends a, whose message is not taken in.
func (s *ClientStream[Req, Res]) takeNothing(a *attempt[Req, Res], l *loss) (mine, alive bool) {
	a.fail(l)
	s.inbox.Refuse(a, true)
	return false, false
}

// settle acts on what the inbox reports of a message: it tells the observers, and ends a if it has to. It reports whether more
// may be taken from a. Only then the inbox may let go of a, or Detached would overtake what led to it.
func (s *ClientStream[Req, Res]) settle(a *attempt[Req, Res], r *inbox.Report) (alive bool) {
	switch r.Kind {
	case inbox.Repeated:
		s.events.publish(event{kind: eventDuplicate, count: r.Count, position: r.Got})
	case inbox.Overflow:
		s.events.publish(event{kind: eventHeldOverflow, count: r.Count, bytes: r.Size})
	case inbox.Gap:
		s.events.publish(event{kind: eventGap, cause: gapError{have: r.Have.Seq, got: r.Got.Seq}})
	case inbox.OtherLineage, inbox.Exhausted, inbox.Bookmark, inbox.Silent, inbox.Next, inbox.Held:
	}
	if l := lossOf(r); l != nil {
		a.fail(l)
	}
	broken := r.Breaks() // r is the next one's after Settle
	s.inbox.Settle(a, broken)
	return !broken
}

// lossOf returns the end of an attempt that brought what must not be taken in, nil if it goes on.
func lossOf(r *inbox.Report) *loss {
	if !r.Breaks() {
		return nil
	}
	switch r.Kind {
	case inbox.OtherLineage:
		return &loss{op: "recv", err: &lineageError{have: r.Have.Lineage, got: r.Got.Lineage}, final: ReasonPositionLost}
	case inbox.Exhausted:
		return noneFollows("recv", r.Got.Seq)
	case inbox.Overflow:
		return &loss{op: "recv", final: ReasonHeldOverflow, err: fmt.Errorf(
			"%d messages of %d bytes came without a position", r.Count, r.Size)}
	case inbox.Gap:
		l := &loss{op: "recv", err: gapError{have: r.Have.Seq, got: r.Got.Seq}, origin: fromStream}
		if r.Again {
			l.final = ReasonGap
		}
		return l
	case inbox.Repeated, inbox.Bookmark, inbox.Silent, inbox.Next, inbox.Held:
		return nil
	default:
		return nil
	}
}

// keep takes m in, which Resume has received from a: Recv finds it later. It reports whether more may be taken from a.
func (s *ClientStream[Req, Res]) keep(a *attempt[Req, Res], m *Res) (alive bool) {
	s.calling(func() { _, alive = s.take(a, m, true) })
	return alive
}

// RecvMsg is Recv into a message of type *Res. For another type, and for nil, it returns an error with ReasonMessage.
func (s *ClientStream[Req, Res]) RecvMsg(m any) error {
	res, ok := m.(*Res)
	if !ok || res == nil {
		return s.refusal(&Error{Op: "recv", Reason: ReasonMessage, Cause: fmt.Errorf("the message is a %T, not a %T", m, res)})
	}
	into := res
	if s.options.holds {
		into = nil // it may have to wait
	}
	got, err := s.receivePolitely(into)
	if err == nil && got != res {
		copyMessage(res, got)
	}
	return err
}

// copyMessage makes dst equal to src.
func copyMessage[M any](dst, src *M) {
	from, ok := any(src).(proto.Message)
	if !ok {
		*dst = *src
		return
	}
	if to, ok := any(dst).(proto.Message); ok {
		proto.Reset(to)
		proto.Merge(to, from)
	}
}

// CloseAndRecv calls CloseSend and then Recv. It is for methods that answer once.
func (s *ClientStream[Req, Res]) CloseAndRecv() (*Res, error) {
	_ = s.CloseSend()
	return s.Recv()
}

// noneFollows is the end of an attempt whose server uses the highest number that there is.
func noneFollows(op string, seq uint64) *loss {
	return &loss{op: op, final: ReasonProtocol, err: fmt.Errorf("the server uses sequence number %d, and none follows", seq)}
}
