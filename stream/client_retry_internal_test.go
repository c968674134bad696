package stream

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/budget"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/failsafe-go/failsafe-go/timeout"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/internal/rpcstatus"
)

// broken is an attempt that may be resumed, with what the server asked for.
func broken(asked time.Duration) *attemptError {
	return &attemptError{op: "recv", cause: status.Error(codes.Unavailable, "gone"), hint: rpcstatus.Hint{Given: asked > 0, Delay: asked}}
}

// delaysOf runs a policy on failures, and returns how long it waited before each retry, as told and as slept.
func delaysOf(t *testing.T, policy retrypolicy.RetryPolicy[any], failures ...error) (told, slept []time.Duration) {
	t.Helper()
	delays := &schedule{
		tell:  func(d time.Duration) { told = append(told, d) },
		floor: func() time.Duration { return 0 },
	}
	ctx := withSchedule(t.Context(), delays)
	last := time.Now()
	i := 0
	err := failsafe.With[any](policy).WithContext(ctx).Run(func() error {
		if i > 0 {
			slept = append(slept, time.Since(last))
		}
		last = time.Now()
		i++
		if i > len(failures) {
			return nil
		}
		if e, ok := errors.AsType[*attemptError](failures[i-1]); ok {
			delays.noteEnd(e)
		}
		return failures[i-1]
	})
	require.NoError(t, err)
	return told, slept
}

func repeat(err error, n int) []error {
	errs := make([]error, n)
	for i := range errs {
		errs[i] = err
	}
	return errs
}

func TestDelaysOfTheRetryBuilder(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	builder := func() retrypolicy.Builder[any] { return NewRetryPolicyBuilder().WithJitter(0) }
	tests := map[string]struct {
		builder retrypolicy.Builder[any]
		want    []time.Duration
	}{
		"default":        {builder(), []time.Duration{100 * ms, 200 * ms, 400 * ms, 800 * ms, 1600 * ms, 3200 * ms, 6400 * ms, 10_000 * ms, 10_000 * ms}},
		"backoff":        {builder().WithBackoff(time.Second, 3*time.Second), []time.Duration{1000 * ms, 2000 * ms, 3000 * ms, 3000 * ms}},
		"backoff factor": {builder().WithBackoffFactor(time.Second, 20*time.Second, 3), []time.Duration{1000 * ms, 3000 * ms, 9000 * ms, 20_000 * ms}},
		"delay":          {builder().WithDelay(time.Second), []time.Duration{1000 * ms, 1000 * ms, 1000 * ms}},
		"delay function": {
			builder().WithDelayFunc(func(exec failsafe.ExecutionAttempt[any]) time.Duration {
				if exec.Retries() == 1 {
					return -1 // not its business
				}
				return time.Duration(exec.Retries()+5) * time.Second
			}), []time.Duration{5000 * ms, 200 * ms, 7000 * ms},
		},
		"factor of no jitter": {NewRetryPolicyBuilder().WithJitterFactor(0), []time.Duration{100 * ms, 200 * ms}},
		"backoff after a random delay": {
			NewRetryPolicyBuilder().WithJitter(0).WithRandomDelay(time.Hour, 2*time.Hour).WithBackoff(time.Second, time.Second),
			[]time.Duration{1000 * ms, 1000 * ms},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				told, slept := delaysOf(t, test.builder.Build(), repeat(broken(0), len(test.want))...)
				require.Equal(t, test.want, slept)
				require.Equal(t, slept, told, "the observer is told the truth")
			})
		})
	}
}

// What the server asks for is the least, whatever the builder was told.
func TestTheServersDelayIsAFloor(t *testing.T) {
	t.Parallel()
	builders := map[string]retrypolicy.Builder[any]{
		"default": NewRetryPolicyBuilder(),
		"delay":   NewRetryPolicyBuilder().WithDelay(time.Second),
		"random":  NewRetryPolicyBuilder().WithRandomDelay(time.Second, 2*time.Second),
		"jitter":  NewRetryPolicyBuilder().WithJitterFactor(0.5),
		"function": NewRetryPolicyBuilder().WithDelayFunc(func(failsafe.ExecutionAttempt[any]) time.Duration {
			return time.Second
		}),
	}
	for name, builder := range builders {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				_, slept := delaysOf(t, builder.Build(), broken(0), broken(time.Minute), broken(0))
				require.Less(t, slept[0], 3*time.Second)
				require.Equal(t, time.Minute, slept[1], "the server has asked for it")
				require.Less(t, slept[2], 3*time.Second, "this time it has not")
			})
		})
	}
}

func TestWhatIsWorthWaitingFor(t *testing.T) {
	t.Parallel()
	final := &attemptError{op: "recv", cause: status.Error(codes.Unavailable, "x"), final: true}
	for name, test := range map[string]struct {
		err  error
		want bool
	}{
		"a break":                {broken(0), true},
		"the last word":          {final, false},
		"breaker open":           {circuitbreaker.ErrOpen, true},
		"rate limit":             {ratelimiter.ErrExceeded, true},
		"bulkhead full":          {bulkhead.ErrFull, true},
		"a policy's time out":    {timeout.ErrExceeded, true},
		"budget spent":           {budget.ErrExceeded, false},
		"cancelled":              {context.Canceled, false},
		"anything else":          {errors.New("what"), false},
		"nothing":                {nil, false},
		"a policy's UNAVAILABLE": {status.Error(codes.Unavailable, "a fallback's"), true},
		"a policy's NOT_FOUND":   {status.Error(codes.NotFound, "a fallback's"), false},
	} {
		require.Equal(t, test.want, test.err != nil && worthWaiting(test.err), name)
	}
}
