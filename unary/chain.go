package unary

import (
	"errors"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"

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
	inner  part // the part of the call that the policy goes around

	limit    time.Duration // of a timeout, and of a retry policy in all
	timed    bool          // the limit of the timeout is known
	listened bool          // the timeout has a listener
}

// part is a part of a call: the tries, and the policies around them.
type part func(failsafe.Execution[any]) *result

// applier is the part of policy.Executor that an executor calls.
type applier interface {
	Apply(inner func(failsafe.Execution[any]) *result) func(failsafe.Execution[any]) *result
}

func newChain(policies []failsafe.Policy[any]) (*chain, error) {
	c := &chain{levels: make([]level, len(policies)), inTurn: true}
	var errs []error
	next := part(runTry)
	for i := len(policies) - 1; i >= 0; i-- {
		if policies[i] == nil {
			errs = append(errs, errors.New("a policy is nil: leave it out"))
			continue
		}
		l := &c.levels[i]
		*l = level{policy: policies[i], kind: policykind.Of(policies[i]), index: int32(i) + 1}
		if _, ok := l.policy.(circuitbreaker.CircuitBreaker[any]); ok {
			l.kind = policykind.CircuitBreaker // also one of NewCircuitBreakerBuilder, or around one
		}
		switch l.kind {
		case policykind.Retry:
			l.limit = policykind.MaxDuration(l.policy)
			l.inner = retried(next)
		case policykind.Timeout:
			l.limit, l.listened, l.timed = policykind.TimeLimit(l.policy)
			l.inner = timed(next)
		case policykind.Hedge:
			l.inner = hedged(next)
			c.inTurn = false
		case policykind.Cache, policykind.Other:
			l.inner = seen(next)
			c.inTurn = false
		case policykind.AdaptiveLimiter, policykind.AdaptiveThrottler, policykind.Bulkhead, policykind.CircuitBreaker,
			policykind.Fallback, policykind.RateLimiter:
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
	around := e.frame
	r := l.apply(e, executor)
	e.frame = around
	if r.Error != nil && l.denies() && e.reached == l.index && rpcstatus.IsDenial(r.Error) {
		e.call.denied(l, r.Error)
	}
	return r
}

// denies reports whether policies of this kind may let nothing run. The others let something run, and pass on what it
// returns.
func (l *level) denies() bool {
	switch l.kind {
	case policykind.Cache, policykind.Fallback, policykind.Hedge, policykind.Retry, policykind.Timeout:
		return false
	case policykind.AdaptiveLimiter, policykind.AdaptiveThrottler, policykind.Bulkhead, policykind.CircuitBreaker,
		policykind.RateLimiter, policykind.Other:
		return true
	default:
		return true
	}
}

// seen shows the outcome of inner to a policy, which never sees a nil result if there is a reply type: a predicate
// may then assert the type without fear.
func seen(inner part) part {
	return func(exec failsafe.Execution[any]) *result {
		e, ok := exec.(*execution)
		if !ok {
			return inner(exec)
		}
		return filled(e, contain(e, inner))
	}
}

// filled returns r with a reply: a copy if it had none, as hedges may share r.
func filled(e *execution, r *result) *result {
	if r.Result != nil {
		return r
	}
	c := *r
	c.Result = e.call.side.blank()
	return &c
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

// contain runs a part of the call. A panic in it (of the handler, of a predicate, a listener or an observer) is a failure to
// the policies around, which let go of what they hold. At the end of the call it goes on: see call.run.
func contain(e *execution, inner part) (r *result) {
	around, returned := e.frame, false
	defer func() {
		if returned {
			return
		}
		if value := recover(); value != nil { // or runtime.Goexit
			e.frame = around
			r = &result{Error: e.call.failure(e.call.panics(value), made{}), Done: true}
		}
	}()
	r = inner(e)
	returned = true
	return r
}

var (
	errForeign  = errors.New("unary: a policy replaced the execution by one of its own")
	errNoPolicy = errors.New("unary: a policy makes no failsafe executor")
)
