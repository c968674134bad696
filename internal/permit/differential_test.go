package permit_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/adaptivelimiter"
	"github.com/failsafe-go/failsafe-go/adaptivethrottler"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/streamsafe/streamsafe/internal/permit"
	"github.com/streamsafe/streamsafe/internal/trial"
)

var (
	errFault = errors.New("fault")
	errOther = errors.New("other")
)

// bareBreaker is failsafe-go's own. It takes the verdict of work from before a trial for one of the trial, which package trial
// does not: so it is compared only while one piece of work is done at a time.
const bareBreaker = "failsafe-go's breaker"

// makers make policies that do nothing at random.
var makers = map[string]func() failsafe.Policy[any]{
	"bursty limiter": func() failsafe.Policy[any] { return ratelimiter.NewBursty[any](3, time.Second) },
	"smooth limiter, waiting": func() failsafe.Policy[any] {
		return ratelimiter.NewSmoothBuilderWithMaxRate[any](70 * time.Millisecond).WithMaxWaitTime(100 * time.Millisecond).Build()
	},
	"patient limiter": func() failsafe.Policy[any] {
		return ratelimiter.NewSmoothBuilderWithMaxRate[any](10 * time.Millisecond).WithMaxWaitTime(-1).Build()
	},
	"bulkhead": func() failsafe.Policy[any] { return bulkhead.New[any](2) },
	"bulkhead, waiting": func() failsafe.Policy[any] {
		return bulkhead.NewBuilder[any](1).WithMaxWaitTime(30 * time.Millisecond).Build()
	},
	"breaker": func() failsafe.Policy[any] {
		return trial.NewBuilder().WithFailureThresholdRatio(2, 3).WithDelay(500 * time.Millisecond).WithSuccessThreshold(2).Build()
	},
	bareBreaker: func() failsafe.Policy[any] {
		return circuitbreaker.NewBuilder[any]().WithFailureThresholdRatio(2, 3).WithDelay(500 * time.Millisecond).
			WithSuccessThreshold(2).Build()
	},
	"breaker of a share": func() failsafe.Policy[any] {
		return trial.NewBuilder().WithFailureRateThreshold(.5, 3, time.Second).WithDelay(time.Second).Build()
	},
	"breaker with conditions": func() failsafe.Policy[any] {
		return trial.NewBuilder().HandleErrors(errFault).WithFailureThreshold(2).WithDelay(time.Second).WithSuccessThreshold(2).Build()
	},
	"breaker that counts limits": func() failsafe.Policy[any] {
		return trial.NewBuilder().HandleErrors(bulkhead.ErrFull, ratelimiter.ErrExceeded).WithFailureThreshold(2).
			WithDelay(time.Second).Build()
	},
	"throttler": func() failsafe.Policy[any] {
		return adaptivethrottler.NewBuilder[any]().WithFailureRateThreshold(.5, 1e6, time.Minute).Build()
	},
	"throttler with priorities": func() failsafe.Policy[any] {
		return adaptivethrottler.NewBuilder[any]().WithFailureRateThreshold(.5, 1e6, time.Minute).
			BuildPrioritized(adaptivethrottler.NewPrioritizer())
	},
	"adaptive limiter": func() failsafe.Policy[any] {
		return adaptivelimiter.NewBuilder[any]().WithLimits(1, 3, 2).WithRecentWindow(time.Millisecond, time.Second, 2).Build()
	},
	"adaptive limiter, waiting": func() failsafe.Policy[any] {
		return adaptivelimiter.NewBuilder[any]().WithLimits(1, 3, 1).WithMaxWaitTime(30 * time.Millisecond).Build()
	},
	"adaptive limiter with priorities": func() failsafe.Policy[any] {
		return adaptivelimiter.NewBuilder[any]().WithLimits(1, 3, 2).WithMaxWaitTime(20 * time.Millisecond).
			BuildPrioritized(adaptivelimiter.NewPrioritizer())
	},
}

// step is a piece of work of a script.
type step struct {
	before, takes time.Duration
	err           error
	inside        []step // what is done under the same policies while this is on its way
}

func drawStep(r *rapid.T, depth int) step {
	ms := func(what string, of ...int) time.Duration {
		return time.Duration(rapid.SampledFrom(of).Draw(r, what)) * time.Millisecond
	}
	s := step{
		before: ms("before", 0, 1, 13, 130, 600, 1100), takes: ms("takes", 0, 3, 17),
		err: rapid.SampledFrom([]error{nil, nil, errFault, errOther}).Draw(r, "err"),
	}
	if depth > 0 {
		for range rapid.IntRange(0, 2).Draw(r, "inside") {
			s.inside = append(s.inside, drawStep(r, depth-1))
		}
	}
	return s
}

// Whatever a chain denies, and whatever it learns, is what it would be under an executor of failsafe-go.
func TestChainsAreExecutors(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		names := make([]string, 0, len(makers))
		for name := range makers {
			names = append(names, name)
		}
		kinds := rapid.SliceOfN(rapid.SampledFrom(sorted(names)), 1, 6).Draw(r, "policies")
		script := make([]step, rapid.IntRange(1, 30).Draw(r, "steps"))
		depth := 2
		if slices.Contains(kinds, bareBreaker) {
			depth = 0
		}
		for i := range script {
			script[i] = drawStep(r, depth)
		}
		var want, got []string
		synctest.Test(t, func(t *testing.T) { want = runScript(t.Context(), kinds, script, underExecutor) })
		synctest.Test(t, func(t *testing.T) { got = runScript(t.Context(), kinds, script, underPermits) })
		require.Equal(r, want, got)
	})
}

type runner func(ctx context.Context, work func() error) error

func underExecutor(policies []failsafe.Policy[any]) runner {
	return func(ctx context.Context, work func() error) error {
		return failsafe.With(policies...).WithContext(ctx).Run(work)
	}
}

func underPermits(policies []failsafe.Policy[any]) runner {
	chain, err := permit.NewChain(policies...)
	if err != nil {
		return func(context.Context, func() error) error { return err }
	}
	return func(ctx context.Context, work func() error) error {
		var held permit.Held
		if _, err := chain.Acquire(ctx, &held); err != nil {
			return err
		}
		if err := work(); err != nil {
			held.End(permit.Fault, err)
			return err
		}
		held.End(permit.Served, nil)
		return nil
	}
}

// runScript runs a script, and returns what happened.
func runScript(ctx context.Context, kinds []string, script []step, under func([]failsafe.Policy[any]) runner) []string {
	policies := make([]failsafe.Policy[any], len(kinds))
	for i, kind := range kinds {
		policies[i] = makers[kind]()
	}
	run, began := under(policies), time.Now()
	var log []string
	var do func(s step)
	do = func(s step) {
		time.Sleep(s.before)
		err := run(ctx, func() error {
			log = append(log, "runs")
			time.Sleep(s.takes)
			for _, inner := range s.inside {
				do(inner)
			}
			return s.err
		})
		log = append(log, fmt.Sprintf("at %v: %v", time.Since(began), err))
		for i, p := range policies {
			log = append(log, kinds[i]+": "+standing(p))
		}
	}
	for _, s := range script {
		do(s)
	}
	return log
}

// standing is what can be seen of a policy.
func standing(p failsafe.Policy[any]) string {
	switch p := p.(type) {
	case circuitbreaker.CircuitBreaker[any]:
		m := p.Metrics()
		return fmt.Sprint(p.State(), p.RemainingDelay(), m.Executions(), m.Failures(), m.Successes())
	case adaptivelimiter.Metrics:
		return fmt.Sprint(p.Limit(), p.Inflight(), p.MaxInflight(), p.Queued())
	case interface {
		SuccessCount() uint
		FailureCount() uint
	}:
		return fmt.Sprint(p.SuccessCount(), p.FailureCount())
	case bulkhead.Bulkhead[any]:
		free := 0
		for p.TryAcquirePermit() {
			free++
		}
		for range free {
			p.ReleasePermit()
		}
		return strconv.Itoa(free)
	default:
		return ""
	}
}
