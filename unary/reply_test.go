package unary_test

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/adaptivethrottler"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/cachepolicy"
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
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/streamsafe/streamsafe/unary"
)

// The numbers are those of the list in bench/compare, where the same is shown of failsafe-go's own gRPC package. 9 is of
// package tap, 14 of package stream, and 13 of both taps and interceptors.

func Test05ExecutorsContextLeavesNoGoroutine(t *testing.T) { //nolint:paralleltest // it counts the goroutines of the process
	synctest.Test(t, func(t *testing.T) {
		own, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		in := unary.ClientInterceptor(unary.WithExecutor(failsafe.With[any]().WithContext(own)))
		caller, stop := context.WithCancel(t.Context())
		defer stop()
		synctest.Wait()
		before := runtime.NumGoroutine()
		for range 100 {
			_, err := call(caller, in, func(context.Context, *response, []grpc.CallOption) error { return nil })
			require.NoError(t, err)
		}
		synctest.Wait()
		assert.LessOrEqual(t, runtime.NumGoroutine(), before+20, "a goroutine was left for each call")

		time.AfterFunc(time.Second, func() { cancel(errors.New("shutting down")) })
		_, err := call(caller, in, func(ctx context.Context, _ *response, _ []grpc.CallOption) error {
			<-ctx.Done()
			return ctx.Err()
		})
		assert.Equal(t, codes.Canceled, status.Code(err), "the executor's context cancels the call")
	})
}

func Test06ServerKeepsReplyOfAnyType(t *testing.T) {
	t.Parallel()
	type other struct{ text string }
	for name, option := range map[string]unary.Option{
		"policies": unary.WithPolicies(unary.NewRetryPolicyBuilder().Build()),
		"executor": unary.WithExecutor(failsafe.With[any](retrypolicy.NewWithDefaults[any]())),
	} {
		in := unary.ServerInterceptor(option)
		for _, want := range []any{text("a"), &testpb.Empty{}, &other{"b"}, other{"c"}, "d"} {
			got, err := handle(t.Context(), in, func(context.Context) (any, error) { return want, nil })
			require.NoError(t, err, name)
			require.Equal(t, want, got, name)
		}
	}
}

// cache keeps one value.
type cache map[string]any

func (c cache) Get(key string) (any, bool) { v, ok := c[key]; return v, ok }

func (c cache) Set(key string, value any) { c[key] = value }

func Test07FallbackAndCacheReachTheReply(t *testing.T) {
	t.Parallel()
	t.Run("fallback", func(t *testing.T) {
		t.Parallel()
		standIn := text("stand-in")
		for name, option := range both(fallback.NewWithResult[any](standIn)) {
			reply, err := call(t.Context(), unary.ClientInterceptor(option), fails(codes.Internal))
			require.NoError(t, err, name)
			require.Equal(t, "stand-in", textOf(reply), name)
			reply.Payload.Body[0] = 'X'
			require.Equal(t, "stand-in", textOf(standIn), "%s: the caller shares the fallback's message", name)
		}
	})
	t.Run("fallback on the server", func(t *testing.T) {
		t.Parallel()
		for name, option := range both(fallback.NewWithResult[any](text("stand-in"))) {
			reply, err := handle(t.Context(), unary.ServerInterceptor(option),
				func(context.Context) (any, error) { return nil, errors.New("broken") })
			require.NoError(t, err, name)
			require.Equal(t, "stand-in", textOf(as[*response](reply)), name)
		}
	})
	t.Run("cache", func(t *testing.T) {
		t.Parallel()
		for name, option := range both(cachepolicy.NewBuilder[any](cache{}).WithKey("key").Build()) {
			in, calls := unary.ClientInterceptor(option), 0
			for range 3 {
				reply, err := call(t.Context(), in, func(_ context.Context, reply *response, _ []grpc.CallOption) error {
					calls++
					proto.Merge(reply, text("fresh"))
					return nil
				})
				require.NoError(t, err)
				require.Equal(t, "fresh", textOf(reply), name)
				reply.Payload.Body[0] = 'X' // the caller may do as it likes with its reply
			}
			require.LessOrEqual(t, calls, 1, name)
		}
	})
	t.Run("not a reply", func(t *testing.T) {
		t.Parallel()
		var nilReply *response
		for _, bad := range []any{nil, &testpb.Empty{}, "text", *new(testpb.PayloadType), nilReply} {
			_, err := call(t.Context(), unary.ClientInterceptor(unary.WithPolicies(fallback.NewWithResult(bad))), fails(codes.Internal))
			require.Equal(t, codes.Internal, status.Code(err), "%T", bad)
			require.ErrorContains(t, err, "the policies returned", "%T", bad)
		}
		_, err := handle(t.Context(), unary.ServerInterceptor(unary.WithPolicies(fallback.NewWithResult[any](nil))),
			func(context.Context) (any, error) { return nil, errors.New("broken") })
		require.Equal(t, codes.Internal, status.Code(err))
	})
}

// both returns the options for a policy in a list and in an executor.
func both(p failsafe.Policy[any]) map[string]unary.Option {
	return map[string]unary.Option{"policies": unary.WithPolicies(p), "executor": unary.WithExecutor(failsafe.With(p))}
}

func fails(code codes.Code) stub {
	return func(context.Context, *response, []grpc.CallOption) error { return status.Error(code, "failed") }
}

// A predicate may assert the reply's type whatever happened: a failure, a denial, a timeout.
func Test08PredicatesNeverSeeNil(t *testing.T) {
	t.Parallel()
	predicate := func(r any, err error) bool { return textOf(as[*response](r)) == "again" || err != nil }
	open := circuitbreaker.NewBuilder[any]().WithDelay(time.Hour).Build()
	open.Open()
	full := bulkhead.New[any](1)
	require.True(t, full.TryAcquirePermit())
	inner := map[string]failsafe.Policy[any]{
		"none": timeout.New[any](time.Hour), "breaker": open, "bulkhead": full,
		"limiter": exhausted(ratelimiter.NewBursty[any](1, time.Hour)), "timeout": timeout.New[any](time.Nanosecond),
	}
	retry := func() failsafe.Policy[any] {
		return retrypolicy.NewBuilder[any]().HandleIf(predicate).WithMaxRetries(2).Build()
	}
	outer := map[string]func() failsafe.Policy[any]{
		"retry":   retry,
		"breaker": func() failsafe.Policy[any] { return circuitbreaker.NewBuilder[any]().HandleIf(predicate).Build() },
		"fallback": func() failsafe.Policy[any] {
			return fallback.NewBuilderWithResult[any](text("ok")).HandleIf(predicate).Build()
		},
		"throttler": func() failsafe.Policy[any] {
			return adaptivethrottler.NewBuilder[any]().HandleIf(predicate).Build()
		},
		"hedge": func() failsafe.Policy[any] {
			return hedgepolicy.NewBuilderWithDelay[any](time.Hour).CancelIf(predicate).Build()
		},
		"cache": func() failsafe.Policy[any] {
			return cachepolicy.NewBuilder[any](cache{}).CacheIf(predicate).WithKey("k").Build()
		},
		"retry of retry": func() failsafe.Policy[any] {
			return retrypolicy.NewBuilder[any]().HandleIf(predicate).WithMaxRetries(1).Build()
		},
	}
	for name, p := range outer {
		for cause, q := range inner {
			t.Run(name+" around "+cause, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					chain := policies{p(), q}
					if name == "retry of retry" {
						chain = policies{p(), retry(), q}
					}
					_, _ = call(t.Context(), unary.ClientInterceptor(unary.WithPolicies(chain...)),
						func(ctx context.Context, _ *response, _ []grpc.CallOption) error {
							if cause == "timeout" {
								<-ctx.Done()
							}
							return status.Error(codes.Aborted, "failed")
						})
				})
			})
		}
	}
	t.Run("a reply that is not accepted", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			attempts := 0
			reply, err := call(t.Context(), unary.ClientInterceptor(unary.WithPolicies(retry())),
				func(_ context.Context, reply *response, _ []grpc.CallOption) error {
					if attempts++; attempts < 3 {
						proto.Merge(reply, text("again"))
					} else {
						proto.Merge(reply, &response{Username: "last"})
					}
					return nil
				})
			require.NoError(t, err)
			require.Equal(t, 3, attempts)
			require.True(t, proto.Equal(&response{Username: "last"}, reply), "something of an earlier reply is left: %v", reply)
		})
	})
}
