package unary_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/failsafe-go/failsafe-go/timeout"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/internal/rpcstatus"
	"github.com/streamsafe/streamsafe/unary"
)

// An open breaker on a server is UNAVAILABLE at once to clients, whatever their policies: none waits for longer than there
// is time, or than anybody would.
func TestAnOpenBreakerOnAServerIsNoHang(t *testing.T) {
	t.Parallel()
	for name, delay := range map[string]time.Duration{
		"the breaker's default": time.Minute, "more than the call has": 3 * time.Second,
	} {
		for kind, c := range map[string]struct {
			options []unary.Option
			limit   time.Duration
		}{
			"none":            {nil, time.Hour},
			"interactive":     {[]unary.Option{unary.WithPolicies(unary.Interactive().Policies()...)}, time.Hour},
			"retry":           {[]unary.Option{unary.WithPolicies(unary.NewRetryPolicyBuilder().Build())}, 2 * time.Second},
			"stock retry":     {[]unary.Option{unary.WithPolicies(retrypolicy.NewWithDefaults[any]())}, 2 * time.Second},
			"retry, executor": {[]unary.Option{withExecutor(unary.NewRetryPolicyBuilder().Build())}, 2 * time.Second},
			"stock, executor": {[]unary.Option{withExecutor(retrypolicy.NewWithDefaults[any]())}, 2 * time.Second},
			"limit of two":    {[]unary.Option{unary.WithPolicies(timeout.New[any](2*time.Second), timeout.New[any](time.Hour), retrypolicy.NewWithDefaults[any]())}, time.Hour},
		} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					open := circuitbreaker.NewBuilder[any]().WithDelay(delay).Build()
					open.Open()
					w := start(t, options{client: c.options, server: []unary.Option{unary.WithPolicies(open)}}, server{})
					ctx, cancel := context.WithTimeout(t.Context(), c.limit)
					defer cancel()
					began := time.Now()
					_, err := w.UnaryCall(ctx, &request{})
					require.Equal(t, codes.Unavailable, status.Code(err), "%v", err)
					require.Zero(t, time.Since(began))
				})
			})
		}
	}
}

// A hint is waited for up to WithMaxHint, and never beyond WithMaxDuration of the retry policy.
func TestHintsAreBounded(t *testing.T) {
	t.Parallel()
	long := unary.WithMaxHint(2 * time.Hour)
	for name, c := range map[string]struct {
		hint    time.Duration
		options []unary.Option
		limit   time.Duration // of the retry policy
		waits   bool
	}{
		"default":             {5 * time.Second, nil, 0, true},
		"over the default":    {5*time.Second + 1, nil, 0, false},
		"given":               {time.Hour, []unary.Option{long}, 0, true},
		"given, and shorter":  {2 * time.Second, []unary.Option{unary.WithMaxHint(time.Second)}, 0, false},
		"none":                {1, []unary.Option{unary.WithMaxHint(0)}, 0, false},
		"negative":            {1, []unary.Option{unary.WithMaxHint(-1)}, 0, false},
		"WithMaxDuration":     {time.Hour, []unary.Option{long}, 2 * time.Second, false},
		"in WithMaxDuration":  {time.Second, nil, 2 * time.Second, true},
		"is the last's word":  {time.Second, []unary.Option{unary.WithMaxHint(0), unary.WithMaxHint(time.Minute)}, 0, true},
		"beyond it by itself": {3 * time.Second, nil, 2 * time.Second, false},
	} {
		for kind, retry := range map[string]func() retrypolicy.Builder[any]{
			"ours": unary.NewRetryPolicyBuilder, "stock": retrypolicy.NewBuilder[any],
		} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					builder := retry()
					if c.limit > 0 {
						builder = builder.WithMaxDuration(c.limit)
					}
					began, attempts := time.Now(), 0
					_, err := call(t.Context(), unary.ClientInterceptor(append(c.options, unary.WithPolicies(builder.Build()))...),
						func(context.Context, *response, []grpc.CallOption) error {
							if attempts++; attempts > 1 {
								return nil
							}
							return rpcstatus.WithRetryInfo(status.New(codes.Unavailable, "later"), c.hint).Err()
						})
					if !c.waits {
						require.Equal(t, codes.Unavailable, status.Code(err), "%v", err)
						require.Zero(t, time.Since(began))
						return
					}
					require.NoError(t, err)
					require.GreaterOrEqual(t, time.Since(began), c.hint)
				})
			})
		}
	}
	t.Run("in a call", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			in, attempts := unary.ClientInterceptor(unary.WithMaxHint(0), unary.WithPolicies(unary.NewRetryPolicyBuilder().Build())), 0
			_, err := call(t.Context(), in, func(context.Context, *response, []grpc.CallOption) error {
				if attempts++; attempts > 1 {
					return nil
				}
				return rpcstatus.WithRetryInfo(status.New(codes.Unavailable, "later"), time.Second).Err()
			}, unary.WithMaxHint(time.Minute))
			require.NoError(t, err, "the call's own option counts")
		})
	})
}

// Listeners are told what happened: a failure that is not retried at the server's word is a failure, and what is scheduled
// is what is waited.
func TestListenersAreToldWhatHappened(t *testing.T) {
	t.Parallel()
	pushback := func(ms string) func(opts []grpc.CallOption) error {
		return func(opts []grpc.CallOption) error {
			setTargets(opts, metadata.Pairs(rpcstatus.PushbackKey, ms))
			return status.Error(codes.Unavailable, "down")
		}
	}
	type told struct{ success, failure, abort, exceeded int }
	for name, c := range map[string]struct {
		attempt  func([]grpc.CallOption) error
		retries  int
		ours     told
		stock    told
		attempts int
	}{
		"do not retry":        {pushback("-1"), 2, told{failure: 1, abort: 1}, told{failure: 1}, 1},
		"beyond the deadline": {pushback("4000"), 2, told{failure: 1, abort: 1}, told{failure: 1}, 1},
		"more than anybody":   {pushback("6000"), 2, told{failure: 1, abort: 1}, told{failure: 1}, 1},
		"the last one":        {pushback("-1"), 0, told{failure: 1, abort: 1}, told{failure: 1, exceeded: 1}, 1},
		"not a failure of it": {func([]grpc.CallOption) error { return status.Error(codes.NotFound, "no") }, 0, told{success: 1}, told{failure: 1, exceeded: 1}, 1},
		"a success":           {func([]grpc.CallOption) error { return nil }, 2, told{success: 1}, told{success: 1}, 1},
	} {
		for kind, retry := range map[string]func() retrypolicy.Builder[any]{
			"ours": unary.NewRetryPolicyBuilder, "stock": retrypolicy.NewBuilder[any],
		} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					var got told
					count := func(n *int) func(failsafe.ExecutionEvent[any]) { return func(failsafe.ExecutionEvent[any]) { *n++ } }
					policy := retry().WithMaxRetries(c.retries).OnSuccess(count(&got.success)).OnFailure(count(&got.failure)).
						OnAbort(count(&got.abort)).OnRetriesExceeded(count(&got.exceeded)).
						OnRetryScheduled(func(failsafe.ExecutionScheduledEvent[any]) { t.Error("no retry is scheduled") }).Build()
					ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
					defer cancel()
					attempts := 0
					_, _ = call(ctx, unary.ClientInterceptor(unary.WithPolicies(policy)),
						func(_ context.Context, _ *response, opts []grpc.CallOption) error { attempts++; return c.attempt(opts) })
					want := c.ours
					if kind == "stock" {
						want = c.stock
					}
					require.Equal(t, want, got)
					require.Equal(t, c.attempts, attempts)
				})
			})
		}
	}
	t.Run("what is scheduled is what is waited", func(t *testing.T) {
		t.Parallel()
		for name, option := range map[string]func(...failsafe.Policy[any]) unary.Option{"policies": unary.WithPolicies, "executor": withExecutor} {
			synctest.Test(t, func(t *testing.T) {
				var delay, waited time.Duration
				var at time.Time
				policy := unary.NewRetryPolicyBuilder().WithMaxRetries(1).OnRetryScheduled(func(e failsafe.ExecutionScheduledEvent[any]) {
					delay, at = e.Delay, time.Now()
				}).OnRetry(func(failsafe.ExecutionEvent[any]) { waited = time.Since(at) }).Build()
				_, err := call(t.Context(), unary.ClientInterceptor(option(policy)),
					func(_ context.Context, _ *response, opts []grpc.CallOption) error { return pushback("3000")(opts) })
				require.Error(t, err)
				assert.Equal(t, 3*time.Second, delay, name)
				assert.Equal(t, 3*time.Second, waited, name)
			})
		}
	})
}

// A denial is told once, by the policy that denied, whatever is around it.
func TestADenialIsToldOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		open := circuitbreaker.NewBuilder[any]().WithDelay(time.Hour).Build()
		open.Open()
		listened := timeout.NewBuilder[any](time.Second).OnTimeoutExceeded(func(failsafe.ExecutionDoneEvent[any]) {}).Build()
		for name, around := range map[string]failsafe.Policy[any]{
			"timeout": timeout.New[any](time.Second), "listened": listened,
			"hedge":   unary.NewHedgePolicyBuilder(time.Second).Build(),
			"retry":   unary.NewRetryPolicyBuilder().Build(),
			"breaker": unary.NewCircuitBreakerBuilder().Build(),
		} {
			stats := &unary.Stats{}
			in := unary.ClientInterceptor(unary.WithPolicies(around, open), unary.WithObserver(stats))
			for range 30 {
				_, err := call(t.Context(), in, fails(codes.OK))
				require.ErrorIs(t, err, circuitbreaker.ErrOpen)
			}
			require.Equal(t, map[string]uint64{"circuitbreaker": 30}, stats.Snapshot().Denied, name)
		}
	})
}
