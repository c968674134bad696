package unary

import (
	"errors"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/timeout"

	"github.com/streamsafe/streamsafe/internal/policykind"
	"github.com/streamsafe/streamsafe/internal/rpcstatus"
)

// chain is the policies of a method, ready to run. It is read only once it is made.
type chain struct {
	levels   []level // the outermost first
	executor failsafe.Executor[any]
	// inTurn says that tries come one after the other and nothing keeps their replies, so that the first may decode into
	// the caller's own.
	inTurn bool
}

// level is one policy of a chain. Levels hold no state of a call: that is in the execution.
type level struct {
	policy failsafe.Policy[any]
	kind   policykind.Kind
	index  int32
	inner  func(failsafe.Execution[any]) *result // the part of the call that the policy goes around
}

// applier is the part of policy.Executor that an executor calls.
type applier interface {
	Apply(inner func(failsafe.Execution[any]) *result) func(failsafe.Execution[any]) *result
}

func newChain(policies []failsafe.Policy[any]) (*chain, error) {
	c := &chain{levels: make([]level, len(policies)), inTurn: true}
	var errs []error
	next := runTry
	for i := len(policies) - 1; i >= 0; i-- {
		if policies[i] == nil {
			errs = append(errs, errors.New("a policy is nil"))
			continue
		}
		l := &c.levels[i]
		*l = level{policy: policies[i], kind: policykind.Of(policies[i]), index: int32(i) + 1}
		switch l.kind {
		case policykind.Retry:
			l.inner = retried(next)
		case policykind.Hedge:
			l.inner = hedged(next)
			c.inTurn = false
		case policykind.Cache, policykind.Other:
			l.inner = seen(next)
			c.inTurn = false
		case policykind.AdaptiveLimiter, policykind.Bulkhead, policykind.CircuitBreaker:
			l.inner = seen(next)
		default:
			l.inner = seen(next)
		}
		next = l.run
	}
	return c, errors.Join(errs...)
}

func (c *chain) empty() bool { return len(c.levels) == 0 && c.executor == nil }

// run runs the policies around the tries of a call.
func (c *chain) run(e *execution) *result {
	if len(c.levels) == 0 {
		return runTry(e)
	}
	return c.levels[0].run(e)
}

// run runs one policy. A policy may keep state for an execution, so each entry has an executor of its own: two hedges
// do not share the count of a retry policy inside them.
func (l *level) run(exec failsafe.Execution[any]) *result {
	e, ok := exec.(*execution)
	if !ok {
		return &result{Error: errForeign, Done: true}
	}
	executor, ok := l.policy.ToExecutor(nil).(applier)
	if !ok {
		return &result{Error: errNoPolicy, Done: true}
	}
	e.reached = l.index
	var r *result
	switch l.kind {
	case policykind.Hedge:
		around, branching := e.branches, e.branching
		e.branches, e.branching = &hedgeGroup[*result]{}, true
		r = executor.Apply(l.inner)(e)
		e.branches, e.branching = around, branching
	case policykind.Retry:
		around := e.verdict
		e.verdict = nil
		r = executor.Apply(l.inner)(e)
		if e.verdict != nil {
			r = e.verdict
		}
		e.verdict = around
	case policykind.AdaptiveLimiter, policykind.Bulkhead, policykind.Cache, policykind.CircuitBreaker, policykind.Other:
		r = executor.Apply(l.inner)(e)
	default:
		r = executor.Apply(l.inner)(e)
	}
	if r.Error != nil && e.reached == l.index && rpcstatus.IsDenial(r.Error) {
		e.call.denied(l, r.Error)
	}
	return r
}

// seen shows the outcome of inner to a policy, which never sees a nil result where there is a reply type: a predicate
// may then assert the type without fear.
func seen(inner func(failsafe.Execution[any]) *result) func(failsafe.Execution[any]) *result {
	return func(exec failsafe.Execution[any]) *result {
		r := inner(exec)
		if e, ok := exec.(*execution); ok && r.Result == nil {
			return filled(r, e.call.side.blank())
		}
		return r
	}
}

// filled returns a copy of r that has a reply: hedges may share r.
func filled(r *result, reply any) *result {
	c := *r
	c.Result = reply
	return &c
}

// retried is the inside of a retry policy. Failures say whether they may be retried, and what is not to be retried
// whatever the policy says is noted and passes as a success: see level.run.
func retried(inner func(failsafe.Execution[any]) *result) func(failsafe.Execution[any]) *result {
	return func(exec failsafe.Execution[any]) *result {
		r := inner(exec)
		e, ok := exec.(*execution)
		if r.Error == nil || !ok {
			return r
		}
		if r.Result == nil {
			r = filled(r, e.call.side.blank())
		}
		failed, ok := errors.AsType[*tryError](r.Error)
		if !ok && errors.Is(r.Error, timeout.ErrExceeded) {
			failed = e.call.failure(r.Error, nil)
			r = filled(r, r.Result)
			r.Error = failed
		}
		if failed != nil && failed.final(e.scope.ctx) {
			e.verdict = r.WithFailure()
			return &result{Result: r.Result, Done: true, Success: true, SuccessAll: true}
		}
		return r
	}
}

// hedged is the inside of a hedge policy.
func hedged(inner func(failsafe.Execution[any]) *result) func(failsafe.Execution[any]) *result {
	return func(exec failsafe.Execution[any]) *result {
		e, ok := exec.(*execution)
		if !ok {
			return inner(exec)
		}
		r := inner(exec)
		if r.Result == nil {
			r = filled(r, e.call.side.blank())
		}
		return e.branches.end(e.scope.ctx, r, r.Error != nil)
	}
}

// runTry is the innermost part of every chain: one try.
func runTry(exec failsafe.Execution[any]) *result {
	e, ok := exec.(*execution)
	if !ok {
		return &result{Error: errForeign, Done: true}
	}
	e.reached = int32(len(e.call.settings.chain.levels)) + 1
	r := e.call.newResult()
	r.Result, r.Error = e.call.try(e.scope.ctx, e.hedge)
	r.Done, r.Success, r.SuccessAll = true, true, true
	e.call.counts.executions.Add(1)
	return r
}

var (
	errForeign  = errors.New("unary: a policy replaced the execution by one of its own")
	errNoPolicy = errors.New("unary: a policy makes no failsafe executor")
)
