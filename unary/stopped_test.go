package unary_test

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
	"github.com/failsafe-go/failsafe-go/fallback"
	"github.com/failsafe-go/failsafe-go/hedgepolicy"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/failsafe-go/failsafe-go/timeout"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/internal/rpcstatus"
	"github.com/streamsafe/streamsafe/unary"
)

// spent returns a budget that allows no retry.
func spent() budget.Budget {
	return budget.NewBuilder().WithMaxRate(-1).WithMinConcurrency(0).Build()
}

// Invariant 38: what stops the retries does not hide the last real failure, neither from the caller nor from the policies
// around. It is told beside it.
func TestWhatStopsRetriesHidesNoFailure(t *testing.T) {
	t.Parallel()
	ours := func() retrypolicy.Builder[any] { return unary.NewRetryPolicyBuilder() }
	stock := func() retrypolicy.Builder[any] { return retrypolicy.NewBuilder[any]() }
	for name, c := range map[string]struct {
		chain func() policies
		by    error
	}{
		"budget, ours":   {func() policies { return policies{ours().WithBudget(spent()).Build()} }, budget.ErrExceeded},
		"budget, stock":  {func() policies { return policies{stock().WithBudget(spent()).Build()} }, budget.ErrExceeded},
		"limiter, ours":  {func() policies { return policies{ours().Build(), ratelimiter.NewBursty[any](1, time.Hour)} }, ratelimiter.ErrExceeded},
		"limiter, stock": {func() policies { return policies{stock().Build(), ratelimiter.NewBursty[any](1, time.Hour)} }, ratelimiter.ErrExceeded},
		"breaker, ours":  {func() policies { return policies{ours().Build(), circuitbreaker.NewWithDefaults[any]()} }, circuitbreaker.ErrOpen},
		"breaker, stock": {func() policies { return policies{stock().Build(), circuitbreaker.NewWithDefaults[any]()} }, circuitbreaker.ErrOpen},
		"last failure": {func() policies {
			return policies{stock().ReturnLastFailure().Build(), ratelimiter.NewBursty[any](1, time.Hour)}
		}, ratelimiter.ErrExceeded},
		"retry in retry": {func() policies { return policies{ours().Build(), stock().WithBudget(spent()).Build()} }, budget.ErrExceeded},
		"through a hedge": {func() policies {
			return policies{stock().WithBudget(spent()).Build(), hedgepolicy.NewWithDelay[any](time.Hour)}
		}, budget.ErrExceeded},
	} {
		for kind, option := range map[string]func(...failsafe.Policy[any]) unary.Option{
			"policies": unary.WithPolicies, "executor": withExecutor,
		} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					around := unary.NewCircuitBreakerBuilder().Build()
					attempts := 0
					down := status.Error(codes.Unavailable, "down")
					_, err := call(t.Context(), unary.ClientInterceptor(option(append(policies{around}, c.chain()...)...)),
						func(context.Context, *response, []grpc.CallOption) error { attempts++; return down })
					require.Equal(t, codes.Unavailable, status.Code(err), "%v", err)
					require.ErrorIs(t, err, down)
					require.ErrorIs(t, err, c.by, "what stopped the retries is told, too")
					require.ErrorContains(t, err, "not tried again")
					require.Contains(t, status.Convert(err).Message(), "down")
					require.Equal(t, 1, attempts)
					require.Zero(t, around.Metrics().Successes(), "a success to the breaker around it")
					if kind == "policies" {
						require.EqualValues(t, 1, around.Metrics().Failures())
					}
				})
			})
		}
	}
}

// A fallback around a retry policy is shown the real failure as well, and the details of the server's status stay.
func TestPoliciesAroundSeeTheFailure(t *testing.T) {
	t.Parallel()
	var seen error
	hinted := rpcstatus.WithRetryInfo(status.New(codes.Unavailable, "later"), time.Nanosecond).Err()
	around := fallback.NewBuilderWithFunc(func(e failsafe.Execution[any]) (any, error) {
		seen = e.LastError()
		return nil, e.LastError()
	}).Build()
	_, err := call(t.Context(), unary.ClientInterceptor(unary.WithPolicies(around,
		retrypolicy.NewBuilder[any]().WithBudget(spent()).Build())),
		func(context.Context, *response, []grpc.CallOption) error { return hinted })
	require.Equal(t, codes.Unavailable, status.Code(seen))
	require.Equal(t, codes.Unavailable, status.Code(err))
	require.Len(t, status.Convert(err).Details(), 1)
	require.True(t, unary.ServerFault(err))
	require.False(t, unary.Retryable(err), "the budget is spent")
}

// The error of a call that a limit ended says what the last attempt died of.
func TestLimitsSayWhatTheLastAttemptDiedOf(t *testing.T) {
	t.Parallel()
	slow := retrypolicy.NewBuilder[any]().WithDelay(time.Minute).Build()
	limited := ratelimiter.NewBursty[any](1, time.Hour)
	limited.TryAcquirePermit()
	for name, c := range map[string]struct {
		chain policies
		limit time.Duration
		code  codes.Code
		is    error
		last  string
	}{
		"timeout":           {policies{timeout.New[any](time.Second), slow}, time.Hour, codes.DeadlineExceeded, timeout.ErrExceeded, "refused"},
		"caller's deadline": {policies{timeout.New[any](time.Hour), slow}, time.Second, codes.DeadlineExceeded, context.DeadlineExceeded, "refused"},
		"under nothing":     {policies{limited}, time.Hour, codes.ResourceExhausted, ratelimiter.ErrExceeded, ""},
	} {
		for kind, option := range map[string]unary.Option{
			"policies": unary.WithPolicies(c.chain...), "executor": withExecutor(c.chain...),
		} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					ctx, cancel := context.WithTimeout(t.Context(), c.limit)
					defer cancel()
					_, err := call(ctx, unary.ClientInterceptor(option), func(context.Context, *response, []grpc.CallOption) error {
						return status.Error(codes.Unavailable, "connection refused")
					})
					require.Equal(t, c.code, status.Code(err), "%v", err)
					require.ErrorIs(t, err, c.is)
					failed, ok := errors.AsType[*unary.Error](err)
					require.True(t, ok)
					if c.last == "" {
						require.NoError(t, failed.Last)
						return
					}
					require.ErrorContains(t, failed.Last, c.last)
					require.ErrorContains(t, err, c.last)
					require.Contains(t, status.Convert(err).Message(), c.last)
				})
			})
		}
	}
	t.Run("that a context ended tells less than what was before", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			attempts := 0
			_, err := call(t.Context(), unary.ClientInterceptor(unary.WithPolicies(timeout.New[any](time.Second),
				retrypolicy.NewWithDefaults[any]())), func(ctx context.Context, _ *response, _ []grpc.CallOption) error {
				if attempts++; attempts == 1 {
					return status.Error(codes.Unavailable, "connection refused")
				}
				return hangs(ctx)
			})
			require.ErrorIs(t, err, timeout.ErrExceeded)
			require.ErrorContains(t, err, "refused")
		})
	})
}

// When a first try fails and its hedge is denied, or both fail together, the call ends with the first's failure.
func TestADeniedHedgeHidesNoFailure(t *testing.T) {
	t.Parallel()
	for range 20 { // the policy takes whichever comes first
		synctest.Test(t, func(t *testing.T) {
			_, err := call(t.Context(), unary.ClientInterceptor(unary.WithPolicies(
				hedgepolicy.NewWithDelay[any](time.Millisecond), bulkhead.New[any](1))),
				func(context.Context, *response, []grpc.CallOption) error {
					time.Sleep(time.Second)
					return status.Error(codes.Unavailable, "down")
				})
			assert.Equal(t, codes.Unavailable, status.Code(err), "%v", err)
		})
	}
}

// A text says each thing once: the method, and how often was tried.
func TestErrorsSayItOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		open := circuitbreaker.NewBuilder[any]().WithDelay(time.Second).Build()
		open.Open()
		w := start(t, options{
			client: []unary.Option{unary.WithPolicies(retrypolicy.NewWithDefaults[any]()), unary.WithMaxHint(0)},
			server: []unary.Option{unary.WithPolicies(open)},
		}, server{})
		_, err := w.UnaryCall(t.Context(), &request{})
		require.EqualError(t, err, "rpc error: code = Unavailable desc = circuit breaker open", "one attempt, and the server's word")

		open.Open()
		w = start(t, options{
			client: []unary.Option{unary.WithPolicies(retrypolicy.NewWithDefaults[any]())}, server: []unary.Option{unary.WithPolicies(occupied(t))},
		}, server{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = w.UnaryCall(ctx, &request{})
		require.EqualError(t, err, "unary: "+method+": context deadline exceeded (attempts: 1)")

		full := bulkhead.New[any](0)
		w = start(t, options{
			client: []unary.Option{unary.WithPolicies(retrypolicy.NewWithDefaults[any]())}, server: []unary.Option{unary.WithPolicies(full)},
		}, server{})
		_, err = w.UnaryCall(t.Context(), &request{})
		require.EqualError(t, err, "unary: "+method+": retries exceeded: rpc error: code = ResourceExhausted desc = bulkhead full (attempts: 3)")
	})
	inner := unary.ClientInterceptor(unary.WithPolicies(bulkhead.New[any](0)))
	_, err := call(t.Context(), unary.ClientInterceptor(unary.WithPolicies(retrypolicy.NewWithDefaults[any]())),
		func(ctx context.Context, reply *response, opts []grpc.CallOption) error {
			return inner(ctx, method, &request{}, reply, nil,
				func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error { return nil }, opts...)
		})
	require.EqualError(t, err, "unary: "+method+": retries exceeded: bulkhead full (attempts: 3)")
}
