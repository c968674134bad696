package backoff_test

import (
	"errors"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/budget"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/internal/backoff"
)

func asIs(_ failsafe.ExecutionAttempt[any], delay time.Duration) time.Duration { return delay }

// waits returns the waits between tries that all fail.
func waits(t *testing.T, b retrypolicy.Builder[any], retries int) []time.Duration {
	t.Helper()
	var times []time.Time
	err := failsafe.With[any](b.WithMaxRetries(retries).Build()).Run(func() error {
		times = append(times, time.Now())
		return errors.New("failed")
	})
	require.ErrorIs(t, err, retrypolicy.ErrExceeded)
	require.Len(t, times, retries+1)
	between := make([]time.Duration, retries)
	for i := range between {
		between[i] = times[i+1].Sub(times[i])
	}
	return between
}

// Invariant 20: no retry without a wait; the cap comes before the jitter; the first wait is jittered, too.
func TestWaits(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for name, c := range map[string]struct {
		build       func(retrypolicy.Builder[any]) retrypolicy.Builder[any]
		least, most []time.Duration
	}{
		"default": {
			func(b retrypolicy.Builder[any]) retrypolicy.Builder[any] { return b },
			[]time.Duration{1, 1, 1, 1},
			[]time.Duration{100 * ms, 200 * ms, 300 * ms, 300 * ms},
		},
		"fixed": {
			func(b retrypolicy.Builder[any]) retrypolicy.Builder[any] { return b.WithDelay(50 * ms).WithJitter(0) },
			[]time.Duration{50 * ms, 50 * ms},
			[]time.Duration{50 * ms, 50 * ms},
		},
		"backoff": {
			func(b retrypolicy.Builder[any]) retrypolicy.Builder[any] {
				return b.WithBackoff(10*ms, 25*ms).WithJitter(5 * ms)
			},
			[]time.Duration{5 * ms, 15 * ms, 20 * ms},
			[]time.Duration{15 * ms, 25 * ms, 30 * ms},
		},
		"factor": {
			func(b retrypolicy.Builder[any]) retrypolicy.Builder[any] {
				return b.WithBackoffFactor(10*ms, time.Second, 3).WithJitterFactor(0.1)
			},
			[]time.Duration{9 * ms, 27 * ms, 81 * ms},
			[]time.Duration{11 * ms, 33 * ms, 99 * ms},
		},
		"random": {
			func(b retrypolicy.Builder[any]) retrypolicy.Builder[any] { return b.WithRandomDelay(10*ms, 20*ms) },
			[]time.Duration{10 * ms, 10 * ms},
			[]time.Duration{20 * ms, 20 * ms},
		},
		"function": {
			func(b retrypolicy.Builder[any]) retrypolicy.Builder[any] {
				return b.WithJitter(0).WithDelayFunc(func(exec failsafe.ExecutionAttempt[any]) time.Duration {
					if exec.Retries() == 1 {
						return -1 // the backoff counts
					}
					return 7 * ms
				})
			},
			[]time.Duration{7 * ms, 200 * ms, 7 * ms},
			[]time.Duration{7 * ms, 200 * ms, 7 * ms},
		},
		"first above the cap": {
			func(b retrypolicy.Builder[any]) retrypolicy.Builder[any] {
				return b.WithBackoff(time.Minute, ms).WithJitter(0)
			},
			[]time.Duration{ms},
			[]time.Duration{ms},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				seen := map[time.Duration]bool{}
				for range 20 {
					for i, wait := range waits(t, c.build(backoff.NewBuilder(100*ms, 300*ms, asIs)), len(c.least)) {
						assert.GreaterOrEqual(t, wait, c.least[i], "retry %d", i+1)
						assert.LessOrEqual(t, wait, c.most[i], "retry %d", i+1)
						seen[wait] = true
					}
				}
				if c.least[0] != c.most[0] {
					assert.Greater(t, len(seen), 10, "the waits are random")
				}
			})
		})
	}
}

func TestSettleHasTheLastWord(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := backoff.NewBuilder(time.Second, time.Second, func(exec failsafe.ExecutionAttempt[any], delay time.Duration) time.Duration {
			require.EqualError(t, exec.LastError(), "failed")
			require.LessOrEqual(t, delay, time.Second)
			return time.Minute
		})
		require.Equal(t, []time.Duration{time.Minute, time.Minute}, waits(t, b, 2))
	})
}

// A policy keeps what its builder was when it was built, and each method returns the builder that waits.
func TestMethodsReturnTheBuilder(t *testing.T) {
	t.Parallel()
	builder := backoff.NewBuilder(time.Second, time.Second, asIs)
	want := reflect.TypeOf(builder)
	listener := func(failsafe.ExecutionEvent[any]) {}
	for name, got := range map[string]retrypolicy.Builder[any]{
		"HandleErrors": builder.HandleErrors(), "HandleErrorTypes": builder.HandleErrorTypes(),
		"HandleResult": builder.HandleResult(0), "HandleIf": builder.HandleIf(func(any, error) bool { return false }),
		"OnSuccess": builder.OnSuccess(listener), "OnFailure": builder.OnFailure(listener),
		"AbortOnResult": builder.AbortOnResult(0), "AbortOnErrors": builder.AbortOnErrors(),
		"AbortOnErrorTypes": builder.AbortOnErrorTypes(), "AbortIf": builder.AbortIf(func(any, error) bool { return false }),
		"ReturnLastFailure": builder.ReturnLastFailure(), "WithMaxAttempts": builder.WithMaxAttempts(1),
		"WithMaxRetries": builder.WithMaxRetries(1), "WithMaxDuration": builder.WithMaxDuration(1),
		"WithBudget": builder.WithBudget(budget.New()), "OnAbort": builder.OnAbort(listener), "OnRetry": builder.OnRetry(listener),
		"OnRetryScheduled":  builder.OnRetryScheduled(func(failsafe.ExecutionScheduledEvent[any]) {}),
		"OnRetriesExceeded": builder.OnRetriesExceeded(listener),
		"WithDelay":         builder.WithDelay(1), "WithBackoff": builder.WithBackoff(1, 2),
		"WithBackoffFactor": builder.WithBackoffFactor(1, 2, 3), "WithRandomDelay": builder.WithRandomDelay(1, 2),
		"WithDelayFunc": builder.WithDelayFunc(nil), "WithJitter": builder.WithJitter(0), "WithJitterFactor": builder.WithJitterFactor(0),
	} {
		assert.Equal(t, want, reflect.TypeOf(got), name)
	}
	methods := reflect.TypeFor[retrypolicy.Builder[any]]()
	for i := range methods.NumMethod() {
		if m := methods.Method(i); m.Name != "Build" {
			own, ok := want.MethodByName(m.Name)
			assert.True(t, ok && own.Type.NumOut() == 1, m.Name)
		}
	}
	require.Equal(t, 27, methods.NumMethod(), "failsafe-go has a method more: the builder needs it, too")
}

func TestPoliciesKeepWhatTheirBuilderWas(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := backoff.NewBuilder(time.Second, time.Second, asIs).WithDelay(time.Second).WithJitter(0).WithMaxRetries(1)
		policy := b.Build()
		b.WithDelay(time.Hour)
		began := time.Now()
		require.Error(t, failsafe.With[any](policy).Run(func() error { return errors.New("failed") }))
		require.Equal(t, time.Second, time.Since(began))
	})
}
