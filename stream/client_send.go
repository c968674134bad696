package stream

import (
	"errors"
	"fmt"

	"github.com/streamsafe/streamsafe/internal/outbox"
	"github.com/streamsafe/streamsafe/internal/permit"
)

// Send sends m. It waits while the stream is not attached, while flow control of the transport stops m, and, with
// WithReplay, while the replay buffer is full.
//
// A nil error means that the stream will do with m what the options say: with WithReplay it keeps m until the server
// acknowledges it. It does not mean that the server has m; see [ClientStream.Flush]. The application may change m and use
// it again after Send has returned.
//
// If the server has ended the stream, Send returns io.EOF, and Recv returns how. After any other end it returns the
// [*Error] of the end. While the stream goes on (State is not Closed), Send returns an [*Error] about m alone:
//
//   - ReasonMessage, ReasonWindowFull: m was not sent. If grpc rejected m for its size or its encoding, grpc has also
//     aborted the attempt. The stream then goes on as after any other loss, or ends.
//   - ReasonSendsInDoubt: an interceptor returned an error, and the server may have m. m counts as sent: do not send it
//     again. With WithReplay it is sent again until the server acknowledges it. If the interceptor rejects it again, the
//     message is dropped.
//
// If the application stops sending after such an error, it must call CloseSend or Close. Otherwise Recv may wait for ever.
//
// Interceptors see m once on each attempt on which it is sent. An interceptor that changes messages must change a copy. It
// must return io.EOF unchanged, because io.EOF from grpc means that the attempt is dead.
func (s *ClientStream[Req, Res]) Send(m *Req) error {
	if m == nil {
		return s.refusal(refused(errors.New("the message is nil")))
	}
	if s.sends.none() {
		return s.send(m, nil, nil, nil)
	}
	return s.sendUnderPolicies(m, nil)
}

// manner is how a message is sent that Send does not send.
type manner[Req, Res any] struct {
	pass    *attempt[Req, Res] // by SendFrom, in the pass on this attempt; nil for others
	receipt *Receipt           // by SendTracked; nil for others
}

func (h *manner[Req, Res]) isPulled() bool { return h != nil && h.pass != nil }

// begins says that the message is in hand, and has its number.
func (h *manner[Req, Res]) begins(in *outbox.Outbox[*attempt[Req, Res]]) {
	if h != nil {
		h.receipt.of = in.Track()
	}
}

// again says that it is not, and gets another number.
func (h *manner[Req, Res]) again() {
	if h != nil {
		h.receipt.of = nil
	}
}

// send is Send without policies, or what how says if it is not nil. held hears of attempts that break. If cut is not nil and its
// execution is over before m has its turn, the error is errAnotherTry.
func (s *ClientStream[Req, Res]) send(m *Req, how *manner[Req, Res], held *permit.Held, cut *cutter[Req, Res]) error {
	if how.isPulled() {
		return s.sendPulled(m, how.pass, held, cut)
	}
	if key, last := s.keyOf(m); key != "" {
		return s.sendState(m, key, last, cut)
	}
	var seq uint64
	if s.callbacks.Sequence != nil {
		seq = s.callbacks.Sequence(m)
	}
	var before *attempt[Req, Res] // m was on it, and it is dead
	for {
		t, verdict := s.outbox.Begin(m, seq, false)
		if verdict != outbox.Go {
			t, verdict = s.awaitTurn(m, seq, verdict, cut)
		}
		if before != nil {
			s.faultIn(before, held)
		}
		if verdict != outbox.Go {
			return s.refusal(s.notSent(verdict, seq))
		}
		if t.Watch {
			s.watchSends()
		}
		how.begins(s.outbox)
		said, err := s.sendOn(t, m, cut)
		outcome, missed := s.outbox.Settle(t, said)
		if missed {
			if err := s.keepMissed(m, t); err != nil {
				return err
			}
		}
		s.actOn(t.Attempt, outcome.Attempt, err)
		switch outcome.Message {
		case outbox.Sent:
			return nil
		case outbox.InDoubt:
			return s.refusal(inDoubt(err))
		case outbox.TakenBack:
			return s.refusal(refused(err))
		case outbox.Again: // on the next attempt
			before = t.Attempt
			how.again()
		}
	}
}

// awaitTurn is Begin for a message that has to wait.
func (s *ClientStream[Req, Res]) awaitTurn(
	m *Req, seq uint64, verdict outbox.Verdict, cut *cutter[Req, Res],
) (outbox.Ticket[*attempt[Req, Res]], outbox.Verdict) {
	switch verdict {
	case outbox.Full:
		w := s.outbox.Stats()
		s.events.publish(event{kind: eventWindowFull, count: uint64(w.Unacked), bytes: w.UnackedSize}) //nolint:gosec // not negative
	case outbox.NotYet:
	case outbox.Go, outbox.Ended, outbox.Closed, outbox.OutOfOrder, outbox.Exhausted, outbox.Over,
		outbox.Stored, outbox.Sourced, outbox.Acked:
		return outbox.Ticket[*attempt[Req, Res]]{}, verdict
	}
	if s.outbox.Watch() {
		s.watchSends()
	}
	return s.waitForTurn(m, seq, cut)
}

// notSent returns the error of a message that did not get its turn.
func (s *ClientStream[Req, Res]) notSent(verdict outbox.Verdict, seq uint64) error {
	w := s.outbox.Stats()
	switch verdict {
	case outbox.Ended:
		return s.outbox.Err()
	case outbox.Closed:
		if s.kind == serverStreaming {
			return refused(errOneRequest)
		}
		return refused(errors.New("Send after CloseSend"))
	case outbox.OutOfOrder:
		return refused(fmt.Errorf("sequence number %d does not follow %d", seq, w.LastSeq))
	case outbox.Exhausted:
		return refused(fmt.Errorf("no sequence number follows %d", w.LastSeq))
	case outbox.Full:
		return &Error{Op: "send", Reason: ReasonWindowFull, Cause: fmt.Errorf(
			"%d messages of %d bytes are not acknowledged", w.Unacked, w.UnackedSize)}
	case outbox.Over:
		return refused(ErrAttemptOver)
	case outbox.NotYet:
		return errAnotherTry
	case outbox.Sourced:
		return refused(errSourced)
	case outbox.Go, outbox.Stored, outbox.Acked:
		return nil
	default:
		return nil
	}
}

// sendOn sends m on the ticket's attempt, and says what was said of that. cut may give the attempt up meanwhile; it may be nil.
func (s *ClientStream[Req, Res]) sendOn(
	t outbox.Ticket[*attempt[Req, Res]], m *Req, cut *cutter[Req, Res],
) (said outbox.Said, err error) {
	a := t.Attempt
	g := guard{gone: func() {
		a.fail(&loss{op: "send", err: errGoroutineEnded, final: ReasonResume})
		s.outbox.Forget(t)
	}}
	defer g.check()
	cut.sends(a)
	err = a.send(m)
	cut.leaves()
	g.returned = true
	said = a.said(err)
	if said == outbox.Rejected {
		a.abortedBy(&loss{op: "send", err: err, origin: fromStream}) // before the message is settled: lose looks after that
	}
	return said, err
}

// actOn does to a what the table of package outbox says.
func (s *ClientStream[Req, Res]) actOn(a *attempt[Req, Res], becomes outbox.Attempt, err error) {
	switch becomes {
	case outbox.Lives:
	case outbox.Suspect:
		s.outbox.Abandon(a)
		a.suspected()
	case outbox.Aborted:
		a.suspected() // it may have ended before that, and then the server's word counts
	case outbox.GivenUp:
		a.fail(&loss{op: "send", err: err, origin: fromStream})
	}
}

// keepMissed keeps m, which the codec has not seen: an interceptor has sent another message in its place, or none. If it
// cannot be encoded, the stream cannot answer for it, and ends.
func (s *ClientStream[Req, Res]) keepMissed(m *Req, t outbox.Ticket[*attempt[Req, Res]]) error {
	data, err := s.codec.Marshal(m)
	s.outbox.Complete(m, t, data, err == nil)
	if err == nil {
		return nil
	}
	err = fmt.Errorf("keeping a message that an interceptor has replaced: %w", err)
	t.Attempt.fail(&loss{op: "send", err: err, final: ReasonSendsInDoubt})
	return s.refusal(&Error{Op: "send", Reason: ReasonSendsInDoubt, Cause: withoutEOF(err)})
}

// refused is the error of one message that was not sent, and that breaks nothing.
func refused(cause error) error {
	return &Error{Op: "send", Reason: ReasonMessage, Cause: cause}
}

// inDoubt is the error of one message that an interceptor has failed on, after grpc may have had it.
func inDoubt(err error) error {
	return &Error{Op: "send", Reason: ReasonSendsInDoubt, Cause: fmt.Errorf(
		"the message may have been sent, and counts as sent: %w", withoutEOF(err))}
}

// refusal completes an error that is about one message.
func (s *ClientStream[Req, Res]) refusal(err error) error {
	if e, ok := errors.AsType[*Error](err); ok && e.Attempts == 0 {
		e.Attempts = s.counts.attempts.Load()
	}
	return err
}

// SendMsg is Send for a message of type *Req. For another type it returns an error with ReasonMessage.
func (s *ClientStream[Req, Res]) SendMsg(m any) error {
	req, ok := m.(*Req)
	if !ok {
		return s.refusal(refused(fmt.Errorf("the message is a %T, not a %T", m, req)))
	}
	return s.Send(req)
}

// CloseSend says that the application sends nothing more. The stream remembers it, and repeats it on each new attempt
// after the messages. It always returns nil, and may be called again.
func (s *ClientStream[Req, Res]) CloseSend() error {
	if a, now := s.outbox.CloseSend(); now {
		s.halfClose(a)
	}
	return nil
}

// halfClose sends the half-close on a.
func (s *ClientStream[Req, Res]) halfClose(a *attempt[Req, Res]) {
	defer s.outbox.HalfClosed(a)
	g := guard{gone: func() { a.fail(&loss{op: "send", err: errGoroutineEnded, final: ReasonResume}) }}
	defer g.check()
	_ = a.stream.CloseSend() // grpc: always nil; the status is Recv's to tell
	g.returned = true
}
