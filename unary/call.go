package unary

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/internal/rpcstatus"
)

// side is what differs between clients and servers.
type side interface {
	// attempt makes the number-th attempt.
	attempt(ctx context.Context, number int) (reply any, m made, err error)
	// blank returns an empty reply, or nil if the type is not known.
	blank() any
	// retriedBefore returns how often somebody outside has retried the call, as far as its metadata tell.
	retriedBefore() int
}

// made is what is known of an attempt besides. Both are zero on servers.
type made struct {
	trailer metadata.MD
	by      *clientAttempt
}

// call is one call under policies, on either side.
type call struct {
	ctx      context.Context //nolint:containedctx // the caller's, for the time of its call
	method   string          // set at construction, then read only
	side     side            // set at construction, then read only
	settings settings        // set at construction, then read only

	counts counts
	first  execution
	scope  scope
	result result // of the first attempt

	attempts   atomic.Int32
	hedges     atomic.Int32 // of them, if there are observers
	panicked   atomic.Pointer[PanicError]
	last       atomic.Pointer[tryError] // what the last attempt failed with
	retryAfter atomic.Int64             // nanoseconds left of the delay of the breaker that denied last
	under      *underExecutor           // set before the first attempt, then read only; nil if the chain is no executor
}

// run runs the call. It returns the reply, or the error as the policies left it: see failed. A panic in the attempt or in a
// policy is a failure to the policies, which let go of what they hold, and goes on from here.
func (c *call) run() (any, error) {
	c.counts.start = time.Now()
	reply, err := c.runPolicies()
	if panicked := c.panicked.Load(); panicked != nil {
		panic(panicked.Value) //nolint:forbidigo // the handler's own panic goes on
	}
	return reply, err
}

// tell tells observers how the call ended. The error is what the caller gets.
func (c *call) tell(err error) {
	if len(c.settings.observers.call) > 0 {
		info := c.info(int(c.attempts.Load()), false)
		info.Hedges = int(c.hedges.Load())
		c.settings.observers.onCall(info, time.Since(c.counts.start), err)
	}
}

func (c *call) runPolicies() (any, error) {
	if err := c.ctx.Err(); err != nil {
		return nil, err
	}
	chain := c.settings.chain
	if chain == nil {
		return c.try(c.ctx, false)
	}
	if chain.executor != nil {
		return c.runExecutor(chain.executor)
	}
	c.counts.attempts.Store(1)
	c.scope.ctx = c.ctx //nolint:fatcontext // the outermost scope is the caller's
	c.first.call, c.first.scope = c, &c.scope
	r := chain.run(&c.first)
	return r.Result, r.Error
}

// newResult returns a result to fill in.
func (c *call) newResult() *result {
	if c.counts.attempts.Load() == 1 {
		return &c.result
	}
	return &result{}
}

// try makes an attempt, unless ctx is done: nothing is begun for a caller that has gone.
func (c *call) try(ctx context.Context, hedge bool) (reply any, err error) {
	if err := ctx.Err(); err != nil {
		return c.side.blank(), err
	}
	number := int(c.attempts.Add(1))
	o := c.settings.observers
	var start time.Time
	if !o.empty() {
		if hedge {
			c.hedges.Add(1)
		}
		o.onStart(c.info(number, hedge))
		start = time.Now()
	}
	reply, m, err := c.attempt(ctx, number)
	if len(o.attempt) > 0 {
		o.onAttempt(c.info(number, hedge), time.Since(start), err)
	}
	if err != nil && c.settings.chain != nil {
		failed := c.failure(err, m)
		failed.cut = ctx.Err() != nil
		c.note(failed, ctx.Err())
		err = failed
	}
	return reply, err
}

// note keeps what an attempt failed with, for the error of the call. That its context has ended tells less than what was
// before.
func (c *call) note(failed *tryError, end error) {
	if end != nil && c.last.Load() != nil && rpcstatus.Of(failed.cause).Message() == end.Error() {
		return
	}
	c.last.Store(failed)
}

// attempt makes an attempt, and turns a panic into an error.
func (c *call) attempt(ctx context.Context, number int) (reply any, m made, err error) {
	returned := false
	defer func() {
		if returned {
			return
		}
		value := recover()
		if value == nil {
			return // runtime.Goexit
		}
		err = c.panics(value)
	}()
	reply, m, err = c.side.attempt(ctx, number)
	returned = true
	return reply, m, err
}

// panics notes a panic, which goes on at the end of the call, and returns it as an error for the policies until then.
func (c *call) panics(value any) *PanicError {
	failed := &PanicError{Value: value, Stack: debug.Stack()}
	c.panicked.CompareAndSwap(nil, failed)
	return failed
}

// failure returns a failed attempt as policies see it.
func (c *call) failure(err error, m made) *tryError {
	failed := &tryError{
		cause: err, hint: rpcstatus.HintOf(err, m.trailer), most: c.settings.maxHint(), by: m.by,
		idempotent: c.settings.isIdempotent(c.method), outside: c.side.retriedBefore() > 0,
	}
	if failed.hint.Delay > 0 {
		failed.notBefore = time.Now().Add(failed.hint.Delay)
	}
	if c.under != nil {
		end, _ := c.ctx.Deadline()
		failed.final = failed.refuses(end)
		c.under.last.Store(failed)
	}
	return failed
}

// denied notes that a policy let nothing run.
func (c *call) denied(l *level, err error) {
	if breaker, ok := l.policy.(circuitbreaker.CircuitBreaker[any]); ok {
		c.retryAfter.Store(int64(breaker.RemainingDelay()))
	}
	c.settings.observers.onDenied(c.info(int(c.attempts.Load()), false), string(l.kind), err)
}

// failed returns the error of the call as the caller sees it: an attempt's as it was, and in an [Error] what policies
// made of it.
func (c *call) failed(err error, onServer bool) error {
	if c.settings.chain == nil {
		return err
	}
	if c.under != nil && rpcstatus.IsDenial(err) {
		err = c.under.stopped(err, ended(c.ctx) == nil)
	}
	failed := &Error{Method: c.method, Attempts: int(c.attempts.Load()), Cause: bare(err), onServer: onServer}
	if last := c.died(); last != nil && !errors.Is(err, last) {
		failed.Last = last
	}
	failed.status = rpcstatus.Of(err)
	if caller := ended(c.ctx); caller != nil {
		st := status.FromContextError(caller)
		if errors.Is(err, caller) || failed.status.Code() == st.Code() {
			failed.Cause, failed.status = withCause(c.ctx, caller), st
			return failed
		}
	}
	if attempt, ok := err.(*tryError); ok && attempt.says() { //nolint:errorlint // what is wrapped has been made by a policy
		return attempt.cause
	}
	if failed.status.Code() == codes.Unavailable && errors.Is(err, circuitbreaker.ErrOpen) {
		failed.status = rpcstatus.WithRetryInfo(failed.status, time.Duration(c.retryAfter.Load()))
	}
	return failed
}

// died returns what the last attempt failed with, if that is more than that its context has ended.
func (c *call) died() error {
	last := c.last.Load()
	if last == nil {
		return nil
	}
	switch rpcstatus.Of(last.cause).Message() {
	case context.DeadlineExceeded.Error(), context.Canceled.Error():
		return nil
	default:
		return last.cause
	}
}

func (c *call) info(attempt int, hedge bool) Info {
	return Info{Method: c.method, Attempt: attempt, Hedge: hedge}
}

// ended returns the error of a context that is done, or is about to be: a server that minds the same deadline may answer
// in the moment before the caller's own timer.
func ended(ctx context.Context) error {
	if deadline, ok := ctx.Deadline(); ok && ctx.Err() == nil && !time.Now().Before(deadline) {
		return context.DeadlineExceeded
	}
	return ctx.Err()
}

// withCause returns the end of a call by the caller's context: both what the context says, for errors.Is, and the cause
// it was cancelled with.
func withCause(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, err) {
		return fmt.Errorf("%w: %w", err, cause)
	}
	return err
}
