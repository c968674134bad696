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
	"github.com/failsafe-go/failsafe-go/bulkhead"
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
	"google.golang.org/grpc/peer"
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

		open := circuitbreaker.NewWithDefaults[any]()
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

// A caller may change its messages when its call is over, hedges or not.
func TestMessagesAreTheCallersAfterTheCall(t *testing.T) {
	t.Parallel()
	in := unary.ClientInterceptor(unary.WithPolicies(hedgepolicy.NewBuilderWithDelay[any](0).WithMaxHedges(3).Build()))
	req, reply := &request{}, &response{}
	for i := range 500 {
		req.ResponseSize = int32(i) //nolint:gosec // small
		err := in(t.Context(), method, req, reply, nil,
			func(_ context.Context, _ string, req, reply any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
				encoded, err := proto.Marshal(as[*request](req))
				proto.Merge(as[*response](reply), text(string(encoded)))
				return err
			})
		require.NoError(t, err)
		reply.Payload = nil
	}
}

func TestOptionsByMethodAndByCall(t *testing.T) {
	t.Parallel()
	denies := func(name string) failsafe.Policy[any] {
		return fallback.NewWithError[any](status.Error(codes.Aborted, name))
	}
	in := unary.ClientInterceptor(
		unary.WithPolicies(denies("all")),
		unary.WithMethodPolicies("/a.S/*", denies("service")),
		unary.WithMethodPolicies("/a.S/M", denies("method")),
		unary.WithMethodPolicies("/a.S/Off"),
	)
	failing := func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
		return status.Error(codes.Internal, "bare")
	}
	for name, want := range map[string]string{"/b.S/M": "all", "/a.S/N": "service", "/a.S/M": "method", "/a.S/Off": "bare"} {
		err := in(t.Context(), name, &request{}, &response{}, nil, failing)
		assert.ErrorContains(t, err, want, name)
		err = in(t.Context(), name, &request{}, &response{}, nil, failing, unary.WithPolicies(denies("call")))
		assert.ErrorContains(t, err, "call", name)
		err = in(t.Context(), name, &request{}, &response{}, nil, failing, unary.WithPolicies())
		assert.Equal(t, status.Error(codes.Internal, "bare"), err, "a call without policies")
		err = in(t.Context(), name, &request{}, &response{}, nil, failing, unary.WithMethodPolicies("/c.S/M", denies("other")))
		assert.ErrorContains(t, err, want, "a call option for another method")
		stats := &unary.Stats{}
		_ = in(t.Context(), name, &request{}, &response{}, nil, failing, unary.WithObserver(stats))
		assert.EqualValues(t, 1, stats.Snapshot().Calls)
	}
	err := in(t.Context(), "/a.S/M", &request{}, &response{}, nil, failing, unary.WithIdempotent("bad"))
	assert.Equal(t, codes.Internal, status.Code(err))
}

func TestWrongOptionsFailEveryCall(t *testing.T) {
	t.Parallel()
	for name, opt := range map[string]unary.Option{
		"method pattern":   unary.WithMethodPolicies("nonsense"),
		"pattern":          unary.WithIdempotent("/a.S"),
		"a policy is nil":  unary.WithPolicies(nil),
		"executor is nil":  unary.WithExecutor(nil),
		"observer string":  unary.WithObserver("me"),
		"implements none ": unary.WithObserver(nil),
	} {
		require.ErrorContains(t, unary.Validate(unary.WithIdempotent("*"), opt), name)
		_, err := call(t.Context(), unary.ClientInterceptor(opt), fails(codes.OK))
		require.Equal(t, codes.Internal, status.Code(err))
		require.ErrorContains(t, err, name)
		_, err = handle(t.Context(), unary.ServerInterceptor(opt), func(context.Context) (any, error) { return text(""), nil })
		require.Equal(t, codes.Internal, status.Code(err))
	}
	require.NoError(t, unary.Validate())
	require.NoError(t, unary.Validate(unary.Option{}), "the zero Option")
}

// Without policies, errors, replies and targets are those of gRPC.
func TestWithoutPolicies(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := start(t, options{}, server{handle: func(context.Context, *request) (*response, error) { return text("ok"), nil }})
		var p peer.Peer
		reply, err := w.UnaryCall(t.Context(), &request{}, grpc.Peer(&p))
		require.NoError(t, err)
		require.Equal(t, "ok", textOf(reply))
		require.NotNil(t, p.Addr)
	})
}

// The caller's targets get what belongs to the attempt that won, or to the last one.
func TestTargets(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		attempts, failures := 0, 1
		w := start(t, client(unary.WithPolicies(unary.NewRetryPolicyBuilder().Build())),
			server{handle: func(ctx context.Context, _ *request) (*response, error) {
				attempts++
				md := metadata.Pairs("attempt", string(rune('0'+attempts)))
				if attempts <= failures {
					return nil, errors.Join(grpc.SetTrailer(ctx, md), status.Error(codes.Unavailable, "down"))
				}
				return text("ok"), errors.Join(grpc.SetHeader(ctx, md), grpc.SetTrailer(ctx, md))
			}})
		var header, trailer, again metadata.MD
		var p peer.Peer
		opts := []grpc.CallOption{grpc.Header(&header), grpc.Trailer(&trailer), grpc.Trailer(&again), grpc.Peer(&p)}
		_, err := w.UnaryCall(t.Context(), &request{}, opts...)
		require.NoError(t, err)
		require.Equal(t, []string{"2"}, header.Get("attempt"))
		require.Equal(t, []string{"2"}, trailer.Get("attempt"))
		require.Equal(t, []string{"2"}, again.Get("attempt"))
		require.NotNil(t, p.Addr)

		attempts, failures = 0, 9
		_, err = w.UnaryCall(t.Context(), &request{}, opts...)
		require.Equal(t, codes.Unavailable, status.Code(err))
		require.Equal(t, []string{"3"}, trailer.Get("attempt"), "the last failure's")
		require.Empty(t, header.Get("attempt"), "nothing of an earlier call or attempt")
	})
}

type ours struct{ text string }

// Replies that are no protobuf messages have their own for each attempt as well.
func TestRepliesOfAnyType(t *testing.T) {
	t.Parallel()
	in := unary.ClientInterceptor(unary.WithPolicies(retrypolicy.NewBuilder[any]().
		HandleIf(func(r any, _ error) bool { return as[*ours](r).text == "again" }).Build()))
	reply, attempts := &ours{"old"}, 0
	err := in(t.Context(), method, "in", reply, nil,
		func(_ context.Context, _ string, _, reply any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
			if attempts++; attempts == 1 {
				as[*ours](reply).text = "again"
				return nil
			}
			assert.Empty(t, as[*ours](reply).text, "an earlier reply")
			as[*ours](reply).text = "new"
			return nil
		})
	require.NoError(t, err)
	require.Equal(t, "new", reply.text)
}

func TestObserverAndStats(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stats := &unary.Stats{}
		limit := bulkhead.New[any](1)
		breaker := circuitbreaker.NewBuilder[any]().WithFailureThreshold(2).WithDelay(time.Hour).Build()
		in := unary.ClientInterceptor(unary.WithObserver(stats), unary.WithIdempotent("*"), unary.WithPolicies(
			limit, retrypolicy.NewBuilder[any]().WithDelay(time.Second).WithMaxRetries(3).Build(), breaker))
		_, err := call(t.Context(), in, func(context.Context, *response, []grpc.CallOption) error {
			time.Sleep(100 * time.Millisecond)
			return status.Error(codes.Unavailable, "down")
		})
		require.Error(t, err)
		failure, ok := errors.AsType[*unary.Error](err)
		require.True(t, ok)
		require.Equal(t, 2, failure.Attempts)
		require.Equal(t, method, failure.Method)
		require.True(t, limit.TryAcquirePermit())
		_, err = call(t.Context(), in, fails(codes.OK))
		require.ErrorIs(t, err, bulkhead.ErrFull)

		got := stats.Snapshot()
		require.EqualValues(t, 2, got.Calls)
		require.EqualValues(t, 2, got.FailedCalls)
		require.EqualValues(t, 2, got.Attempts)
		require.EqualValues(t, 2, got.FailedAttempts)
		require.EqualValues(t, 1, got.Retries)
		require.Equal(t, map[string]uint64{"bulkhead": 1, "circuitbreaker": 2}, got.Denied)
		require.InEpsilon(t, 100*time.Millisecond, got.AttemptLatency.Quantile(1), 0.25)
		require.InEpsilon(t, 3200*time.Millisecond, got.CallLatency.Quantile(1), 0.25)
		require.EqualValues(t, 2, got.AttemptLatency.Count())
	})
}

func TestLatency(t *testing.T) {
	t.Parallel()
	require.Zero(t, unary.Latency{}.Quantile(0.5))
	for d := time.Duration(1); d > 0; d = d*3/2 + 1 {
		stats := &unary.Stats{}
		for range 10 {
			stats.OnCall(unary.Info{}, d, nil)
		}
		for _, q := range []float64{-1, 0, 0.5, 1, 2} {
			got := stats.Snapshot().CallLatency.Quantile(q)
			require.GreaterOrEqual(t, got, d)
			require.LessOrEqual(t, float64(got), float64(d)*1.25+1)
		}
	}
	stats := &unary.Stats{}
	for i := range 100 {
		stats.OnCall(unary.Info{}, time.Duration(i+1)*time.Millisecond, nil)
	}
	stats.OnCall(unary.Info{}, -1, nil)
	require.InEpsilon(t, 50*time.Millisecond, stats.Snapshot().CallLatency.Quantile(0.5), 0.25)
	require.InEpsilon(t, 99*time.Millisecond, stats.Snapshot().CallLatency.Quantile(0.99), 0.25)
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
