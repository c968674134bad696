package unary

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/internal/rpcstatus"
)

// side is what differs between clients and servers.
type side interface {
	// attempt makes the number-th attempt. The trailer is the server's, where there is one.
	attempt(ctx context.Context, number int) (reply any, trailer metadata.MD, err error)
	// blank returns an empty reply, or nil where the type is not known.
	blank() any
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
	panicked   atomic.Pointer[PanicError]
	retryAfter atomic.Int64   // nanoseconds left of the delay of the breaker that denied last
	under      *underExecutor // set before the first attempt, then read only; nil where the chain is no executor
}

// underExecutor is what a call under an executor needs besides.
type underExecutor struct {
	notBefore atomic.Pointer[time.Time] // the server's word on the next retry

	mu     sync.Mutex // guards the fields below
	round  int        // retries before the newest hedges
	hedges *hedgeGroup[outcome]
}

// run runs the call and returns its reply, or an error as the caller is to see it. A panic of the attempt is a failure
// to the policies, which let go of what they hold, and goes on from here.
func (c *call) run() (any, error) {
	c.counts.start = time.Now()
	reply, err := c.runPolicies()
	if panicked := c.panicked.Load(); panicked != nil {
		panic(panicked.Value) //nolint:forbidigo // the handler's own panic goes on
	}
	if err != nil && c.settings.chain != nil {
		err = c.failed(err)
	}
	if len(c.settings.observers.call) > 0 {
		c.settings.observers.onCall(c.info(int(c.attempts.Load()), false), time.Since(c.counts.start), err)
	}
	return reply, err
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

// runExecutor runs the call under an executor, whose context, where it has one, cancels the call, too.
func (c *call) runExecutor(executor failsafe.Executor[any]) (any, error) {
	c.under = &underExecutor{}
	ctx := context.WithValue(c.ctx, callKey{}, c)
	own := executor.Context()
	if own == nil || own.Done() == nil {
		return executor.WithContext(ctx).GetWithExecution(c.tryUnder)
	}
	joined, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(own, func() { cancel(context.Cause(own)) })
	defer stop()
	return executor.WithContext(joined).GetWithExecution(c.tryUnder)
}

// tryUnder is one try under an executor. What the chain does between policies is done here: waiting as long as the
// server asked for, and letting no hedge's failure count while another attempt runs.
func (c *call) tryUnder(exec failsafe.Execution[any]) (any, error) {
	ctx := exec.Context()
	if exec.Retries() > 0 && !exec.IsHedge() {
		if at := c.under.notBefore.Load(); at != nil {
			waitUntil(ctx, *at)
		}
	}
	hedges := c.under.group(exec.Retries())
	hedges.begin()
	reply, err := c.try(ctx, exec.IsHedge())
	o := hedges.end(ctx, outcome{reply, err}, err != nil && exec.Hedges() > 0)
	return o.reply, o.err
}

// outcome is what a try returns.
type outcome struct {
	reply any
	err   error
}

// group returns the hedges of one round: a retry begins another.
func (u *underExecutor) group(round int) *hedgeGroup[outcome] {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.hedges == nil || u.round != round {
		u.round, u.hedges = round, &hedgeGroup[outcome]{}
	}
	return u.hedges
}

// callKey is the context key of a call, for policies that an executor runs.
type callKey struct{}

// callOf returns the call that an execution belongs to; nil where it belongs to none.
func callOf(exec failsafe.ExecutionInfo) *call {
	if e, ok := exec.(*execution); ok {
		return e.call
	}
	c, ok := exec.Context().Value(callKey{}).(*call)
	if !ok {
		return nil
	}
	return c
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
		o.onStart(c.info(number, hedge))
		start = time.Now()
	}
	reply, trailer, err := c.attempt(ctx, number)
	if len(o.attempt) > 0 {
		o.onAttempt(c.info(number, hedge), time.Since(start), err)
	}
	if err != nil && c.settings.chain != nil {
		err = c.failure(err, trailer)
	}
	return reply, err
}

// attempt makes an attempt, and turns a panic into an error.
func (c *call) attempt(ctx context.Context, number int) (reply any, trailer metadata.MD, err error) {
	returned := false
	defer func() {
		if returned {
			return
		}
		value := recover()
		if value == nil {
			return // runtime.Goexit
		}
		failed := &PanicError{Value: value, Stack: debug.Stack()}
		c.panicked.CompareAndSwap(nil, failed)
		err = failed
	}()
	reply, trailer, err = c.side.attempt(ctx, number)
	returned = true
	return reply, trailer, err
}

// failure returns a failed attempt as policies see it.
func (c *call) failure(err error, trailer metadata.MD) *tryError {
	failed := &tryError{
		cause: err, hint: rpcstatus.HintOf(err, trailer),
		idempotent: c.settings.isIdempotent(c.method),
	}
	if failed.hint.Delay > 0 {
		failed.notBefore = time.Now().Add(failed.hint.Delay)
	}
	if c.under != nil {
		c.under.notBefore.Store(&failed.notBefore)
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
func (c *call) failed(err error) error {
	failed := &Error{Method: c.method, Attempts: int(c.attempts.Load()), Cause: bare(err)}
	if caller := ended(c.ctx); caller != nil {
		st := status.FromContextError(caller)
		if errors.Is(err, caller) || rpcstatus.Of(err).Code() == st.Code() {
			failed.Cause, failed.status = withCause(c.ctx, caller), st
			return failed
		}
	}
	st := rpcstatus.Of(err)
	if attempt, ok := err.(*tryError); ok { //nolint:errorlint // what is wrapped has been made by a policy
		if _, said := status.FromError(attempt.cause); said || st.Code() == codes.Unknown {
			return attempt.cause
		}
		failed.Cause = attempt.cause
	}
	if st.Code() == codes.Unavailable && errors.Is(err, circuitbreaker.ErrOpen) {
		st = rpcstatus.WithRetryInfo(st, time.Duration(c.retryAfter.Load()))
	}
	failed.status = st
	return failed
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
