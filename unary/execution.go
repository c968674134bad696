package unary

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/common"
	"github.com/failsafe-go/failsafe-go/policy"
	"github.com/failsafe-go/failsafe-go/timeout"
)

// result is what policies pass to each other.
type result = common.PolicyResult[any]

// counts is what all copies of an execution share.
type counts struct {
	start      time.Time  // set at construction, then read only
	mu         sync.Mutex // guards what the executions say it guards
	attempts   atomic.Int32
	retries    atomic.Int32
	hedges     atomic.Int32
	executions atomic.Int32
	deferred   atomic.Bool
}

// scope is what is cancelled together: the call, the inside of a timeout, or one hedge.
type scope struct {
	ctx      context.Context    //nolint:containedctx // an execution is the context of the policies, as failsafe-go has it
	cancel   context.CancelFunc // nil for the call: it ends with the caller's context
	parent   *scope
	deadline time.Time     // of a timeout; zero for other scopes
	fired    chan struct{} // closed by Cancel; nil if nobody waits for it
	result   *result       // why it was cancelled; guarded by counts.mu
}

// expired reports whether the scope has ended with its own deadline.
func (s *scope) expired() bool {
	return !s.deadline.IsZero() && !errors.Is(s.ctx.Err(), context.Canceled) && !time.Now().Before(s.deadline)
}

// execution is what failsafe-go's policies work on. It is this package's own, since failsafe-go's can be had only with
// an executor, which costs more than the policies, and knows nothing of calls.
//
// An execution is used by one goroutine at a time, but for Cancel. Timeouts and hedges make copies of it.
type execution struct {
	call  *call
	scope *scope

	lastResult any           // guarded by counts.mu
	lastError  error         // guarded by counts.mu
	began      time.Duration // when the current try began, after the start of the call

	frame   frame // of the policy that runs
	reached int32 // the innermost level of the chain that the current try has come to
	hedge   bool
}

// frame is what an execution holds for one policy while that runs. Each level of a chain has its own, and puts back that of
// the level around it.
type frame struct {
	retry    policy.Executor[any] // of a retry policy
	failed   *result              // the last try of the retry policy that really failed
	verdict  *result              // an outcome that the retry policy is not to try again
	limit    time.Duration        // of all tries of a retry policy, zero is none; of a timeout
	branches *hedgeGroup[*result] // the hedges that run, of a hedge policy and in its branches

	branching bool // copies of this execution are branches of a hedge policy
	timed     bool // the next copy of this execution is for a timeout whose limit is known
	giveUp    bool // the next retry would come after the deadline
	asked     bool // the policy has asked whether the execution is cancelled
	unrun     bool // nothing ran inside of a limiter: how long that took says nothing
}

var _ policy.ExecutionInternal[any] = (*execution)(nil)

// Context returns the context of the current scope.
func (e *execution) Context() context.Context { return e.scope.ctx }

// Attempts returns the number of tries so far, the current one and those that a policy denied included.
func (e *execution) Attempts() int { return int(e.call.counts.attempts.Load()) }

// Executions returns the number of tries that ran and are done.
func (e *execution) Executions() int { return int(e.call.counts.executions.Load()) }

// Retries returns the number of retries so far.
func (e *execution) Retries() int { return int(e.call.counts.retries.Load()) }

// Hedges returns the number of hedges so far.
func (e *execution) Hedges() int { return int(e.call.counts.hedges.Load()) }

// StartTime returns when the call began.
func (e *execution) StartTime() time.Time { return e.call.counts.start }

// ElapsedTime returns the time since the call began.
func (e *execution) ElapsedTime() time.Duration { return time.Since(e.call.counts.start) }

// AttemptStartTime returns when the current try began.
func (e *execution) AttemptStartTime() time.Time { return e.call.counts.start.Add(e.began) }

// ElapsedAttemptTime returns the time since the current try began.
func (e *execution) ElapsedAttemptTime() time.Duration { return e.ElapsedTime() - e.began }

// IsFirstAttempt tells whether there was no try before this one.
func (e *execution) IsFirstAttempt() bool { return e.Attempts() == 1 }

// IsRetry tells whether there was a try before this one.
func (e *execution) IsRetry() bool { return e.Attempts() > 1 }

// IsHedge tells whether this try is a hedge.
func (e *execution) IsHedge() bool { return e.hedge }

// LastResult returns the result of the last try.
func (e *execution) LastResult() any {
	e.call.counts.mu.Lock()
	defer e.call.counts.mu.Unlock()
	return e.lastResult
}

// LastError returns the error of the last try, or else that of the context.
func (e *execution) LastError() error {
	e.call.counts.mu.Lock()
	defer e.call.counts.mu.Unlock()
	if e.lastError == nil {
		return e.scope.ctx.Err()
	}
	return e.lastError
}

// IsCanceled tells whether a timeout, a hedge that won, or the caller has cancelled the execution.
func (e *execution) IsCanceled() bool { return e.scope.ctx.Err() != nil }

// Canceled is closed when the execution is cancelled.
func (e *execution) Canceled() <-chan struct{} { return e.scope.ctx.Done() }

// IsCanceledWithResult tells whether the execution is cancelled, and the result that it then has.
//
// A retry policy asks after each try, before it decides, and returns that result. So this is how a try that is not to be
// followed by another ends the retries. An adaptive limiter asks whether a duration counts.
func (e *execution) IsCanceledWithResult() (bool, *result) {
	e.frame.asked = true
	if e.frame.verdict != nil || e.frame.unrun {
		return true, e.frame.verdict
	}
	if e.scope.ctx.Err() == nil {
		return false, nil
	}
	e.call.counts.mu.Lock()
	defer e.call.counts.mu.Unlock()
	return true, e.cancelledLocked()
}

// cancelledLocked returns the result of a cancelled execution, nil if it is not.
func (e *execution) cancelledLocked() *result {
	err := e.scope.ctx.Err()
	if err == nil {
		return nil
	}
	for s := e.scope; s != nil; s = s.parent {
		if s.result != nil {
			return s.result
		}
		if s.expired() {
			return &result{Error: timeout.ErrExceeded, Done: true}
		}
	}
	return &result{Error: err, Done: true}
}

// RecordResult notes the outcome of a try. It returns the result of the execution if that is cancelled.
func (e *execution) RecordResult(r *result) *result {
	e.call.counts.mu.Lock()
	defer e.call.counts.mu.Unlock()
	if cancelled := e.cancelledLocked(); cancelled != nil {
		return cancelled
	}
	e.noteLocked(r)
	return nil
}

func (e *execution) noteLocked(r *result) {
	if r != nil {
		e.lastResult, e.lastError = r.Result, r.Error
	}
}

// InitializeRetry begins a retry, after the policy's own delay: not before the time the server has asked for, and not at
// all if that delay would have gone beyond the deadline. It returns the result of the execution if there is to be no
// retry.
func (e *execution) InitializeRetry() *result {
	if e.frame.giveUp {
		e.frame.giveUp = false
		return e.failure()
	}
	e.awaitServer()
	e.call.counts.mu.Lock()
	defer e.call.counts.mu.Unlock()
	if cancelled := e.cancelledLocked(); cancelled != nil {
		return cancelled
	}
	if e.call.counts.attempts.Add(1) > 1 {
		e.call.counts.retries.Add(1)
	}
	e.began = e.ElapsedTime()
	return nil
}

// failure returns the last outcome as a final one.
func (e *execution) failure() *result {
	e.call.counts.mu.Lock()
	defer e.call.counts.mu.Unlock()
	return &result{Result: e.lastResult, Error: e.lastError, Done: true}
}

// awaitServer waits for the time that the server gave with its last failure.
func (e *execution) awaitServer() {
	e.call.counts.mu.Lock()
	last := e.lastError
	e.call.counts.mu.Unlock()
	waitUntil(e.scope.ctx, notBefore(last))
}

// waitUntil waits until a time, or until ctx is done.
func waitUntil(ctx context.Context, at time.Time) {
	if at.IsZero() {
		return
	}
	d := time.Until(at)
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// Cancel cancels the scope of the execution, which then has the result r. The first result stays.
func (e *execution) Cancel(r *result) {
	e.call.counts.mu.Lock()
	defer e.call.counts.mu.Unlock()
	s := e.scope
	expired := s.expired()
	if s.result != nil || s.ctx.Err() != nil && !expired {
		return
	}
	if r != nil {
		s.result = r
		e.noteLocked(r)
		if s.fired != nil {
			close(s.fired)
		}
	}
	// A timeout's context ends by its own deadline, at the same instant: that is DEADLINE_EXCEEDED to the attempt, and to
	// cancel it here would make it CANCELLED.
	if timedOut := r != nil && s.fired != nil; s.cancel != nil && !timedOut && (r != nil || !e.call.counts.deferred.Load()) {
		s.cancel()
	}
}

// DeferCancel keeps contexts alive until the function it returns is called.
func (e *execution) DeferCancel() func() {
	e.call.counts.deferred.Store(true)
	return func() {
		if e.call.counts.deferred.CompareAndSwap(true, false) {
			e.Cancel(nil)
		}
	}
}

// CopyWithResult returns a copy with another last result, for listeners.
func (e *execution) CopyWithResult(r *result) failsafe.Execution[any] {
	c := e.copy()
	c.noteLocked(r) // nobody else has the copy yet
	return c
}

// CopyForCancellable returns a copy with a scope of its own.
func (e *execution) CopyForCancellable() failsafe.Execution[any] {
	c := e.copy()
	c.enterScope(e.frame.limit, e.frame.timed)
	if e.frame.timed {
		c.scope.fired = make(chan struct{})
	}
	if e.frame.branching {
		c.frame.branches.begin()
	}
	return c
}

// CopyForHedge returns a copy for a hedge.
func (e *execution) CopyForHedge() failsafe.Execution[any] {
	c := e.copy()
	c.enterScope(0, false)
	c.hedge = true
	c.call.counts.attempts.Add(1)
	c.call.counts.hedges.Add(1)
	c.frame.branches.begin()
	return c
}

func (e *execution) copy() *execution {
	e.call.counts.mu.Lock()
	defer e.call.counts.mu.Unlock()
	c := *e
	c.frame = frame{branches: e.frame.branches}
	return &c
}

// enterScope begins a scope inside the current one, with a deadline if it is timed.
func (e *execution) enterScope(limit time.Duration, timed bool) {
	inside := &scope{parent: e.scope}
	if timed {
		inside.deadline = time.Now().Add(limit)
		inside.ctx, inside.cancel = context.WithDeadline(e.scope.ctx, inside.deadline)
	} else {
		inside.ctx, inside.cancel = context.WithCancel(e.scope.ctx)
	}
	e.scope = inside
}
