package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/internal/rpcstatus"
)

// opened is an attempt whose Resume callback has returned nil.
type opened[Req, Res any] struct {
	attempt    *attempt[Req, Res]
	resumption *Resumption[Req, Res]
}

// race is the opens of one execution of the open policies: one, several tries, or hedges at the same time.
type race[Req, Res any] struct {
	mu      sync.Mutex // guards the fields below
	over    bool
	entered []*opened[Req, Res]
}

// enter takes in an open that has succeeded. It reports false where the race is over: nobody will take it.
func (r *race[Req, Res]) enter(o *opened[Req, Res]) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.over {
		r.entered = append(r.entered, o)
	}
	return !r.over
}

// end ends the race; every open but the winner is closed (invariant 23).
func (r *race[Req, Res]) end(winner *opened[Req, Res]) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = true
	for _, o := range r.entered {
		if o != winner {
			o.attempt.cancel()
		}
	}
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
	var r race[Req, Res]
	from, cause := s.inbox.position(), s.health.cause
	//nolint:contextcheck // the execution has ctx
	result, err := s.opening.WithContext(ctx).GetWithExecution(func(exec failsafe.Execution[any]) (any, error) {
		o, failure := s.openOnce(exec.Context(), from, cause)
		if failure != nil && failure.endsWell() {
			return failure, nil // no failure in the eyes of policies: none tries again
		}
		if failure != nil {
			return nil, &openError{loss: failure, final: s.isLastWord(failure)}
		}
		if !r.enter(o) {
			o.attempt.cancel()
		}
		return o, nil
	})
	winner, ok := result.(*opened[Req, Res])
	if !ok || err != nil {
		winner = nil
	}
	r.end(winner)
	complete, done := result.(*loss)
	switch {
	case winner != nil:
		return winner, nil
	case done && err == nil:
		return nil, s.judge(complete, standing{position: from}, 0)
	case err == nil:
		return nil, &attemptError{op: "open", cause: errNotAStream, final: true, reason: ReasonPolicy}
	default:
		return nil, s.judgeOpen(err, from)
	}
}

// errNotAStream is the cause where a fallback, say, answers for a stream.
var errNotAStream = errors.New("a policy supplied a result that is not a stream")

// openOnce opens one attempt and lets Resume start it. ctx ends the opening and not the attempt: policies cancel it
// when their execution returns.
func (s *ClientStream[Req, Res]) openOnce(
	ctx context.Context, from checkpoint.Position, cause error,
) (*opened[Req, Res], *loss) {
	var codec *capture
	if s.options.replay || s.options.holds {
		codec = &capture{CodecV2: s.outbox.codec, outbox: s.outbox}
	}
	a := newAttempt[Req, Res](s.ctx, s.counts.attempts.Add(1), codec) //nolint:contextcheck // see above
	s.events.publish(event{kind: eventOpened, attempt: a.epoch})
	stop := context.AfterFunc(ctx, func() {
		a.fail(&loss{op: "open", err: fmt.Errorf("opening was cancelled: %w", context.Cause(ctx)), ours: true})
	})
	defer stop()
	if limit := s.options.limits.open; limit > 0 {
		timer := time.AfterFunc(limit, func() {
			a.fail(&loss{op: "open", err: &limitError{what: "not opened", limit: limit}, ours: true})
		})
		defer timer.Stop()
	}
	r := &Resumption[Req, Res]{attempt: a, position: from, cause: cause}
	op, err := s.start(a, r)
	l := a.loss.Load()
	if err == nil && (l == nil || !l.ours) {
		return &opened[Req, Res]{attempt: a, resumption: r}, nil
	}
	a.fail(&loss{op: op, err: err})
	return nil, a.loss.Load().toldBy(op, err)
}

// toldBy returns the loss with what Resume says of it, where that is more than what Recv said.
func (l *loss) toldBy(op string, err error) *loss {
	told := *l
	saysMore := rpcstatus.Of(err).Code() != codes.Unknown || errors.Is(err, Complete) || errors.Is(err, ErrPositionLost) ||
		errors.Is(l.err, io.EOF) && !errors.Is(err, io.EOF)
	if op == "resume" && err != nil && !l.ours && saysMore {
		told.op, told.err = op, err
	}
	return &told
}

// start opens a and calls Resume. It returns what failed.
func (s *ClientStream[Req, Res]) start(a *attempt[Req, Res], r *Resumption[Req, Res]) (op string, err error) {
	opts := slices.Clone(s.options.call)
	if a.codec != nil {
		opts = append(opts, grpc.ForceCodecV2(a.codec))
	}
	s.calling(func() {
		op = "open"
		var opened Bidi[Req, Res]
		if opened, err = s.open(a.ctx, opts); err != nil {
			return
		}
		a.started(opened)
		if s.callbacks.Resume != nil {
			op, err = "resume", s.callbacks.Resume(a.ctx, r)
		}
	})
	return op, err
}
