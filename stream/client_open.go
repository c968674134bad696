package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/failsafe-go/failsafe-go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/internal/inbox"
	"github.com/streamsafe/streamsafe/internal/outbox"
	"github.com/streamsafe/streamsafe/internal/rpcstatus"
)

// opened is an attempt whose Resume callback has returned nil.
type opened[Req, Res any] struct {
	attempt    *attempt[Req, Res]
	resumption *Resumption[Req, Res]
}

// openError is an attempt that could not be opened, as open policies see it.
type openError struct {
	loss  *loss
	final bool // the server's last word: open policies do not try again
}

func (e *openError) Error() string { return e.loss.op + ": " + e.loss.err.Error() }

func (e *openError) Unwrap() error { return e.loss.err }

// GRPCStatus lets policies' predicates use status.Code.
func (e *openError) GRPCStatus() *status.Status { return rpcstatus.Of(e.loss.err) }

// openAttempt opens the next attempt, under the open policies.
func (s *ClientStream[Req, Res]) openAttempt(ctx context.Context) (*opened[Req, Res], *attemptError) {
	from := s.inbox.Position()
	o := s.raceOpens(ctx, from, s.health.cause)
	s.health.cause = o.cause
	if o.winner != nil {
		return o.winner, nil
	}
	if o.err != nil {
		return nil, s.judgeOpen(o.err, o.waited, from)
	}
	switch verdict := o.result.(type) {
	case *loss:
		if verdict.completes != nil {
			if told := verdict.completes(); told != nil {
				verdict = told
			}
		}
		return nil, s.judge(verdict, inbox.Standing{Position: from}, outbox.Counts{})
	case *openError:
		return nil, s.judgeOpen(verdict, o.waited, from)
	default:
		return nil, &attemptError{op: "open", cause: errNotAStream, final: true, reason: ReasonPolicy}
	}
}

// raced is what came of the opens of one execution of the open policies.
type raced[Req, Res any] struct {
	winner *opened[Req, Res] // nil if none was opened: then result and err are what the policies made of that
	result any
	err    error
	cause  error // what the newest attempt to fail by itself ended with
	waited error // what the connection waited for when the newest open was cut short; nil if it did not
}

// raceOpens opens an attempt under the open policies. cause is what the one before ended with.
func (s *ClientStream[Req, Res]) raceOpens(ctx context.Context, from checkpoint.Position, cause error) (o raced[Req, Res]) {
	r := race[Req, Res]{cause: cause, changed: make(chan struct{})}
	//nolint:contextcheck // the execution has ctx
	o.result, o.err = s.opening.WithContext(ctx).GetWithExecution(func(exec failsafe.Execution[any]) (any, error) {
		return s.enterRace(exec.Context(), &r, from)
	})
	if winner, won := o.result.(*opened[Req, Res]); won && o.err == nil {
		o.winner = winner
	}
	o.cause, o.waited = r.end(o.winner)
	return o
}

// enterRace is one try of the open policies. It returns an opened attempt, or what policies are not to try again: a loss
// where the stream is complete, and an openError that is final, where they cannot be told.
func (s *ClientStream[Req, Res]) enterRace(ctx context.Context, r *race[Req, Res], from checkpoint.Position) (any, error) {
	cause := r.begin()
	failed := &openError{loss: &loss{op: "open", err: errGoroutineEnded, final: ReasonResume}, final: true} // unless open returns
	var o *opened[Req, Res]
	open := func() {
		var failure *loss
		if o, failure = s.openOnce(ctx, from, cause); failure == nil {
			failed = nil
		} else {
			failed = &openError{loss: failure, final: failure.endsWell() || s.isLastWord(failure)}
		}
	}
	if s.options.open != nil {
		contained(open) // a hedge waits for a result, whatever a callback does
	} else {
		open()
	}
	if failed == nil {
		if !r.enter(o) {
			o.attempt.cancel()
		}
		return o, nil
	}
	if cause = failed.loss.err; ctx.Err() != nil {
		cause = nil // it was cut short
	}
	r.fail(cause, failed.loss.waited)
	if s, ok := ctx.Value(scheduleKey{}).(*schedule); ok {
		s.note(failure{hint: failed.loss.hint().Delay})
	}
	if failed.loss.endsWell() {
		return failed.loss, nil // no failure in the eyes of policies: none tries again
	}
	if other := r.await(ctx); other != nil {
		return other, nil
	}
	if failed.final && s.options.open.isExecutor() {
		return failed, nil
	}
	return nil, failed
}

// errNotAStream is the cause where a fallback, say, answers for a stream.
var errNotAStream = errors.New("a policy supplied a result that is not a stream")

// openOnce opens one attempt and lets Resume start it. ctx ends the opening and not the attempt: policies cancel it
// when their execution returns.
func (s *ClientStream[Req, Res]) openOnce(
	ctx context.Context, from checkpoint.Position, cause error,
) (*opened[Req, Res], *loss) {
	returned := false
	a := newAttempt[Req, Res](s.ctx, s.counts.attempts.Add(1), s.newCapture()) //nolint:contextcheck // see above
	s.linkTo(a)
	defer func() {
		if !returned { // Resume has ended the goroutine
			a.cancel()
		}
	}()
	s.calling(func() { a.ctx = s.events.ofAttempt(a.ctx, a.epoch) })
	s.events.publish(event{kind: eventOpened, attempt: a.epoch})
	stop := context.AfterFunc(ctx, func() { a.fail(&loss{op: "open", err: cutBy(context.Cause(ctx)), origin: fromStream}) })
	defer stop()
	stopLimit := s.limitOpen(a)
	defer stopLimit()
	r := &Resumption[Req, Res]{attempt: a, kind: s.kind, position: from, cause: cause}
	op, err := s.start(a, r)
	returned = true
	if errors.Is(err, Complete) && r.ackedKnown && !s.outbox.AcknowledgeStart(r.acked) { // no attempt takes over what Resume has learned
		l := s.ackTooHigh("resume", r.acked)
		a.fail(l)
		return nil, l
	}
	l := a.loss.Load()
	if err == nil && (l == nil || l.origin != fromStream) {
		return &opened[Req, Res]{attempt: a, resumption: r}, nil
	}
	l = &loss{op: op, err: err, origin: originOfOpen(op, err)}
	if _, large := errors.AsType[positionSizeError](err); large {
		l.final = ReasonOptions
	}
	if refused := a.link.refused.Load(); refused != nil {
		l = &loss{op: "open", err: *refused, final: ReasonOptions}
	}
	a.fail(l)
	if a.stream != nil {
		s.calling(a.tellTargets)
	}
	l = a.loss.Load().toldBy(op, err).waitedFor(err)
	if l.endsWell() && len(r.deliver) > 0 {
		l.completes = func() *loss { return s.completed(r) }
	}
	return nil, l
}

// waitedFor adds to a loss what the open has waited for, if err tells: grpc says so only when it stops waiting.
func (l *loss) waitedFor(err error) *loss {
	st := status.Convert(err)
	if !strings.HasPrefix(st.Message(), notReady) {
		return l
	}
	l.waited = errors.New(strings.TrimPrefix(st.Message(), notReady))
	if l.origin == fromStream {
		l.err = fmt.Errorf("%w: %s", l.err, st.Message())
	}
	return l
}

// originOfOpen returns who made err, with which an attempt could not be opened. An open does not wait for the server, so the
// end of a context is one of this side, and UNAVAILABLE is the connection's.
func originOfOpen(op string, err error) origin {
	switch {
	case op == "resume":
		return originOf(err, fromCallback)
	case tellsOfContext(rpcstatus.Of(err)):
		return fromClient
	case status.Code(err) == codes.Unavailable:
		return fromTransport
	default:
		return originOf(err, fromClient)
	}
}

// toldBy returns the loss with what Resume says of it, where that is more than what Recv said.
func (l *loss) toldBy(op string, err error) *loss {
	told := *l
	saysMore := rpcstatus.Of(err).Code() != codes.Unknown || errors.Is(err, Complete) || errors.Is(err, ErrPositionLost) ||
		errors.Is(l.err, io.EOF) && !errors.Is(err, io.EOF)
	if op == "resume" && err != nil && l.origin != fromStream && saysMore {
		told.op, told.err = op, err
		if !errors.Is(err, l.err) {
			told.origin = originOf(err, fromCallback)
		}
	}
	return &told
}

// start opens a and calls Resume. It returns what failed.
func (s *ClientStream[Req, Res]) start(a *attempt[Req, Res], r *Resumption[Req, Res]) (op string, err error) {
	opts := a.targets.own(s.options.call)
	if a.codec != nil {
		opts = append(opts, grpc.ForceCodecV2(a.codec))
	}
	s.calling(func() {
		if op, err = s.first(a, r.position, opts); err == nil && s.callbacks.Resume != nil {
			op, err = "resume", s.callbacks.Resume(a.ctx, r)
		}
	})
	return op, err
}

// newCapture returns the codec of an attempt, nil unless messages are kept or measured.
func (s *ClientStream[Req, Res]) newCapture() *capture {
	if !s.options.replay && !s.options.holds && s.callbacks.Key == nil {
		return nil
	}
	return &capture{CodecV2: s.codec.current(), outbox: s.outbox, measures: s.options.holds}
}
