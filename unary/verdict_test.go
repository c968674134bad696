package unary_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/fallback"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
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

// The numbers are those of the list in bench/compare, where the same is shown of failsafe-go's own gRPC package. 9 is of
// package tap, 14 of package stream, and 13 of both taps and interceptors.

func Test02PolicyErrorsHaveStatuses(t *testing.T) {
	t.Parallel()
	open := circuitbreaker.NewBuilder[any]().WithDelay(time.Minute).Build()
	open.Open()
	full := bulkhead.New[any](1)
	require.True(t, full.TryAcquirePermit())
	limited := ratelimiter.NewBursty[any](1, time.Hour)
	require.True(t, limited.TryAcquirePermit())
	unavailable := status.Error(codes.Unavailable, "down")
	for name, c := range map[string]struct {
		policies policies
		code     codes.Code
		is       error
	}{
		"breaker":      {policies{open}, codes.Unavailable, circuitbreaker.ErrOpen},
		"bulkhead":     {policies{full}, codes.ResourceExhausted, bulkhead.ErrFull},
		"rate limiter": {policies{limited}, codes.ResourceExhausted, ratelimiter.ErrExceeded},
		"retries": {
			policies{retrypolicy.NewBuilder[any]().WithMaxRetries(1).Build()}, codes.Unavailable, unavailable,
		},
		"retries of a denial": {policies{retrypolicy.NewWithDefaults[any](), open}, codes.Unavailable, retrypolicy.ErrExceeded},
		"timeout":             {policies{timeout.New[any](time.Nanosecond)}, codes.DeadlineExceeded, timeout.ErrExceeded},
		"fallback":            {policies{fallback.NewWithError[any](status.Error(codes.NotFound, "gone"))}, codes.NotFound, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				fail := func(ctx context.Context) error {
					if name == "timeout" {
						<-ctx.Done()
						return status.FromContextError(ctx.Err()).Err()
					}
					return unavailable
				}
				_, onClient := call(t.Context(), unary.ClientInterceptor(unary.WithPolicies(c.policies...)),
					func(ctx context.Context, _ *response, _ []grpc.CallOption) error { return fail(ctx) })
				_, onServer := handle(t.Context(), unary.ServerInterceptor(unary.WithPolicies(c.policies...)),
					func(ctx context.Context) (any, error) { return nil, fail(ctx) })
				_, executed := call(t.Context(), unary.ClientInterceptor(unary.WithExecutor(failsafe.With(c.policies...))),
					func(ctx context.Context, _ *response, _ []grpc.CallOption) error { return fail(ctx) })
				for side, err := range map[string]error{"client": onClient, "server": onServer, "executor": executed} {
					require.Error(t, err, side)
					assert.Equal(t, c.code, status.Code(err), side)
					if c.is != nil {
						assert.ErrorIs(t, err, c.is, side)
					}
				}
				if name == "breaker" {
					delay := rpcstatus.HintOf(onServer, nil).Delay
					assert.Greater(t, delay, 50*time.Second, "RetryInfo is what is left of the breaker's delay")
					assert.ErrorContains(t, onServer, method)
				}
			})
		})
	}
}

func Test03CallersDeadlineAndCancelKeepTheirCodes(t *testing.T) {
	t.Parallel()
	for name, chain := range map[string]func() policies{
		"retry":          func() policies { return policies{unary.NewRetryPolicyBuilder().Build()} },
		"plain retry":    func() policies { return policies{retrypolicy.NewWithDefaults[any]()} },
		"breaker":        func() policies { return policies{unary.NewCircuitBreakerBuilder().Build()} },
		"hedge":          func() policies { return policies{unary.NewHedgePolicyBuilder(time.Millisecond).Build()} },
		"retry, timeout": func() policies { return policies{retrypolicy.NewWithDefaults[any](), timeout.New[any](time.Hour)} },
		"queue":          func() policies { return policies{occupied(t)} },
	} {
		for kind, option := range map[string]func(...failsafe.Policy[any]) unary.Option{
			"policies": unary.WithPolicies, "executor": withExecutor,
		} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := start(t, client(option(chain()...), unary.WithIdempotent("*")),
						server{handle: func(ctx context.Context, _ *request) (*response, error) {
							<-ctx.Done()
							return nil, status.FromContextError(ctx.Err()).Err()
						}})
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					defer cancel()
					_, err := w.UnaryCall(ctx, &request{})
					assert.Equal(t, codes.DeadlineExceeded, status.Code(err), "%v", err)
					require.ErrorIs(t, err, context.DeadlineExceeded)

					ctx, cancel = context.WithCancel(t.Context())
					time.AfterFunc(time.Second, cancel)
					_, err = w.UnaryCall(ctx, &request{})
					assert.Equal(t, codes.Canceled, status.Code(err), "%v", err)
					require.ErrorIs(t, err, context.Canceled)
				})
			})
		}
	}
}

// occupied returns a bulkhead in which callers wait for ever.
func occupied(t *testing.T) failsafe.Policy[any] {
	t.Helper()
	b := bulkhead.NewBuilder[any](1).WithMaxWaitTime(time.Hour).Build()
	require.True(t, b.TryAcquirePermit())
	return b
}

func withExecutor(p ...failsafe.Policy[any]) unary.Option {
	return unary.WithExecutor(failsafe.With(p...))
}

func exhausted(limiter ratelimiter.RateLimiter[any]) ratelimiter.RateLimiter[any] {
	limiter.TryAcquirePermit()
	return limiter
}

// Every retry policy minds what the server said, also one that was not made here.
func Test04ServersHintsAreMinded(t *testing.T) {
	t.Parallel()
	plain := func() failsafe.Policy[any] { return retrypolicy.NewBuilder[any]().WithMaxRetries(3).Build() }
	ours := func() failsafe.Policy[any] { return unary.NewRetryPolicyBuilder().WithMaxRetries(3).Build() }
	info := rpcstatus.WithRetryInfo(status.New(codes.Unavailable, "later"), 7*time.Second).Err()
	unavailable := status.Error(codes.Unavailable, "down")
	for name, c := range map[string]struct {
		err      error
		pushback string
		attempts int
		least    time.Duration
	}{
		"RetryInfo":       {info, "", 4, 21 * time.Second},
		"pushback":        {unavailable, "5000", 4, 15 * time.Second},
		"the longer":      {info, "8000", 4, 24 * time.Second},
		"do not retry":    {unavailable, "-1", 1, 0},
		"malformed":       {unavailable, "soon", 1, 0},
		"beyond deadline": {unavailable, "50000", 3, 100 * time.Second}, // two waits fit into 120 s, and the third does not
	} {
		for kind, option := range map[string]unary.Option{
			"ours":            unary.WithPolicies(ours()),
			"plain":           unary.WithPolicies(plain()),
			"ours, executor":  unary.WithExecutor(failsafe.With(ours())),
			"plain, executor": unary.WithExecutor(failsafe.With(plain())),
		} {
			if strings.HasSuffix(kind, "executor") && c.attempts != 4 {
				continue // the policy decides by itself
			}
			t.Run(name+"/"+kind, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					var attempts int
					w := start(t, client(option, unary.WithMaxHint(time.Hour)), server{handle: func(ctx context.Context, _ *request) (*response, error) {
						attempts++
						if c.pushback != "" {
							if err := grpc.SetTrailer(ctx, metadata.Pairs(rpcstatus.PushbackKey, c.pushback)); err != nil {
								return nil, err
							}
						}
						return nil, c.err
					}})
					ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
					defer cancel()
					began := time.Now()
					_, err := w.UnaryCall(ctx, &request{})
					assert.Equal(t, codes.Unavailable, status.Code(err), "%v", err)
					assert.Equal(t, c.attempts, attempts)
					assert.GreaterOrEqual(t, time.Since(began), c.least)
					assert.Less(t, time.Since(began), c.least+10*time.Second)
				})
			})
		}
	}
}

// Between tries there is always a wait, and it differs from call to call (invariant 20).
func Test04RetriesWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		in := unary.ClientInterceptor(unary.WithPolicies(unary.NewRetryPolicyBuilder().WithMaxRetries(3).Build()))
		seen := map[time.Duration]bool{}
		for range 50 {
			var times []time.Time
			_, err := call(t.Context(), in, func(context.Context, *response, []grpc.CallOption) error {
				times = append(times, time.Now())
				return status.Error(codes.Unavailable, "down")
			})
			require.Error(t, err)
			require.Len(t, times, 4)
			for i, most := range []time.Duration{50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond} {
				wait := times[i+1].Sub(times[i])
				assert.Positive(t, wait)
				assert.LessOrEqual(t, wait, most)
				seen[wait] = true
			}
		}
		assert.Greater(t, len(seen), 100, "the waits are random")
	})
}
