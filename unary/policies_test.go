package unary_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/fallback"
	"github.com/failsafe-go/failsafe-go/hedgepolicy"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/failsafe-go/failsafe-go/timeout"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/streamsafe/streamsafe/internal/rpcstatus"
	"github.com/streamsafe/streamsafe/unary"
)

// What may be retried, by code, hint and idempotency.
func TestWhatIsRetried(t *testing.T) {
	t.Parallel()
	hinted := func(c codes.Code) error { return rpcstatus.WithRetryInfo(status.New(c, "later"), time.Second).Err() }
	plain := func(c codes.Code) error { return status.Error(c, "no") }
	for name, c := range map[string]struct {
		err                  error
		always, ifIdempotent bool
	}{
		"UNAVAILABLE":                {plain(codes.Unavailable), true, true},
		"DEADLINE_EXCEEDED":          {plain(codes.DeadlineExceeded), false, true},
		"RESOURCE_EXHAUSTED":         {plain(codes.ResourceExhausted), false, false},
		"RESOURCE_EXHAUSTED, hinted": {hinted(codes.ResourceExhausted), false, true},
		"INTERNAL":                   {plain(codes.Internal), false, false},
		"ABORTED, hinted":            {hinted(codes.Aborted), false, false},
		"CANCELLED":                  {plain(codes.Canceled), false, false},
		"UNKNOWN":                    {errors.New("plain"), false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				for idempotent, want := range map[bool]bool{false: c.always, true: c.ifIdempotent} {
					for kind, option := range map[string]func(...failsafe.Policy[any]) unary.Option{
						"policies": unary.WithPolicies, "executor": withExecutor,
					} {
						opts := []unary.Option{option(unary.NewRetryPolicyBuilder().Build())}
						if idempotent {
							opts = append(opts, unary.WithIdempotent("/grpc.testing.TestService/*"))
						}
						attempts := 0
						_, err := call(t.Context(), unary.ClientInterceptor(opts...),
							func(context.Context, *response, []grpc.CallOption) error { attempts++; return c.err })
						require.Equal(t, status.Code(c.err), status.Code(err))
						require.Equal(t, want, attempts == 3, "%s, idempotent %v: %d attempts", kind, idempotent, attempts)
						require.True(t, want || attempts == 1)
					}
				}
			})
		})
	}
}

// A timeout of one attempt is a DEADLINE_EXCEEDED; a denial is no attempt, and not worth another.
func TestTimeoutsAreRetriedAndDenialsAreNot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hang := func(ctx context.Context, _ *response, _ []grpc.CallOption) error {
			<-ctx.Done()
			return status.FromContextError(ctx.Err()).Err()
		}
		stats := &unary.Stats{}
		chain := unary.WithPolicies(unary.NewRetryPolicyBuilder().Build(), timeout.New[any](time.Second))
		_, err := call(t.Context(), unary.ClientInterceptor(chain, unary.WithObserver(stats)), hang)
		require.Equal(t, codes.DeadlineExceeded, status.Code(err))
		require.EqualValues(t, 1, stats.Snapshot().Attempts, "it may have been done")
		_, err = call(t.Context(), unary.ClientInterceptor(chain, unary.WithIdempotent("*"), unary.WithObserver(stats)), hang)
		require.Equal(t, codes.DeadlineExceeded, status.Code(err))
		require.ErrorIs(t, err, timeout.ErrExceeded)
		require.EqualValues(t, 4, stats.Snapshot().Attempts)

		open := circuitbreaker.NewBuilder[any]().WithDelay(time.Hour).Build()
		open.Open()
		began := time.Now()
		_, err = call(t.Context(), unary.ClientInterceptor(
			unary.WithPolicies(unary.NewRetryPolicyBuilder().Build(), open), unary.WithObserver(stats)), hang)
		require.ErrorIs(t, err, circuitbreaker.ErrOpen)
		require.Zero(t, time.Since(began))
	})
}

// An idempotency_level in a registered descriptor counts as WithIdempotent.
func TestIdempotencyFromDescriptors(t *testing.T) {
	t.Parallel()
	level := func(l descriptorpb.MethodOptions_IdempotencyLevel) *descriptorpb.MethodOptions {
		return &descriptorpb.MethodOptions{IdempotencyLevel: l.Enum()}
	}
	of := func(name string, o *descriptorpb.MethodOptions) *descriptorpb.MethodDescriptorProto {
		return &descriptorpb.MethodDescriptorProto{
			Name: proto.String(name), InputType: proto.String(".unarytest.M"), OutputType: proto.String(".unarytest.M"), Options: o,
		}
	}
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("unarytest.proto"), Package: proto.String("unarytest"), Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{{Name: proto.String("M")}},
		Service: []*descriptorpb.ServiceDescriptorProto{{Name: proto.String("S"), Method: []*descriptorpb.MethodDescriptorProto{
			of("Get", level(descriptorpb.MethodOptions_NO_SIDE_EFFECTS)), of("Put", level(descriptorpb.MethodOptions_IDEMPOTENT)),
			of("Unknown", level(descriptorpb.MethodOptions_IDEMPOTENCY_UNKNOWN)), of("Post", nil),
		}}},
	}, nil)
	require.NoError(t, err)
	require.NoError(t, new(protoregistry.Files).RegisterFile(file))
	if _, err := protoregistry.GlobalFiles.FindFileByPath(file.Path()); err != nil { // -count runs the test again
		require.NoError(t, protoregistry.GlobalFiles.RegisterFile(file))
	}
	synctest.Test(t, func(t *testing.T) {
		for name, want := range map[string]int{
			"/unarytest.S/Get": 3, "unarytest.S/Get": 3, "/unarytest.S/Put": 3, "/unarytest.S/Unknown": 1, "/unarytest.S/Post": 1,
			"/unarytest.S/None": 1, "/unarytest.M/Get": 1, "/nowhere/Get": 1, "": 1, "/": 1, "Get": 1,
		} {
			attempts := 0
			err := unary.ClientInterceptor(unary.WithPolicies(unary.NewRetryPolicyBuilder().Build()))(t.Context(), name,
				&request{}, &response{}, nil,
				func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
					attempts++
					return status.Error(codes.DeadlineExceeded, "slow")
				})
			require.Error(t, err)
			assert.Equal(t, want, attempts, name)
		}
	})
}

// What is not idempotent is not hedged by our policies.
func TestOnlyIdempotentMethodsAreHedged(t *testing.T) {
	t.Parallel()
	for kind, option := range map[string]func(...failsafe.Policy[any]) unary.Option{
		"policies": unary.WithPolicies, "executor": withExecutor,
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				for _, idempotent := range []bool{false, true} {
					stats := &unary.Stats{}
					opts := []unary.Option{
						option(unary.NewHedgePolicyBuilder(time.Millisecond).Build()), unary.WithObserver(stats),
					}
					if idempotent {
						opts = append(opts, unary.WithIdempotent(method))
					}
					_, err := call(t.Context(), unary.ClientInterceptor(opts...),
						func(context.Context, *response, []grpc.CallOption) error {
							time.Sleep(time.Second)
							return nil
						})
					require.NoError(t, err)
					require.Equal(t, idempotent, stats.Snapshot().Hedges == 1)
				}
			})
		})
	}
}

// A retry that would come after the caller's deadline is not waited for.
func TestNoWaitBeyondTheDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		in := unary.ClientInterceptor(unary.WithPolicies(
			fallback.NewBuilderWithError[any](status.Error(codes.DataLoss, "fallback")).HandleErrors(errors.New("never")).Build(),
			unary.NewRetryPolicyBuilder().WithDelay(time.Minute).WithJitter(0).Build()))
		ctx, cancel := context.WithTimeout(t.Context(), 59*time.Second)
		defer cancel()
		began := time.Now()
		_, err := call(ctx, in, fails(codes.Unavailable))
		require.Equal(t, codes.Unavailable, status.Code(err), "the failure, not the deadline")
		require.Zero(t, time.Since(began))
	})
}

// A breaker of ours counts what tells against the server, and nothing else.
func TestBreakerCountsServerFaults(t *testing.T) {
	t.Parallel()
	for code := codes.OK; code <= codes.Unauthenticated; code++ {
		breaker := unary.NewCircuitBreakerBuilder().WithFailureThreshold(1).Build()
		_, _ = handle(t.Context(), unary.ServerInterceptor(unary.WithPolicies(breaker)),
			func(context.Context) (any, error) { return text(""), status.Error(code, "failed") })
		faults := []codes.Code{codes.Unavailable, codes.DeadlineExceeded, codes.Internal, codes.Unknown, codes.DataLoss}
		require.Equal(t, slices.Contains(faults, code), breaker.IsOpen(), code)
	}
	require.False(t, unary.ServerFault(nil))
	require.False(t, unary.ServerFault(circuitbreaker.ErrOpen))
	require.True(t, unary.ServerFault(timeout.ErrExceeded))
	require.False(t, unary.Retryable(nil))
}

// Two hedges do not share the count of a retry policy inside them, nor two tries that of a retry inside a retry.
func TestPolicyStateIsOfOneEntry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		attempts := 0
		inner := retrypolicy.NewBuilder[any]().WithMaxRetries(2).ReturnLastFailure().Build()
		outer := retrypolicy.NewBuilder[any]().WithMaxRetries(1).Build()
		_, err := call(t.Context(), unary.ClientInterceptor(unary.WithPolicies(outer, inner)),
			func(context.Context, *response, []grpc.CallOption) error {
				attempts++
				return status.Error(codes.Unavailable, "down")
			})
		require.Error(t, err)
		require.Equal(t, 6, attempts, "twice three")

		var hedged atomic.Int32
		_, err = call(t.Context(), unary.ClientInterceptor(
			unary.WithPolicies(hedgepolicy.NewBuilderWithDelay[any](time.Millisecond).Build(), inner)),
			func(context.Context, *response, []grpc.CallOption) error {
				hedged.Add(1)
				time.Sleep(10 * time.Millisecond)
				return status.Error(codes.Unavailable, "down")
			})
		require.Error(t, err)
		require.EqualValues(t, 6, hedged.Load())
	})
}

// An outer fallback, breaker or timeout sees what a retry policy was not to retry.
func TestOuterPoliciesSeeFinalFailures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		breaker := unary.NewCircuitBreakerBuilder().WithFailureThreshold(1).Build()
		w := start(t, client(unary.WithPolicies(fallback.NewWithResult[any](text("ok")), breaker, retrypolicy.NewWithDefaults[any]())),
			server{handle: func(ctx context.Context, _ *request) (*response, error) {
				return nil, errors.Join(grpc.SetTrailer(ctx, metadata.Pairs(rpcstatus.PushbackKey, "-1")),
					status.Error(codes.Unavailable, "down"))
			}})
		reply, err := w.UnaryCall(t.Context(), &request{})
		require.NoError(t, err)
		require.Equal(t, "ok", textOf(reply))
		require.True(t, breaker.IsOpen())
	})
}

// A timeout around a retry ends the wait between tries, and no attempt outlives it.
func TestTimeoutAroundRetry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		_, err := call(t.Context(), unary.ClientInterceptor(unary.WithPolicies(timeout.New[any](1500*time.Millisecond),
			retrypolicy.NewBuilder[any]().WithDelay(time.Second).WithMaxRetries(-1).Build())), fails(codes.Unavailable))
		require.ErrorIs(t, err, timeout.ErrExceeded)
		require.Equal(t, 1500*time.Millisecond, time.Since(began))
		synctest.Wait()
	})
}

func TestPresets(t *testing.T) {
	t.Parallel()
	for _, p := range []unary.Preset{unary.Interactive(), unary.Background(), unary.CriticalWrite()} {
		require.NoError(t, unary.Validate(unary.WithPolicies(p.Policies()...)), p.Name)
		require.Contains(t, p.String(), p.Name)
		reply, err := call(t.Context(), unary.ClientInterceptor(unary.WithPolicies(p.Policies()...)),
			func(_ context.Context, reply *response, _ []grpc.CallOption) error {
				proto.Merge(reply, text("ok"))
				return nil
			})
		require.NoError(t, err)
		require.Equal(t, "ok", textOf(reply))
	}
	require.Len(t, unary.Interactive().Policies(), 6)
	require.Len(t, unary.Background().Policies(), 5)
	require.Len(t, unary.CriticalWrite().Policies(), 5)
	changed := unary.Interactive()
	changed.MaxRetries, changed.HedgeDelay = 0, 0
	require.Len(t, changed.Policies(), 4)
	require.NotContains(t, changed.String(), "retry")
	require.Empty(t, unary.Preset{}.Policies())
	require.Equal(t, `interactive
  timeout of the call: 2s
  bulkhead: 256 calls at a time
  retry: 1 times, after up to 25ms, doubling to 100ms
  retry budget: 10% of attempts
  breaker: opens for 2s at 50% of 20 or more attempts in 10s
  hedge: 1, after 200ms, where the method is idempotent
  timeout of an attempt: 1s`, unary.Interactive().String())
}

func TestPresetLimitsACall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stats := &unary.Stats{}
		in := unary.ClientInterceptor(unary.WithPolicies(unary.Interactive().Policies()...), unary.WithIdempotent("*"), unary.WithObserver(stats))
		began := time.Now()
		_, err := call(t.Context(), in, func(ctx context.Context, _ *response, _ []grpc.CallOption) error {
			<-ctx.Done()
			return status.FromContextError(ctx.Err()).Err()
		})
		require.Equal(t, codes.DeadlineExceeded, status.Code(err))
		require.LessOrEqual(t, time.Since(began), 2*time.Second)
		require.EqualValues(t, 4, stats.Snapshot().Attempts, "two tries, each with a hedge")
		require.EqualValues(t, 2, stats.Snapshot().Hedges)
	})
}
