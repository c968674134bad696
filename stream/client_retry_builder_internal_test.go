package stream

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/budget"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/stretchr/testify/require"
)

// typedError is an error to be known by its type.
type typedError struct{}

func (typedError) Error() string { return "typed" }

// spent returns a budget that allows no retry: another one is going on.
func spent() budget.Budget {
	b := budget.NewBuilder().WithMaxRate(0.01).WithMinConcurrency(0).Build()
	b.(interface{ TryAcquirePermit() bool }).TryAcquirePermit()
	return b
}

var errOdd = errors.New("odd")

// tries runs a policy on a function that always fails with err, and returns how often that was called and the error.
func tries(policy retrypolicy.RetryPolicy[any], result any, err error) (int, error) {
	n := 0
	_, err = failsafe.With[any](policy).Get(func() (any, error) {
		time.Sleep(time.Millisecond)
		if n++; n > 20 {
			return nil, nil
		}
		return result, err
	})
	return n, err
}

// Every method of the builder takes effect, and none falls back to the builder inside.
func TestEveryMethodOfTheRetryBuilder(t *testing.T) {
	t.Parallel()
	isOdd := func(_ any, err error) bool { return errors.Is(err, errOdd) }
	tests := map[string]struct {
		set    func(retrypolicy.Builder[any]) retrypolicy.Builder[any]
		result any
		err    error
		want   int // calls
	}{
		"nothing set":  {func(b retrypolicy.Builder[any]) retrypolicy.Builder[any] { return b }, nil, errOdd, 1},
		"a break":      {func(b retrypolicy.Builder[any]) retrypolicy.Builder[any] { return b }, nil, broken(0), 21},
		"HandleErrors": {func(b retrypolicy.Builder[any]) retrypolicy.Builder[any] { return b.HandleErrors(errOdd) }, nil, errOdd, 21},
		"HandleErrorTypes": {func(b retrypolicy.Builder[any]) retrypolicy.Builder[any] {
			return b.HandleErrorTypes(typedError{})
		}, nil, typedError{}, 21},
		"HandleResult": {func(b retrypolicy.Builder[any]) retrypolicy.Builder[any] { return b.HandleResult("bad") }, "bad", nil, 21},
		"HandleIf":     {func(b retrypolicy.Builder[any]) retrypolicy.Builder[any] { return b.HandleIf(isOdd) }, nil, errOdd, 21},
		"AbortOnErrors": {func(b retrypolicy.Builder[any]) retrypolicy.Builder[any] {
			return b.HandleErrors(errOdd).AbortOnErrors(errOdd)
		}, nil, errOdd, 1},
		"AbortOnErrorTypes": {func(b retrypolicy.Builder[any]) retrypolicy.Builder[any] {
			return b.HandleErrorTypes(typedError{}).AbortOnErrorTypes(typedError{})
		}, nil, typedError{}, 1},
		"AbortOnResult": {func(b retrypolicy.Builder[any]) retrypolicy.Builder[any] {
			return b.HandleResult("bad").AbortOnResult("bad")
		}, "bad", nil, 1},
		"AbortIf": {func(b retrypolicy.Builder[any]) retrypolicy.Builder[any] {
			return b.HandleErrors(errOdd).AbortIf(isOdd)
		}, nil, errOdd, 1},
		"WithMaxRetries":  {func(b retrypolicy.Builder[any]) retrypolicy.Builder[any] { return b.WithMaxRetries(3) }, nil, broken(0), 4},
		"WithMaxAttempts": {func(b retrypolicy.Builder[any]) retrypolicy.Builder[any] { return b.WithMaxAttempts(3) }, nil, broken(0), 3},
		"WithMaxDuration": {func(b retrypolicy.Builder[any]) retrypolicy.Builder[any] {
			return b.WithJitter(0).WithDelay(time.Second).WithMaxDuration(2500 * time.Millisecond)
		}, nil, broken(0), 4},
		"WithBudget": {func(b retrypolicy.Builder[any]) retrypolicy.Builder[any] {
			return b.WithBudget(spent())
		}, nil, broken(0), 1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := test.set(NewRetryPolicyBuilder())
				require.IsType(t, NewRetryPolicyBuilder(), b, "the chain goes on with this package's builder")
				got, _ := tries(b.Build(), test.result, test.err)
				require.Equal(t, test.want, got, "calls")
			})
		})
	}
}

func TestListenersOfTheRetryBuilder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var heard []string
		hear := func(name string) func(failsafe.ExecutionEvent[any]) {
			return func(failsafe.ExecutionEvent[any]) { heard = append(heard, name) }
		}
		b := NewRetryPolicyBuilder()
		for _, next := range []func() retrypolicy.Builder[any]{
			func() retrypolicy.Builder[any] { return b.OnSuccess(hear("success")) },
			func() retrypolicy.Builder[any] { return b.OnFailure(hear("failure")) },
			func() retrypolicy.Builder[any] { return b.OnAbort(hear("abort")) },
			func() retrypolicy.Builder[any] { return b.OnRetry(hear("retry")) },
			func() retrypolicy.Builder[any] { return b.OnRetriesExceeded(hear("exceeded")) },
			func() retrypolicy.Builder[any] {
				return b.OnRetryScheduled(func(failsafe.ExecutionScheduledEvent[any]) { heard = append(heard, "scheduled") })
			},
			func() retrypolicy.Builder[any] { return b.AbortOnErrors(errOdd) },
			func() retrypolicy.Builder[any] { return b.HandleErrors(errOdd) },
			func() retrypolicy.Builder[any] { return b.WithMaxRetries(1) },
			func() retrypolicy.Builder[any] { return b.ReturnLastFailure() },
		} {
			b = next()
			require.IsType(t, NewRetryPolicyBuilder(), b)
		}
		_, err := tries(b.Build(), nil, broken(0))
		require.Equal(t, []string{"failure", "scheduled", "retry", "failure", "exceeded"}, heard)
		require.IsType(t, &attemptError{}, err, "ReturnLastFailure")
		heard = nil
		_, _ = tries(b.Build(), nil, errOdd)
		require.Equal(t, []string{"failure", "abort"}, heard)
		heard = nil
		_, _ = tries(b.Build(), nil, nil)
		require.Equal(t, []string{"success"}, heard)
	})
}

// A policy that was built is not changed by what its builder is told later.
func TestABuiltRetryPolicyStaysAsItIs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := NewRetryPolicyBuilder().WithJitter(0)
		first := b.Build()
		second := b.WithDelay(time.Minute).Build()
		_, slept := delaysOf(t, first, broken(0))
		require.Equal(t, []time.Duration{100 * time.Millisecond}, slept)
		_, slept = delaysOf(t, second, broken(0))
		require.Equal(t, []time.Duration{time.Minute}, slept)
	})
}
