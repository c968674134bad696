package policykind_test

import (
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/adaptivelimiter"
	"github.com/failsafe-go/failsafe-go/adaptivethrottler"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/cachepolicy"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/fallback"
	"github.com/failsafe-go/failsafe-go/hedgepolicy"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/failsafe-go/failsafe-go/timeout"
	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/internal/policykind"
)

type own struct{ failsafe.Policy[any] }

// A new version of failsafe-go that moves a policy makes this red.
func TestKinds(t *testing.T) {
	t.Parallel()
	for want, policies := range map[policykind.Kind][]failsafe.Policy[any]{
		policykind.AdaptiveLimiter: {adaptivelimiter.NewWithDefaults[any]()},
		policykind.AdaptiveThrottler: {
			adaptivethrottler.NewWithDefaults[any](),
			adaptivethrottler.NewBuilder[any]().BuildPrioritized(adaptivethrottler.NewPrioritizer()),
		},
		policykind.Fallback:       {fallback.NewWithResult[any](nil)},
		policykind.RateLimiter:    {ratelimiter.NewBursty[any](1, time.Second), ratelimiter.NewSmooth[any](1, time.Second)},
		policykind.Timeout:        {timeout.New[any](time.Second)},
		policykind.Bulkhead:       {bulkhead.New[any](1)},
		policykind.Cache:          {cachepolicy.New[any](nil)},
		policykind.CircuitBreaker: {circuitbreaker.NewWithDefaults[any]()},
		policykind.Hedge:          {hedgepolicy.NewWithDelay[any](time.Second)},
		policykind.Retry:          {retrypolicy.NewWithDefaults[any](), retrypolicy.NewBuilder[any]().WithDelay(time.Second).Build()},
		policykind.Other:          {own{}, &own{}, nil},
	} {
		for _, p := range policies {
			require.Equal(t, want, policykind.Of(p), "%T", p)
		}
	}
}

// A new version of failsafe-go that keeps the limits in other fields makes this red.
func TestLimits(t *testing.T) {
	t.Parallel()
	limit, listened, ok := policykind.TimeLimit(timeout.New[any](time.Second))
	require.True(t, ok)
	require.False(t, listened)
	require.Equal(t, time.Second, limit)
	_, listened, ok = policykind.TimeLimit(timeout.NewBuilder[any](0).OnTimeoutExceeded(func(failsafe.ExecutionDoneEvent[any]) {}).Build())
	require.True(t, ok)
	require.True(t, listened)
	require.Equal(t, time.Minute, policykind.MaxDuration(retrypolicy.NewBuilder[any]().WithMaxDuration(time.Minute).Build()))
	require.Zero(t, policykind.MaxDuration(retrypolicy.NewWithDefaults[any]()))
	for _, other := range []failsafe.Policy[any]{nil, own{}, &own{}, bulkhead.New[any](1), retrypolicy.NewWithDefaults[any]()} {
		_, _, ok := policykind.TimeLimit(other)
		require.False(t, ok, "%T", other)
	}
	require.Zero(t, policykind.MaxDuration(timeout.New[any](time.Second)))
}

// A new version of failsafe-go that keeps the waits in other fields makes this red.
func TestWaits(t *testing.T) {
	t.Parallel()
	limiter := adaptivelimiter.NewBuilder[any]().WithMaxWaitTime(time.Second)
	for want, policies := range map[time.Duration][]failsafe.Policy[any]{
		0: {
			ratelimiter.NewBursty[any](1, time.Second), ratelimiter.NewSmooth[any](1, time.Second), bulkhead.New[any](1),
			adaptivelimiter.NewWithDefaults[any](),
		},
		time.Second: {
			ratelimiter.NewSmoothBuilder[any](1, time.Second).WithMaxWaitTime(time.Second).Build(),
			bulkhead.NewBuilder[any](1).WithMaxWaitTime(time.Second).Build(), limiter.Build(),
			limiter.WithQueueing(1, 2).Build(), limiter.BuildPrioritized(adaptivelimiter.NewPrioritizer()),
		},
		-1: {adaptivelimiter.NewBuilder[any]().BuildPrioritized(adaptivelimiter.NewPrioritizer())},
	} {
		for _, p := range policies {
			most, ok := policykind.MaxWait(p)
			require.True(t, ok, "%T", p)
			require.Equal(t, want, most, "%T", p)
		}
	}
	for _, other := range []failsafe.Policy[any]{nil, own{}, &own{}, timeout.New[any](time.Second), circuitbreaker.NewWithDefaults[any]()} {
		_, ok := policykind.MaxWait(other)
		require.False(t, ok, "%T", other)
	}
}
