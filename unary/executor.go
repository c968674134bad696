package unary

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/timeout"
)

// underExecutor is what a call under an executor needs besides.
type underExecutor struct {
	last atomic.Pointer[tryError] // the last failure

	mu     sync.Mutex // guards the fields below
	round  int        // retries before the newest hedges
	hedges *hedgeGroup[outcome]
}

// join returns a context that is done when the caller's is or an executor's own, with the earlier deadline of both, and
// with the values of both; the caller's come first.
func join(ctx, own context.Context) (joined context.Context, leave func()) {
	if own == nil || own == context.Background() || own == context.TODO() {
		return ctx, func() {}
	}
	joined = bothValues{ctx, own}
	if own.Done() == nil {
		return joined, func() {}
	}
	drop := context.CancelFunc(func() {})
	deadline, hasDeadline := own.Deadline()
	if hasDeadline {
		joined, drop = context.WithDeadline(joined, deadline)
	}
	joined, cancel := context.WithCancelCause(joined)
	stop := context.AfterFunc(own, func() {
		if !hasDeadline || !errors.Is(own.Err(), context.DeadlineExceeded) {
			cancel(context.Cause(own)) // and what ends by a deadline ends by that of joined, with the right error
		}
	})
	return joined, func() {
		stop()
		cancel(nil)
		drop()
	}
}

// bothValues is a context with the values of another besides.
type bothValues struct {
	context.Context                 //nolint:containedctx // it is a context
	own             context.Context //nolint:containedctx // as above
}

// Value returns the value of the context, or else of the other.
func (c bothValues) Value(key any) any {
	if v := c.Context.Value(key); v != nil {
		return v
	}
	return c.own.Value(key)
}

// runExecutor runs the call under an executor, whose own context is in c.ctx already: see join.
func (c *call) runExecutor(executor failsafe.Executor[any]) (any, error) {
	c.under = &underExecutor{}
	return executor.WithContext(context.WithValue(c.ctx, callKey{}, c)).GetWithExecution(c.tryUnder)
}

// tryUnder is one try under an executor. What the chain does between policies is done here: waiting as long as the
// server asked for, no further try of what is not to be retried, and no failure of a hedge that counts while another attempt
// runs.
func (c *call) tryUnder(exec failsafe.Execution[any]) (any, error) {
	ctx := exec.Context()
	if last := c.under.last.Load(); last != nil && exec.Retries() > 0 && !exec.IsHedge() {
		if last.final {
			return c.side.blank(), last
		}
		waitUntil(ctx, last.notBefore)
	}
	hedges := c.under.group(exec.Retries())
	hedges.begin()
	reply, err := c.tryContained(ctx, exec.IsHedge())
	is := rankOf(err)
	if exec.Hedges() == 0 {
		is = success // nobody to wait for
	}
	o := hedges.end(ctx, outcome{reply, err}, is)
	return o.reply, o.err
}

// tryContained is try, with a panic of an observer as a failure: see contain.
func (c *call) tryContained(ctx context.Context, hedge bool) (reply any, err error) {
	returned := false
	defer func() {
		if returned {
			return
		}
		if value := recover(); value != nil {
			reply, err = c.side.blank(), c.failure(c.panics(value), made{})
		}
	}()
	reply, err = c.try(ctx, hedge)
	returned = true
	return reply, err
}

// stopped returns the error of a call that was denied another try: in a chain, the level of the retry policy does that. If the
// caller is there, what ended an attempt that no hedge has beaten is a timeout of the executor.
func (u *underExecutor) stopped(denial error, callerIsThere bool) error {
	last := u.last.Load()
	switch {
	case last == nil:
		return denial
	case last.cut && callerIsThere:
		return stopped(timeout.ErrExceeded, denial)
	default:
		return stopped(last, denial)
	}
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

// callOf returns the call that an execution belongs to; nil if it belongs to none.
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
