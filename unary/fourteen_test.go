package unary_test

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
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
	"github.com/failsafe-go/failsafe-go/priority"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/failsafe-go/failsafe-go/timeout"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/streamsafe/streamsafe/internal/rpcstatus"
	"github.com/streamsafe/streamsafe/unary"
)

// The tests of this file hold what failsafe-go's own gRPC package gets wrong. The numbers are those of the list in
// bench/compare, where the same is shown of that package. 9 is of package tap, and so is half of 13.

// Each call's first try and hedge decode different replies at the same time. What the caller gets is one of them, whole.
func Test01HedgesShareNothing(t *testing.T) {
	t.Parallel()
	const calls, workers = 10_000, 8
	in := unary.ClientInterceptor(unary.WithIdempotent("*"),
		unary.WithPolicies(unary.NewHedgePolicyBuilder(0).WithMaxHedges(2).Build()))
	var encoded [3][]byte
	for i := range encoded {
		var err error
		encoded[i], err = proto.Marshal(&response{
			Username: strconv.Itoa(i), Payload: &testpb.Payload{Body: bytes.Repeat([]byte{byte(i)}, 64*(i+1))},
		})
		require.NoError(t, err)
	}
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range calls / workers {
				var attempt atomic.Int32
				var header, trailer metadata.MD
				reply, err := call(t.Context(), in, func(_ context.Context, reply *response, opts []grpc.CallOption) error {
					i := int(attempt.Add(1) - 1)
					setTargets(opts, metadata.Pairs("attempt", strconv.Itoa(i)))
					runtime.Gosched()
					return proto.Unmarshal(encoded[i], reply)
				}, grpc.Header(&header), grpc.Trailer(&trailer))
				if !assert.NoError(t, err) {
					return
				}
				i, err := strconv.Atoi(reply.GetUsername())
				assert.NoError(t, err)
				if !assert.Equal(t, bytes.Repeat([]byte{byte(i)}, 64*(i+1)), reply.GetPayload().GetBody(), "a torn reply") {
					return
				}
				assert.Equal(t, []string{strconv.Itoa(i)}, header.Get("attempt"), "the header of another attempt")
				assert.Equal(t, []string{strconv.Itoa(i)}, trailer.Get("attempt"), "the trailer of another attempt")
			}
		})
	}
	wg.Wait()
}

// setTargets does what grpc does with the targets among the options of a call.
func setTargets(opts []grpc.CallOption, md metadata.MD) {
	for _, opt := range opts {
		switch target := opt.(type) {
		case grpc.HeaderCallOption:
			*target.HeaderAddr = md
		case grpc.TrailerCallOption:
			*target.TrailerAddr = md
		}
	}
}

// The same over connections: headers, trailers and replies of one attempt belong together, and losers are cancelled.
func Test01HedgesShareNothingOverConnections(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var attempts, cancelled atomic.Int32
		w := start(t, client(unary.WithIdempotent("*"),
			unary.WithPolicies(unary.NewHedgePolicyBuilder(10*time.Millisecond).Build())),
			server{handle: func(ctx context.Context, _ *request) (*response, error) {
				n := attempts.Add(1)
				if n%2 == 1 {
					<-ctx.Done()
					cancelled.Add(1)
					return nil, ctx.Err()
				}
				id := strconv.Itoa(int(n))
				if err := grpc.SetHeader(ctx, metadata.Pairs("id", id)); err != nil {
					return nil, err
				}
				return text(id), grpc.SetTrailer(ctx, metadata.Pairs("id", id))
			}})
		for i := range 50 {
			var header, trailer metadata.MD
			reply, err := w.UnaryCall(t.Context(), &request{}, grpc.Header(&header), grpc.Trailer(&trailer))
			require.NoError(t, err)
			want := []string{strconv.Itoa(2 * (i + 1))}
			require.Equal(t, want, []string{textOf(reply)})
			require.Equal(t, want, header.Get("id"))
			require.Equal(t, want, trailer.Get("id"))
			synctest.Wait()
			require.EqualValues(t, i+1, cancelled.Load(), "the loser is cancelled")
		}
	})
}

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
			"ours":           unary.WithPolicies(ours()),
			"plain":          unary.WithPolicies(plain()),
			"ours, executor": unary.WithExecutor(failsafe.With(ours())),
		} {
			if kind == "ours, executor" && c.attempts != 4 {
				continue // the policy decides by itself
			}
			t.Run(name+"/"+kind, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					var attempts int
					w := start(t, client(option), server{handle: func(ctx context.Context, _ *request) (*response, error) {
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
func (c cache) Set(key string, value any)  { c[key] = value }

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
	open := circuitbreaker.NewWithDefaults[any]()
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

func Test10ServersPoliciesMindTheRequestsContext(t *testing.T) {
	t.Parallel()
	for name, option := range map[string]unary.Option{
		"retry": unary.WithPolicies(retrypolicy.NewBuilder[any]().WithMaxRetries(-1).WithDelay(time.Second).Build()),
		"executor": unary.WithExecutor(failsafe.With[any](
			retrypolicy.NewBuilder[any]().WithMaxRetries(-1).WithDelay(time.Second).Build())),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var handled atomic.Int32
				w := start(t, onServer(option), server{handle: func(context.Context, *request) (*response, error) {
					handled.Add(1)
					return nil, errors.New("broken")
				}})
				ctx, cancel := context.WithTimeout(t.Context(), 3500*time.Millisecond)
				defer cancel()
				_, err := w.UnaryCall(ctx, &request{})
				require.Equal(t, codes.DeadlineExceeded, status.Code(err))
				synctest.Wait()
				tries := handled.Load()
				require.EqualValues(t, 4, tries)
				time.Sleep(time.Minute)
				require.Equal(t, tries, handled.Load(), "the handler was tried for a caller that had gone")
			})
		})
	}
	t.Run("waiting", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			in := unary.ServerInterceptor(unary.WithPolicies(occupied(t)))
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			began := time.Now()
			_, err := handle(ctx, in, func(context.Context) (any, error) { return text("late"), nil })
			require.Equal(t, codes.DeadlineExceeded, status.Code(err))
			require.Equal(t, time.Second, time.Since(began))
		})
	})
	t.Run("gone before", func(t *testing.T) {
		t.Parallel()
		limiter := ratelimiter.NewBursty[any](1, time.Hour)
		in := unary.ServerInterceptor(unary.WithPolicies(limiter))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := handle(ctx, in, func(context.Context) (any, error) {
			t.Error("the handler ran")
			return text("late"), nil
		})
		require.Equal(t, codes.Canceled, status.Code(err))
		require.True(t, limiter.TryAcquirePermit(), "a permit was taken for a caller that had gone")
	})
}

func Test11PanicReleasesPermits(t *testing.T) {
	t.Parallel()
	for name, option := range map[string]func(p ...failsafe.Policy[any]) unary.Option{
		"policies": unary.WithPolicies,
		"executor": withExecutor,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			limit := bulkhead.New[any](1)
			breaker := circuitbreaker.NewBuilder[any]().WithFailureThreshold(3).Build()
			in := unary.ServerInterceptor(option(limit, breaker))
			for range 3 {
				require.PanicsWithError(t, "boom", func() {
					_, _ = handle(t.Context(), in, boom)
				})
			}
			require.True(t, limit.TryAcquirePermit(), "the permit is lost")
			require.True(t, breaker.IsOpen(), "a panic is a failure")
			require.EqualValues(t, 3, breaker.Metrics().Executions())
		})
	}
	t.Run("is not retried, and a stand-in does not hide it", func(t *testing.T) {
		t.Parallel()
		in := unary.ServerInterceptor(unary.WithPolicies(fallback.NewWithResult[any](text("ok")), retrypolicy.NewWithDefaults[any]()))
		tries := 0
		require.PanicsWithError(t, "boom", func() {
			_, _ = handle(t.Context(), in, func(ctx context.Context) (any, error) { tries++; return boom(ctx) })
		})
		require.Equal(t, 1, tries)
	})
	t.Run("in a hedge", func(t *testing.T) {
		t.Parallel()
		in := unary.ClientInterceptor(unary.WithPolicies(hedgepolicy.NewWithDelay[any](time.Hour)))
		require.PanicsWithError(t, "boom", func() {
			_, _ = call(t.Context(), in, func(ctx context.Context, _ *response, _ []grpc.CallOption) error { _, err := boom(ctx); return err })
		})
	})
}

func Test12FailingHedgeDoesNotBeatTheFirstTry(t *testing.T) {
	t.Parallel()
	hedges := map[string]failsafe.Policy[any]{
		"ours":  unary.NewHedgePolicyBuilder(10 * time.Millisecond).WithMaxHedges(2).Build(),
		"plain": hedgepolicy.NewBuilderWithDelay[any](10 * time.Millisecond).WithMaxHedges(2).Build(),
	}
	inner := map[string]policies{
		"": nil, " around retry": {retrypolicy.NewWithDefaults[any]()},
		" around bulkhead": {bulkhead.New[any](1)}, // which denies the hedges
	}
	for name, hedge := range hedges {
		for around, with := range inner {
			chain := append(policies{hedge}, with...)
			for kind, option := range map[string]unary.Option{
				"policies": unary.WithPolicies(chain...), "executor": unary.WithExecutor(failsafe.With(chain...)),
			} {
				if around != "" && kind == "executor" {
					continue // failsafe-go shares one retry between hedges, and denials pass by us
				}
				t.Run(name+around+"/"+kind, func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) {
						var attempts atomic.Int32
						in := unary.ClientInterceptor(option, unary.WithIdempotent("*"))
						reply, err := call(t.Context(), in, func(_ context.Context, reply *response, _ []grpc.CallOption) error {
							if attempts.Add(1) > 1 {
								return status.Error(codes.Unavailable, "hedge")
							}
							time.Sleep(time.Second)
							proto.Merge(reply, text("first"))
							return nil
						})
						require.NoError(t, err)
						require.Equal(t, "first", textOf(reply))
					})
				})
			}
		}
	}
	t.Run("the first fails before any hedge", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			_, err := call(t.Context(), unary.ClientInterceptor(unary.WithIdempotent("*"), unary.WithPolicies(hedges["ours"])), fails(codes.NotFound))
			require.Equal(t, codes.NotFound, status.Code(err))
			require.Zero(t, time.Since(began), "a failure is not waited upon where nothing else runs")
		})
	})
	t.Run("all fail", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			var attempts atomic.Int32
			began := time.Now()
			_, err := call(t.Context(), unary.ClientInterceptor(unary.WithIdempotent("*"), unary.WithPolicies(hedges["ours"])),
				func(context.Context, *response, []grpc.CallOption) error {
					if attempts.Add(1) == 1 {
						time.Sleep(time.Second)
					}
					return status.Error(codes.Unavailable, "down")
				})
			require.Equal(t, codes.Unavailable, status.Code(err))
			require.EqualValues(t, 3, attempts.Load())
			require.Equal(t, time.Second, time.Since(began))
		})
	})
	t.Run("a hedge that wins beats a first try that failed", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			var attempts atomic.Int32
			reply, err := call(t.Context(), unary.ClientInterceptor(unary.WithIdempotent("*"), unary.WithPolicies(hedges["plain"])),
				func(_ context.Context, reply *response, _ []grpc.CallOption) error {
					n := attempts.Add(1)
					time.Sleep(time.Duration(n) * 15 * time.Millisecond)
					if n == 1 {
						return status.Error(codes.Unavailable, "down")
					}
					proto.Merge(reply, text("hedge"))
					return nil
				})
			require.NoError(t, err)
			require.Equal(t, "hedge", textOf(reply))
		})
	})
}

// A prioritized policy uses what came from the network as an index.
func Test13HostilePrioritiesAreRefused(t *testing.T) {
	t.Parallel()
	in := unary.ServerInterceptor(unary.WithPriority(), unary.WithPolicies(throttler()))
	for _, c := range []struct {
		md   metadata.MD
		code codes.Code
	}{
		{nil, codes.OK},
		{metadata.Pairs("x-failsafe-level", "0"), codes.OK},
		{metadata.Pairs("x-failsafe-level", "499"), codes.OK},
		{metadata.Pairs("x-failsafe-priority", "4"), codes.OK},
		{metadata.Pairs("x-failsafe-level", "500"), codes.InvalidArgument},
		{metadata.Pairs("x-failsafe-level", "-1"), codes.InvalidArgument},
		{metadata.Pairs("x-failsafe-level", "99999999999999999999"), codes.InvalidArgument},
		{metadata.Pairs("x-failsafe-level", ""), codes.InvalidArgument},
		{metadata.Pairs("x-failsafe-level", "1", "x-failsafe-level", "2"), codes.InvalidArgument},
		{metadata.Pairs("x-failsafe-priority", "5"), codes.InvalidArgument},
		{metadata.Pairs("x-failsafe-priority", "-3"), codes.InvalidArgument},
		{metadata.Pairs("x-failsafe-priority", "high"), codes.InvalidArgument},
	} {
		_, err := handle(metadata.NewIncomingContext(t.Context(), c.md), in,
			func(context.Context) (any, error) { return text("ok"), nil })
		assert.Equal(t, c.code, status.Code(err), "%v", c.md)
	}
}

func throttler() failsafe.Policy[any] {
	return adaptivethrottler.NewBuilder[any]().BuildPrioritized(adaptivethrottler.NewPrioritizer())
}

func TestPrioritiesReachTheServer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var level int
		var given priority.Priority
		w := start(t, options{client: []unary.Option{unary.WithPriority()}, server: []unary.Option{unary.WithPriority()}},
			server{handle: func(ctx context.Context, _ *request) (*response, error) {
				level, given = priority.LevelFromContext(ctx), priority.FromContext(ctx)
				require.Equal(t, level, priority.LevelFromContext(ctx), "the level is drawn once")
				return &response{}, nil
			}})
		callWith := func(ctx context.Context) {
			_, err := w.UnaryCall(ctx, &request{})
			require.NoError(t, err)
		}
		callWith(t.Context())
		require.Equal(t, -1, level)
		callWith(priority.ContextWithLevel(t.Context(), 321))
		require.Equal(t, 321, level)
		callWith(priority.High.AddTo(t.Context()))
		require.Equal(t, priority.High, given)
		require.GreaterOrEqual(t, level, priority.High.MinLevel())
		require.LessOrEqual(t, level, priority.High.MaxLevel())
		callWith(priority.ContextWithLevel(t.Context(), 5000))
		require.Equal(t, -1, level, "what the server would refuse is not sent")
		callWith(priority.ContextWithLevel(metadata.AppendToOutgoingContext(t.Context(), "x-failsafe-level", "7"), 8))
		require.Equal(t, 8, level, "what is there is replaced")
	})
}
