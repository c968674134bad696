package trial

import (
	"errors"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/common"
	"github.com/failsafe-go/failsafe-go/policy"
	"github.com/failsafe-go/failsafe-go/timeout"
	"google.golang.org/grpc/codes"

	"github.com/streamsafe/streamsafe/internal/rpcstatus"
)

// Result is what policies pass to each other.
type Result = common.PolicyResult[any]

// Judge is the part of a policy's executor that judges outcomes.
type Judge interface {
	IsFailure(result any, err error) bool
	OnSuccess(exec policy.ExecutionInternal[any], result *Result)
	OnFailure(exec policy.ExecutionInternal[any], result *Result) *Result
}

// Run runs inner under a breaker, whose executor is judge. Inner tells whether it let anything run.
func Run(
	b circuitbreaker.CircuitBreaker[any], judge Judge, exec policy.ExecutionInternal[any], inner func() (r *Result, ran bool),
) *Result {
	halfOpen, ok := Acquire(b)
	if !ok {
		return &Result{Error: circuitbreaker.ErrOpen, Done: true}
	}
	judged := false
	defer func() { // whatever happens in inner and in the breaker's listeners
		if halfOpen && !judged {
			Return(b)
		}
	}()
	r, ran := inner()
	if !halfOpen && b.IsHalfOpen() {
		return r // it is from before the trial: as a verdict it would add to the trial's permits
	}
	r, judged = Verdict(judge, exec, r, ran)
	return r
}

// Verdict lets a policy judge an outcome, unless that says nothing about whoever was called. These say nothing:
//
//   - The caller has gone, or a hedge has won elsewhere.
//   - A policy denied the call, or nothing ran for another reason. The policy's own conditions may make it a failure.
//   - CANCELLED, unless the policy's own conditions make it a failure.
func Verdict(judge Judge, exec policy.ExecutionInternal[any], r *Result, ran bool) (*Result, bool) {
	if r.Error == nil && ran {
		return apply(judge, exec, r, judge.IsFailure(r.Result, nil))
	}
	seen := r
	if cancelled, with := exec.IsCanceledWithResult(); cancelled && r.Error != nil {
		switch {
		case !ran:
			return r, false
		case errors.Is(with.Error, timeout.ErrExceeded):
			seen = &Result{Result: r.Result, Error: with.Error} // whatever the attempt says: it was too slow
		case !rpcstatus.AtDeadline(exec.Context(), exec.StartTime()):
			return r, false
		}
	}
	denied := rpcstatus.IsDenial(seen.Error)
	if !ran && !denied && seen.Error != nil {
		return r, false
	}
	if judge.IsFailure(seen.Result, seen.Error) {
		return apply(judge, exec, r, true)
	}
	if !ran || denied || rpcstatus.Of(seen.Error).Code() == codes.Canceled {
		return r, false
	}
	return apply(judge, exec, r, false)
}

func apply(judge Judge, exec policy.ExecutionInternal[any], r *Result, failure bool) (*Result, bool) {
	if failure {
		return judge.OnFailure(exec, r.WithFailure()), true
	}
	r = r.WithDone(true, true)
	judge.OnSuccess(exec, r)
	return r, true
}

// Breaker is a circuit breaker that takes trials back also under an executor of failsafe-go.
type Breaker struct {
	circuitbreaker.CircuitBreaker[any]
}

// TryAcquirePermit takes a permit, first one that was given back without a verdict.
func (b *Breaker) TryAcquirePermit() bool {
	_, ok := Acquire(b)
	return ok
}

// ResultAgnostic lets the breaker be used with executors for any type of result.
func (*Breaker) ResultAgnostic() {}

// ToExecutor returns what runs a call under the breaker.
func (b *Breaker) ToExecutor(any) any { return &executor{b.CircuitBreaker} }

type executor struct {
	breaker circuitbreaker.CircuitBreaker[any]
}

// Apply is the part of policy.Executor that failsafe-go calls.
func (e *executor) Apply(inner func(failsafe.Execution[any]) *Result) func(failsafe.Execution[any]) *Result {
	return func(exec failsafe.Execution[any]) *Result {
		own, isJudge := e.breaker.ToExecutor(nil).(Judge)
		internal, isInternal := exec.(policy.ExecutionInternal[any])
		if !isJudge || !isInternal {
			return &Result{Error: errForeign, Done: true}
		}
		return Run(e.breaker, own, internal, func() (*Result, bool) {
			before := internal.Executions()
			r := inner(exec)
			return r, internal.Executions() != before
		})
	}
}

var errForeign = errors.New("the circuit breaker or its execution is not failsafe-go's")
