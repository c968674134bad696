package permit_test

import (
	"context"
	"math"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/adaptivelimiter"
	"github.com/failsafe-go/failsafe-go/adaptivethrottler"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/priority"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/internal/permit"
	"github.com/streamsafe/streamsafe/internal/policykind"
	"github.com/streamsafe/streamsafe/internal/verify"
)

func sorted(names []string) []string {
	slices.Sort(names)
	return names
}

func chainOf(t *testing.T, policies ...failsafe.Policy[any]) *permit.Chain {
	t.Helper()
	c, err := permit.NewChain(policies...)
	require.NoError(t, err)
	return c
}

func TestPoliciesWithoutPermitsAreRefused(t *testing.T) {
	t.Parallel()
	_, err := permit.NewChain(bulkhead.New[any](1), nil)
	require.ErrorIs(t, err, permit.ErrNil)
	_, err = permit.NewChain(retrypolicy.NewWithDefaults[any]())
	var none *permit.NoPermitsError
	require.ErrorAs(t, err, &none)
	require.ErrorContains(t, err, "has no permits")
}

// wrapped is a limiter that failsafe-go did not make.
type wrapped struct{ ratelimiter.RateLimiter[any] }

func TestGatesKnowTheirPolicies(t *testing.T) {
	t.Parallel()
	breaker := circuitbreaker.NewBuilder[any]().WithDelay(time.Hour).Build()
	breaker.Open()
	for _, c := range []struct {
		policy                       failsafe.Policy[any]
		kind                         policykind.Kind
		denial                       error
		occupies, prioritized, waits bool
	}{
		{ratelimiter.NewBursty[any](1, time.Second), policykind.RateLimiter, ratelimiter.ErrExceeded, false, false, true},
		{wrapped{ratelimiter.NewBursty[any](1, time.Second)}, policykind.RateLimiter, ratelimiter.ErrExceeded, false, false, false},
		{bulkhead.New[any](1), policykind.Bulkhead, bulkhead.ErrFull, true, false, true},
		{breaker, policykind.CircuitBreaker, circuitbreaker.ErrOpen, false, false, true},
		{adaptivelimiter.NewWithDefaults[any](), policykind.AdaptiveLimiter, adaptivelimiter.ErrExceeded, true, false, true},
		{
			adaptivelimiter.NewBuilder[any]().BuildPrioritized(adaptivelimiter.NewPrioritizer()),
			policykind.AdaptiveLimiter, adaptivelimiter.ErrExceeded, true, true, true,
		},
		{adaptivethrottler.NewWithDefaults[any](), policykind.AdaptiveThrottler, adaptivethrottler.ErrExceeded, false, false, true},
		{
			adaptivethrottler.NewBuilder[any]().BuildPrioritized(adaptivethrottler.NewPrioritizer()),
			policykind.AdaptiveThrottler, adaptivethrottler.ErrExceeded, false, true, true,
		},
	} {
		g := chainOf(t, c.policy).Gates()[0]
		require.Equal(t, c.kind, g.Kind(), "%T", c.policy)
		require.Equal(t, c.denial, g.Denial(), "%T", c.policy)
		require.Equal(t, c.occupies, g.Occupies(), "%T", c.policy)
		require.Equal(t, c.prioritized, g.IsPrioritized(), "%T", c.policy)
		require.Equal(t, c.waits, g.Waits(), "%T", c.policy)
		require.Equal(t, c.policy == failsafe.Policy[any](breaker), g.RetryAfter() > 0, "%T", c.policy)
		if p, ok := g.Try(t.Context(), 0); ok {
			require.Equal(t, c.occupies, p.Occupies(), "%T", c.policy)
			p.End(permit.Served, nil)
		}
	}
}

// What has a level that is none reaches no policy.
func TestLevelsAreIndexes(t *testing.T) {
	t.Parallel()
	limited := adaptivelimiter.NewBuilder[any]().WithLimits(1, 1, 1).BuildPrioritized(adaptivelimiter.NewPrioritizer())
	c := chainOf(t, adaptivethrottler.NewBuilder[any]().BuildPrioritized(adaptivethrottler.NewPrioritizer()), limited)
	for _, level := range []int{-1, -17, 500, math.MaxInt, math.MinInt, 0, 499} {
		ctx := priority.ContextWithLevel(t.Context(), level)
		var held, more permit.Held
		_, err := c.Acquire(ctx, &held)
		require.NoError(t, err, level)
		waiting, cancel := context.WithCancel(ctx)
		cancel()
		_, err = c.Acquire(waiting, &more) // there is no room: the level is recorded
		require.Error(t, err, level)
		held.End(permit.Served, nil)
	}
	for level, want := range map[int]int{-2: 0, 0: 0, 7: 7, 499: 499, 500: 499} {
		got, ok := permit.Level(priority.ContextWithLevel(t.Context(), level))
		require.Equal(t, want, got)
		require.Equal(t, level >= 0, ok)
	}
	_, ok := permit.Level(t.Context())
	require.False(t, ok)
}

// Invariant 37: a context that ends a wait is no verdict for the policies around, and gives their permits back.
func TestWaitsEndWithTheContext(t *testing.T) {
	t.Parallel()
	for name, last := range map[string]failsafe.Policy[any]{
		"rate limiter": ratelimiter.NewSmoothBuilderWithMaxRate[any](time.Hour).WithMaxWaitTime(2 * time.Hour).Build(),
		"bulkhead":     bulkhead.NewBuilder[any](1).WithMaxWaitTime(2 * time.Hour).Build(),
		"limiter":      adaptivelimiter.NewBuilder[any]().WithLimits(1, 1, 1).WithMaxWaitTime(-1).Build(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			breaker := circuitbreaker.NewBuilder[any]().WithFailureThreshold(1).Build()
			breaker.HalfOpen()
			around, c := bulkhead.New[any](1), chainOf(t, last)
			var first, held permit.Held
			_, err := c.Acquire(t.Context(), &first)
			require.NoError(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			denied, err := chainOf(t, breaker, around, last).Acquire(ctx, &held)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.Nil(t, denied, "it is no denial")
			require.True(t, breaker.IsHalfOpen(), "no verdict")
			require.True(t, around.TryAcquirePermit(), "given back")
			_, err = chainOf(t, breaker).Acquire(t.Context(), &held)
			require.NoError(t, err, "the trial's permit is used again")
		})
	}
}

// A fault in the middle is heard at once, and uses up the permit of a trial.
func TestFaultsInTheMiddle(t *testing.T) {
	t.Parallel()
	breaker := circuitbreaker.NewBuilder[any]().WithFailureThresholdRatio(2, 4).WithSuccessThresholdRatio(2, 3).WithDelay(time.Hour).Build()
	c := chainOf(t, breaker, makers["throttler"](), bulkhead.New[any](1))
	var held permit.Held
	run := func(faults int) {
		_, err := c.Acquire(t.Context(), &held)
		require.NoError(t, err)
		for range faults {
			held.Fault(errFault)
		}
		held.End(permit.Served, nil)
	}
	run(1)
	require.Equal(t, uint(1), breaker.Metrics().Failures())
	require.Equal(t, uint(1), breaker.Metrics().Successes())
	run(1)
	require.True(t, breaker.IsOpen())
	breaker.HalfOpen()
	run(1)
	require.True(t, breaker.IsHalfOpen())
	require.Equal(t, uint(1), breaker.Metrics().Executions(), "one verdict for one permit")
	var others [3]permit.Held
	trials := chainOf(t, breaker)
	for i := range others {
		_, err := trials.Acquire(t.Context(), &others[i])
		require.NoError(t, err)
	}
	_, err := trials.Acquire(t.Context(), &held)
	require.ErrorIs(t, err, circuitbreaker.ErrOpen, "no permit too many")
}

// Whatever a policy does, the permits of the others come back.
func TestPanicsLeakNothing(t *testing.T) {
	t.Parallel()
	around, within := bulkhead.New[any](1), bulkhead.New[any](1)
	var held permit.Held
	free := func() {
		t.Helper()
		for _, b := range []bulkhead.Bulkhead[any]{around, within} {
			require.True(t, b.TryAcquirePermit())
			b.ReleasePermit()
		}
	}
	c := chainOf(t, around, within, within, within, within)
	_, err := c.Acquire(t.Context(), &held)
	require.ErrorIs(t, err, bulkhead.ErrFull)
	free()
	c = chainOf(t, around, panicking{}, within)
	require.Panics(t, func() { _, _ = c.Acquire(t.Context(), &held) })
	free()
	c = chainOf(t, around, circuitbreaker.NewBuilder[any]().HandleIf(func(any, error) bool {
		panic("condition") //nolint:forbidigo // as a user's may
	}).Build(), within)
	_, err = c.Acquire(t.Context(), &held)
	require.NoError(t, err)
	require.Panics(t, func() { held.End(permit.Fault, errFault) })
	free()
}

type panicking struct{ bulkhead.Bulkhead[any] }

func (panicking) TryAcquirePermit() bool { panic("policy") } //nolint:forbidigo // as a user's may

// More than four permits are kept, too, and used by many at a time.
func TestLongChains(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var policies []failsafe.Policy[any]
		for range 7 {
			policies = append(policies, bulkhead.NewBuilder[any](2).WithMaxWaitTime(time.Hour).Build())
		}
		c := chainOf(t, policies...)
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				var held permit.Held
				for range 20 {
					_, err := c.Acquire(t.Context(), &held)
					require.NoError(t, err)
					time.Sleep(time.Millisecond)
					held.End(permit.Served, nil)
				}
			})
		}
		wg.Wait()
		for _, p := range policies {
			require.Equal(t, "2", standing(p))
		}
	})
}

// No permit costs an allocation but that of an adaptive limiter, which failsafe-go makes.
func TestPermitsAllocateNothing(t *testing.T) { //nolint:paralleltest // it counts the allocations of the whole process
	if verify.Enabled {
		t.Skip("the race detector changes what is allocated")
	}
	for name, c := range map[string]struct {
		policies []failsafe.Policy[any]
		want     float64
	}{
		"four": {[]failsafe.Policy[any]{
			circuitbreaker.NewWithDefaults[any](), ratelimiter.NewSmoothBuilderWithMaxRate[any](time.Nanosecond).WithMaxWaitTime(time.Hour).Build(),
			bulkhead.New[any](1), adaptivethrottler.NewWithDefaults[any](),
		}, 0},
		"an adaptive limiter": {[]failsafe.Policy[any]{adaptivelimiter.NewWithDefaults[any]()}, 1},
	} {
		chain, ctx := chainOf(t, c.policies...), t.Context()
		got := testing.AllocsPerRun(1000, func() {
			var held permit.Held
			if _, err := chain.Acquire(ctx, &held); err != nil {
				t.Error(err)
			}
			held.End(permit.Served, nil)
		})
		require.LessOrEqual(t, got, c.want, name)
	}
}

// What the policies of one message cost.
func BenchmarkBreakerAndLimiter(b *testing.B) {
	chain, err := permit.NewChain(
		circuitbreaker.NewWithDefaults[any](), ratelimiter.NewSmoothBuilderWithMaxRate[any](time.Nanosecond).WithMaxWaitTime(time.Hour).Build())
	require.NoError(b, err)
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		var held permit.Held
		if _, err := chain.Acquire(ctx, &held); err != nil {
			b.Fatal(err)
		}
		held.End(permit.Served, nil)
	}
}

// An adaptive limiter learns how long work takes. What never ran, and what its caller has left, took no time that says anything: it is
// dropped, and everything else is recorded.
func TestWhatALimiterLearns(t *testing.T) {
	t.Parallel()
	for outcome, want := range map[permit.Outcome]string{
		permit.Unrun: "dropped", permit.Left: "dropped", permit.Served: "recorded", permit.Fault: "recorded", permit.Denied: "recorded",
	} {
		said := &countedPermit{}
		gate, err := permit.New(countedLimiter{permit: said})
		require.NoError(t, err)
		p, ok := gate.Try(t.Context(), 0)
		require.True(t, ok)
		p.End(outcome, errFault)
		require.Equal(t, []string{want}, said.ends, "outcome %d", outcome)
	}
}

// countedLimiter gives one permit.
type countedLimiter struct {
	adaptivelimiter.AdaptiveLimiter[any]
	permit *countedPermit
}

func (l countedLimiter) TryAcquirePermit() (adaptivelimiter.Permit, bool) { return l.permit, true }

// countedPermit notes how it ends.
type countedPermit struct{ ends []string }

func (p *countedPermit) Record() { p.ends = append(p.ends, "recorded") }
func (p *countedPermit) Drop()   { p.ends = append(p.ends, "dropped") }
