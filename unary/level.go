package unary

import (
	"errors"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/policy"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/failsafe-go/failsafe-go/timeout"

	"github.com/streamsafe/streamsafe/internal/policykind"
	"github.com/streamsafe/streamsafe/internal/rpcstatus"
	"github.com/streamsafe/streamsafe/internal/trial"
)

// apply runs the policy around the inner part. What the executors of failsafe-go get wrong for calls is done here.
func (l *level) apply(e *execution, executor applier) *result {
	full, ok := executor.(policy.Executor[any])
	if !ok {
		return executor.Apply(l.inner)(e)
	}
	switch l.kind {
	case policykind.Timeout:
		return l.runTimeout(e, full)
	case policykind.Retry:
		return l.runRetry(e, full)
	case policykind.Hedge:
		e.frame = frame{branches: &hedgeGroup[*result]{}, branching: true}
		return full.Apply(l.inner)(e)
	case policykind.Bulkhead:
		if limit, ok := l.policy.(bulkhead.Bulkhead[any]); ok {
			return l.runBulkhead(e, full, limit)
		}
	case policykind.CircuitBreaker:
		if breaker, ok := l.policy.(circuitbreaker.CircuitBreaker[any]); ok {
			return l.runBreaker(e, full, breaker)
		}
	case policykind.AdaptiveThrottler:
		return l.runThrottler(e, full)
	case policykind.AdaptiveLimiter:
		return full.Apply(func(failsafe.Execution[any]) *result {
			r, ran := l.runInner(e)
			e.frame.unrun = !ran
			return r
		})(e)
	case policykind.Cache, policykind.Fallback, policykind.RateLimiter, policykind.Other:
	}
	return full.Apply(l.inner)(e)
}

// runInner runs the inner part, and tells whether it made an attempt.
func (l *level) runInner(e *execution) (r *result, ran bool) {
	before := e.call.attempts.Load()
	r = l.inner(e)
	return r, e.call.attempts.Load() != before
}

// runTimeout gives the inner part the time limit as a deadline, so that the server knows it, too (invariant 39).
func (l *level) runTimeout(e *execution, executor policy.Executor[any]) *result {
	if !l.timed || l.listened {
		e.frame = frame{limit: l.limit, timed: l.timed}
		return executor.Apply(l.inner)(e)
	}
	inside := e.copy()
	inside.enterScope(l.limit, true)
	defer inside.scope.cancel()
	r := l.inner(inside)
	if r.Error != nil && inside.scope.expired() {
		return &result{Error: timeout.ErrExceeded, Done: true}
	}
	return r
}

// timed is the inside of a timeout. If the timeout has a listener, failsafe-go's timer decides, as it tells the
// listener. The context's own timer, for the same instant, may be a moment earlier: then the timer is waited for.
func timed(inner part) part {
	inner = seen(inner)
	return func(exec failsafe.Execution[any]) *result {
		r := inner(exec)
		if e, ok := exec.(*execution); ok && e.scope.fired != nil && r.Error != nil && e.scope.expired() {
			<-e.scope.fired // closed by Cancel, which the timer calls
		}
		return r
	}
}

// runRetry keeps the last real failure, for what stops the retries (invariant 38).
func (l *level) runRetry(e *execution, executor policy.Executor[any]) *result {
	e.frame = frame{retry: executor, limit: l.limit}
	r := executor.Apply(l.inner)(e)
	failed := e.frame.failed
	if failed == nil || !rpcstatus.IsDenial(r.Error) {
		return r
	}
	return &result{Result: r.Result, Error: stopped(failed.Error, r.Error), Done: true}
}

// stopped returns the error of a retry policy that failed, and then was denied another try.
func stopped(failed, denial error) error {
	exceeded, ok := denial.(retrypolicy.ExceededError) //nolint:errorlint // the policy's own, and none from further inside
	if !ok {
		return &rpcstatus.StoppedError{Failure: failed, By: denial}
	}
	exceeded.LastError = &rpcstatus.StoppedError{Failure: failed, By: exceeded.LastError}
	return exceeded
}

// retried is the inside of a retry policy. What is not to be retried whatever the policy says is told to the policy as a
// failure, and is then the outcome of the policy: see execution.IsCanceledWithResult.
func retried(inner part) part {
	inner = seen(inner)
	return func(exec failsafe.Execution[any]) *result {
		r := inner(exec)
		e, ok := exec.(*execution)
		if r.Error == nil || !ok || rpcstatus.IsDenial(r.Error) {
			return r
		}
		failed, ok := errors.AsType[*tryError](r.Error)
		if !ok && errors.Is(r.Error, timeout.ErrExceeded) {
			failed = e.call.failure(r.Error, made{})
			r = &result{Result: r.Result, Error: failed, Done: true}
		}
		if failed == nil {
			return r
		}
		e.frame.failed = r
		if failed.final = e.isFinal(failed); failed.final && e.frame.retry.IsFailure(r.Result, r.Error) {
			e.frame.verdict = e.frame.retry.OnFailure(e, r.WithFailure()).WithDone(true, false)
		}
		return r
	}
}

// isFinal reports whether a failure is not to be retried, whatever the retry policy says.
func (e *execution) isFinal(failed *tryError) bool {
	end, ok := e.scope.ctx.Deadline()
	if most := e.frame.limit; most > 0 {
		if last := e.call.counts.start.Add(most); !ok || last.Before(end) {
			end, ok = last, true
		}
	}
	if !ok {
		end = time.Time{}
	}
	return failed.refuses(end)
}

// hedged is the inside of a hedge policy.
func hedged(inner part) part {
	inner = seen(inner)
	return func(exec failsafe.Execution[any]) *result {
		e, ok := exec.(*execution)
		if !ok {
			return inner(exec)
		}
		r := inner(exec)
		return e.frame.branches.end(e.scope.ctx, r, rankOf(r.Error))
	}
}

// runBulkhead gives the permit back whatever happens: a panic of a listener, runtime.Goexit in the handler.
func (l *level) runBulkhead(e *execution, executor policy.Executor[any], limit bulkhead.Bulkhead[any]) *result {
	held, done := false, false
	e.frame.asked = false
	defer func() {
		// Before it denies, the executor asks whether the execution is cancelled; if it has a permit, it does not ask.
		if !done && (held || !e.frame.asked) {
			limit.ReleasePermit()
		}
	}()
	if denied := executor.PreExecute(e); denied != nil {
		done = true
		return denied
	}
	held = true
	r := executor.PostExecute(e, l.inner(e))
	done = true
	return r
}

func (l *level) runBreaker(e *execution, executor policy.Executor[any], breaker circuitbreaker.CircuitBreaker[any]) *result {
	return trial.Run(breaker, executor, e, func() (*result, bool) { return l.runInner(e) })
}

func (l *level) runThrottler(e *execution, executor policy.Executor[any]) *result {
	if denied := executor.PreExecute(e); denied != nil {
		return denied
	}
	inner, ran := l.runInner(e)
	r, _ := trial.Verdict(executor, e, inner, ran)
	return r
}
