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
	"pgregory.net/rapid"

	"github.com/streamsafe/streamsafe/internal/rpcstatus"
)

// broken is an attempt that may be resumed, with what the server asked for.
func broken(asked time.Duration) *attemptError {
	return &attemptError{op: "recv", cause: status.Error(codes.Unavailable, "gone"), hint: rpcstatus.Hint{Given: asked > 0, Delay: asked}}
}

// delaysOf runs a policy on failures, and returns how long it waited before each retry, as told and as slept.
func delaysOf(t *testing.T, policy retrypolicy.RetryPolicy[any], failures ...error) (told, slept []time.Duration) {
	t.Helper()
	ctx := withSchedule(t.Context(), func(d time.Duration) { told = append(told, d) })
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

// Invariant 20: cap, then jitter; the first delay is jittered too, and none is zero.
func TestBoundsOfJitter(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		first := time.Duration(rapid.Int64Range(1, int64(time.Minute)).Draw(t, "first"))
		most := first + time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "more"))
		factor := rapid.Float64Range(1.1, 10).Draw(t, "factor")
		kind := rapid.SampledFrom([]string{"full", "jitter", "factor", "random"}).Draw(t, "kind")
		jitter := time.Duration(rapid.Int64Range(0, int64(first)).Draw(t, "jitter"))
		share := rapid.Float64Range(0, 1).Draw(t, "share")
		b := NewRetryPolicyBuilder().WithBackoffFactor(first, most, factor)
		switch kind {
		case "jitter":
			b.WithJitter(jitter)
		case "factor":
			b.WithJitterFactor(share)
		case "random":
			b.WithRandomDelay(first, most)
		}
		chosen := b.(*retryBuilder).backoff
		for retries := range 12 {
			base := float64(first)
			for range retries {
				base = min(base*factor, float64(most))
			}
			low, high := 0.0, base
			switch kind {
			case "jitter":
				low, high = base-float64(jitter), base+float64(jitter)
			case "factor":
				low, high = base-base*share-1, base+base*share+1
			case "random":
				low, high = float64(first), float64(most)
			}
			got := float64(chosen.delay(retried{retries: retries}))
			if got < low-1 || got > high+1 || got < 0 || (kind == "full" && got == 0) {
				t.Fatalf("retry %d: %v is not within %v and %v", retries, got, low, high)
			}
		}
	})
}

// retried is an execution that has been retried so often.
type retried struct {
	failsafe.ExecutionAttempt[any]
	retries int
}

func (r retried) Retries() int     { return r.retries }
func (r retried) LastError() error { return broken(0) }

// The order of the builder's methods does not take the jitter away.
func TestJitterIsBackAfterARandomDelay(t *testing.T) {
	t.Parallel()
	b := NewRetryPolicyBuilder().WithRandomDelay(time.Second, 2*time.Second).WithBackoff(time.Second, time.Second)
	seen := map[time.Duration]bool{}
	for range 100 {
		seen[b.(*retryBuilder).backoff.delay(retried{})] = true
	}
	require.Greater(t, len(seen), 90)
	b = NewRetryPolicyBuilder().WithJitter(time.Minute).WithRandomDelay(time.Hour, time.Hour)
	require.NotEqual(t, time.Hour, b.(*retryBuilder).backoff.delay(retried{}), "jitter that was asked for stays")
}

func TestJitterSpreads(t *testing.T) {
	t.Parallel()
	chosen := NewRetryPolicyBuilder().(*retryBuilder).backoff
	var sum time.Duration
	seen := map[time.Duration]bool{}
	for range 1000 {
		d := chosen.delay(retried{})
		sum += d
		seen[d] = true
	}
	require.Greater(t, len(seen), 900, "the first delay is jittered")
	require.InDelta(t, 50*time.Millisecond, sum/1000, float64(5*time.Millisecond), "in the mean")
}

func TestWhatIsWorthWaitingFor(t *testing.T) {
	t.Parallel()
	final := &attemptError{op: "recv", cause: status.Error(codes.Unavailable, "x"), final: true}
	for name, test := range map[string]struct {
		err  error
		want bool
	}{
		"a break":             {broken(0), true},
		"the last word":       {final, false},
		"breaker open":        {circuitbreaker.ErrOpen, true},
		"rate limit":          {ratelimiter.ErrExceeded, true},
		"bulkhead full":       {bulkhead.ErrFull, true},
		"a policy's time out": {timeout.ErrExceeded, true},
		"budget spent":        {budget.ErrExceeded, false},
		"cancelled":           {context.Canceled, false},
		"anything else":       {errors.New("what"), false},
		"nothing":             {nil, false},
	} {
		require.Equal(t, test.want, test.err != nil && worthWaiting(test.err), name)
	}
}
