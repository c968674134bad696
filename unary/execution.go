package unary

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/common"
	"github.com/failsafe-go/failsafe-go/policy"
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
	ctx    context.Context    //nolint:containedctx // an execution is the context of the policies, as failsafe-go has it
	cancel context.CancelFunc // nil for the call: it ends with the caller's context
	parent *scope
	result *result // why it was cancelled; guarded by counts.mu
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

	verdict   *result              // an outcome that a retry policy is not to try again
	branches  *hedgeGroup[*result] // the hedges that run, inside a hedge policy
	reached   int32                // the innermost level of the chain that the current try has come to
	hedge     bool
	branching bool // copies of this execution are branches
	giveUp    bool // the next retry would come after the caller's deadline
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
func (e *execution) IsCanceledWithResult() (bool, *result) {
	if e.scope.ctx.Err() == nil {
		return false, nil
	}
	e.call.counts.mu.Lock()
	defer e.call.counts.mu.Unlock()
	return true, e.cancelledLocked()
}

// cancelledLocked returns the result of a cancelled execution, nil where it is not.
func (e *execution) cancelledLocked() *result {
	err := e.scope.ctx.Err()
	if err == nil {
		return nil
	}
	for s := e.scope; s != nil; s = s.parent {
		if s.result != nil {
			return s.result
		}
	}
	return &result{Error: err, Done: true}
}

// RecordResult notes the outcome of a try. It returns the result of the execution where that is cancelled.
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

// InitializeRetry begins a retry, after the policy's own delay: not before the time the server has asked for, and not
// at all where that delay would have gone beyond the caller's deadline. It returns the result of the execution where
// there is to be no retry.
func (e *execution) InitializeRetry() *result {
	if e.giveUp {
		e.giveUp = false
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

// Cancel cancels the scope of the execution, which then has the result r.
func (e *execution) Cancel(r *result) {
	e.call.counts.mu.Lock()
	defer e.call.counts.mu.Unlock()
	if e.scope.ctx.Err() != nil {
		return
	}
	if r != nil {
		e.scope.result = r
		e.noteLocked(r)
	}
	if e.scope.cancel != nil && (r != nil || !e.call.counts.deferred.Load()) {
		e.scope.cancel()
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
	c.enterScope()
	if e.branching {
		c.branches.begin()
	}
	return c
}

// CopyForHedge returns a copy for a hedge.
func (e *execution) CopyForHedge() failsafe.Execution[any] {
	c := e.copy()
	c.enterScope()
	c.hedge = true
	c.call.counts.attempts.Add(1)
	c.call.counts.hedges.Add(1)
	c.branches.begin()
	return c
}

func (e *execution) copy() *execution {
	e.call.counts.mu.Lock()
	defer e.call.counts.mu.Unlock()
	c := *e
	c.branching, c.verdict = false, nil
	return &c
}

func (e *execution) enterScope() {
	ctx, cancel := context.WithCancel(e.scope.ctx)
	e.scope = &scope{ctx: ctx, cancel: cancel, parent: e.scope}
}
