package unary_test

import (
	"bytes"
	"context"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/hedgepolicy"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/streamsafe/streamsafe/unary"
)

// The numbers are those of the list in bench/compare, where the same is shown of failsafe-go's own gRPC package. 9 is of
// package tap, 14 of package stream, and 13 of both taps and interceptors.

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

func Test12FailingHedgeDoesNotBeatTheFirstTry(t *testing.T) {
	t.Parallel()
	hedges := map[string]failsafe.Policy[any]{
		"ours":  unary.NewHedgePolicyBuilder(10 * time.Millisecond).WithMaxHedges(2).Build(),
		"plain": hedgepolicy.NewBuilderWithDelay[any](10 * time.Millisecond).WithMaxHedges(2).Build(),
	}
	inner := map[string]func() policies{
		"":                 func() policies { return nil },
		" around retry":    func() policies { return policies{retrypolicy.NewWithDefaults[any]()} },
		" around bulkhead": func() policies { return policies{bulkhead.New[any](1)} }, // which denies the hedges
	}
	for name, hedge := range hedges {
		for around, with := range inner {
			chain := append(policies{hedge}, with()...)
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

// A breaker inside a hedge sees the outcome of each try, whoever wins.
func TestABreakerInsideAHedge(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		breaker := circuitbreaker.NewBuilder[any]().WithFailureThreshold(100).Build()
		in := unary.ClientInterceptor(unary.WithIdempotent("*"), unary.WithPolicies(
			hedgepolicy.NewBuilderWithDelay[any](10*time.Millisecond).Build(), breaker))
		require.NoError(t, firstFails(t, in))
		require.EqualValues(t, 1, breaker.Metrics().Failures())
		require.EqualValues(t, 1, breaker.Metrics().Successes())
	})
}

// Under an executor, too, a try that has failed and waited does not come before the hedge that has won.
func TestATryThatWaitedDoesNotBeatTheHedge(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slow := circuitbreaker.NewBuilder[any]().WithFailureThreshold(100).
			OnSuccess(func(failsafe.ExecutionEvent[any]) { time.Sleep(time.Millisecond) }).Build()
		in := unary.ClientInterceptor(unary.WithIdempotent("*"), unary.WithExecutor(failsafe.With[any](
			hedgepolicy.NewBuilderWithDelay[any](10*time.Millisecond).Build(), slow)))
		require.NoError(t, firstFails(t, in))
	})
}

// firstFails makes a call whose first try fails while a hedge is at work, which succeeds.
func firstFails(t *testing.T, in grpc.UnaryClientInterceptor) error {
	t.Helper()
	var tries atomic.Int32
	_, err := call(t.Context(), in, func(context.Context, *response, []grpc.CallOption) error {
		if tries.Add(1) == 1 {
			time.Sleep(20 * time.Millisecond)
			return status.Error(codes.Unavailable, "down")
		}
		time.Sleep(30 * time.Millisecond)
		return nil
	})
	time.Sleep(time.Second)
	return err
}

// The error and the trailers that a caller gets are those of one attempt, also where several fail together.
func TestErrorAndTrailersAreOfOneAttempt(t *testing.T) {
	t.Parallel()
	for name, option := range both(hedgepolicy.NewBuilderWithDelay[any](time.Millisecond).WithMaxHedges(2).Build()) {
		for range 30 { // the attempts end at the same instant
			synctest.Test(t, func(t *testing.T) {
				var attempts atomic.Int32
				began := time.Now()
				var header, trailer metadata.MD
				_, err := call(t.Context(), unary.ClientInterceptor(option),
					func(_ context.Context, _ *response, opts []grpc.CallOption) error {
						id := strconv.Itoa(int(attempts.Add(1)))
						time.Sleep(time.Second - time.Since(began))
						setTargets(opts, metadata.Pairs("attempt", id))
						return status.Error(codes.Unavailable, id)
					}, grpc.Header(&header), grpc.Trailer(&trailer))
				want := []string{status.Convert(err).Message()}
				assert.Equal(t, want, trailer.Get("attempt"), name)
				assert.Equal(t, want, header.Get("attempt"), name)
			})
		}
	}
}

// At the end of a call its observers are told how many attempts were hedges.
func TestHedgesAreCounted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		told := make(chan unary.Info, 1)
		in := unary.ClientInterceptor(unary.WithIdempotent("*"),
			unary.WithPolicies(unary.NewHedgePolicyBuilder(10*time.Millisecond).WithMaxHedges(2).Build()),
			unary.WithObserver(unary.Hooks{OnCall: func(info unary.Info, _ time.Duration, _ error) { told <- info }}))
		_, err := call(t.Context(), in, func(context.Context, *response, []grpc.CallOption) error {
			time.Sleep(time.Second)
			return nil
		})
		require.NoError(t, err)
		require.Equal(t, unary.Info{Method: method, Attempt: 3, Hedges: 2}, <-told)
	})
}
