package stream

import (
	"errors"
	"fmt"
	"iter"

	"github.com/streamsafe/streamsafe/internal/outbox"
	"github.com/streamsafe/streamsafe/internal/permit"
)

// SendFromOption is an option of [ClientStream.SendFrom].
type SendFromOption func(*sendFromOptions)

type sendFromOptions struct{ open bool }

// WithoutCloseSend makes SendFrom leave the sending side open at the end of the source. It needs Callbacks.Acked. Default: SendFrom
// half-closes, as CloseSend does.
func WithoutCloseSend() SendFromOption { return func(o *sendFromOptions) { o.open = true } }

// SendFrom sends the messages of a source that can be read again: a file, a log, a table. Nothing is kept, so an upload of any size
// needs no replay buffer. source returns the messages after the one with that number; the first message of all has number 1. After
// a break the stream pulls again from the last acknowledged message: it calls source with that number. If the server has
// acknowledged nothing, that is the beginning. The numbers do not change. See Callbacks.Sequence, and put the number into the
// message: the server may see messages twice.
//
// SendFrom half-closes at the end of the source; see [WithoutCloseSend]. It returns nil when everything is acknowledged, and not
// before, because a break after that would need the source again. Acknowledgements are those of Callbacks.Acked and of
// [Resumption.Acknowledge]. With [WithOKAcknowledges], and for a client-streaming method, OK from the server acknowledges
// everything. If nobody receives while SendFrom waits, the stream receives by itself, as for Flush.
//
// Otherwise SendFrom returns an [*Error], and never io.EOF:
//
//   - ReasonResume: the source returned an error. Or it has fewer messages now than were sent before.
//   - ReasonMessage, ReasonSendsInDoubt and denials of policies, as from Send.
//   - ReasonUnacked: the server ended the stream with OK, and has not acknowledged everything, or before the end of the source.
//   - ReasonOptions: neither Callbacks.Acked nor WithOKAcknowledges is given, or WithReplay is.
//   - The reason for which the stream ended.
//
// After an error of the source or of a message, nothing is half-closed and the stream goes on. Call SendFrom again to continue:
// on the same attempt it pulls after the last message that was sent, on another one after the last that was acknowledged. Until
// everything is acknowledged, Send returns an error with ReasonMessage, and so does Send while SendFrom runs. SendOn, and Send with a
// key, may be called at any time. A message that Send has sent before is not pulled again, and is as much in doubt as always: let
// Resume send what an upload begins with.
//
// The source is read in the goroutine of SendFrom. If the attempt is lost, the iteration is stopped at the next message. A source
// that waits for new messages is not interrupted, so it should not wait for long: let it end, and call SendFrom again when there is
// more. The rate is that of the transport. If the source panics, SendFrom does.
func (s *ClientStream[Req, Res]) SendFrom(source func(after uint64) iter.Seq2[*Req, error], opts ...SendFromOption) error {
	var o sendFromOptions
	for _, opt := range opts {
		if opt == nil {
			return s.refusal(&Error{Op: "send", Reason: ReasonOptions, Cause: errors.New("an option of SendFrom is nil")})
		}
		opt(&o)
	}
	if err := s.maySendFrom(source == nil, o); err != nil {
		return s.refusal(&Error{Op: "send", Reason: ReasonOptions, Cause: err})
	}
	if verdict := s.outbox.StartSource(); verdict != outbox.Go {
		return s.refusal(s.notSent(verdict, 0))
	}
	done := false
	defer func() { // the source may end the goroutine
		if a, now := s.outbox.FinishSource(done && !o.open); now {
			s.halfClose(a)
		}
	}()
	err := s.sendPasses(source, o)
	done = err == nil
	return err
}

// sendPasses reads a source once for each attempt, until everything is acknowledged.
func (s *ClientStream[Req, Res]) sendPasses(source func(after uint64) iter.Seq2[*Req, error], o sendFromOptions) error {
	for sent := false; ; {
		a, after, verdict := s.outbox.BeginPass(sent)
		switch verdict { //nolint:exhaustive // the others refuse it
		case outbox.Go:
		case outbox.Acked:
			return nil
		case outbox.Ended:
			return s.endOfSource(sent)
		default:
			return s.refusal(s.notSent(verdict, 0))
		}
		ended, err := s.pull(&manner[Req, Res]{pass: a}, source(after))
		if err != nil {
			return s.refusal(err)
		}
		if !ended {
			continue
		}
		sent = true
		if at, highest, short := s.outbox.PassEnds(); short {
			return s.refusal(sourceFailed(fmt.Errorf("it ended at %d, and message %d was sent before", at, highest)))
		}
		if !o.open && s.outbox.ClosePass(a) {
			s.halfClose(a)
		}
		if s.outbox.Watch() {
			s.watchSends()
		}
		s.outbox.AwaitPass(a)
	}
}

// maySendFrom returns why SendFrom makes no sense, if that is so.
func (s *ClientStream[Req, Res]) maySendFrom(noSource bool, o sendFromOptions) error {
	acks := s.callbacks.Acked != nil
	switch {
	case noSource:
		return errors.New("SendFrom needs a source")
	case s.options.replay:
		return errors.New("SendFrom and WithReplay exclude each other: what the source has need not be kept")
	case !acks && !s.options.okAcknowledges && s.kind != clientStreaming:
		return errors.New("SendFrom needs Callbacks.Acked, or WithOKAcknowledges if OK means that the server has everything")
	case !acks && o.open:
		return errors.New("WithoutCloseSend needs Callbacks.Acked: nothing would ever be acknowledged")
	default:
		return nil
	}
}

// endOfSource is the error of a stream that ended before the source did, or before all of that was acknowledged.
func (s *ClientStream[Req, Res]) endOfSource(sent bool) error {
	missing := s.notAcked()
	if !sent {
		missing = fmt.Errorf("the stream ended before the source: %w", missing)
	}
	return s.unacked("send", missing, s.outbox.Err())
}

var (
	// errPassOver says that the attempt of a pass is gone.
	errPassOver = errors.New("the attempt of this pass is over")
	errSourced  = errors.New("SendFrom is running, or what it has sent is not acknowledged: call SendFrom again for the rest")
)

func sourceFailed(err error) error {
	return &Error{Op: "send", Reason: ReasonResume, Cause: fmt.Errorf("the source of SendFrom: %w", withoutEOF(err))}
}

// pull sends what a source has, in a pass. It reports whether the source has come to its end. If not, and there is no error, the attempt is
// gone.
func (s *ClientStream[Req, Res]) pull(how *manner[Req, Res], messages iter.Seq2[*Req, error]) (ended bool, err error) {
	if messages == nil {
		return false, sourceFailed(errors.New("it returned nil"))
	}
	for m, err := range messages {
		switch {
		case err != nil:
			return false, sourceFailed(err)
		case m == nil:
			return false, refused(errors.New("the message is nil"))
		case s.sends.none():
			err = s.send(m, how, nil, nil)
		default:
			err = s.sendUnderPolicies(m, how)
		}
		if errors.Is(err, errPassOver) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
	return true, nil
}

// sendPulled sends a message of the pass on a.
func (s *ClientStream[Req, Res]) sendPulled(m *Req, a *attempt[Req, Res], held *permit.Held, cut *cutter[Req, Res]) error {
	var seq uint64
	if s.callbacks.Sequence != nil {
		seq = s.callbacks.Sequence(m)
	}
	t, verdict := s.outbox.BeginPulled(a, seq)
	for verdict == outbox.NotYet && (!cut.expired() || s.ctx.Err() != nil) {
		t, verdict = s.outbox.BeginPulled(a, seq)
	}
	switch verdict { //nolint:exhaustive // the others refuse it
	case outbox.Go:
	case outbox.Over, outbox.Ended:
		s.faultIn(a, held)
		return errPassOver
	default:
		return s.notSent(verdict, seq)
	}
	if t.Watch {
		s.watchSends()
	}
	said, err := s.sendOn(t, m, cut)
	outcome, _ := s.outbox.Settle(t, said)
	s.actOn(a, outcome.Attempt, err)
	switch {
	case outcome.Attempt == outbox.Suspect:
		return errPassOver
	case outcome.Message == outbox.InDoubt:
		return inDoubt(err)
	case outcome.Message == outbox.TakenBack:
		return refused(err)
	default:
		return nil
	}
}
