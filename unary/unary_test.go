package unary_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/fallback"
	"github.com/failsafe-go/failsafe-go/hedgepolicy"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/streamsafe/streamsafe/unary"
)

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

// warnings is an observer of warnings.
type warnings struct{ got chan string }

func (w warnings) OnWarning(text string) { w.got <- text }

// A pattern that names no method of a service linked in is reported by Validate, and by the first call.
func TestMisspeltPatterns(t *testing.T) {
	t.Parallel()
	told := warnings{make(chan string, 9)}
	opts := []unary.Option{
		unary.WithMethodPolicies("/grpc.testing.TestService/UnaryCal"), unary.WithIdempotent("*", "/grpc.testing.TestServce/UnaryCall"),
		unary.WithMethodPolicies("/grpc.testing.TestService/*"), unary.WithMethodPolicies("/not.linked.In/Method"),
	}
	err := unary.Validate(opts...)
	require.ErrorContains(t, err, "has no method UnaryCal, but EmptyCall, UnaryCall")
	require.ErrorContains(t, err, "did you mean grpc.testing.TestService?")
	require.NotContains(t, err.Error(), "not.linked")
	for side, makeCall := range map[string]func(...unary.Option) error{
		"client": func(opts ...unary.Option) error {
			in := unary.ClientInterceptor(opts...)
			_, first := call(t.Context(), in, fails(codes.OK))
			_, second := call(t.Context(), in, fails(codes.OK))
			return errors.Join(first, second)
		},
		"server": func(opts ...unary.Option) error {
			in := unary.ServerInterceptor(opts...)
			_, first := handle(t.Context(), in, func(context.Context) (any, error) { return text(""), nil })
			_, second := handle(t.Context(), in, func(context.Context) (any, error) { return text(""), nil })
			return errors.Join(first, second)
		},
	} {
		require.NoError(t, makeCall(slices.Concat(opts, []unary.Option{unary.WithObserver(told)})...), side)
		require.Len(t, told.got, 2, "%s: once for each pattern", side)
		require.Contains(t, <-told.got, "UnaryCal")
		require.Contains(t, <-told.got, "TestServce")
	}
}

// Policies may be chosen by a function of the call: the first that matches counts, before all patterns.
func TestPoliciesIf(t *testing.T) {
	t.Parallel()
	type key struct{}
	denies := func(name string) failsafe.Policy[any] {
		return fallback.NewWithError[any](status.Error(codes.Aborted, name))
	}
	reads := func(_ context.Context, method string) bool { return strings.Contains(method, "/Get") }
	tenant := func(ctx context.Context, _ string) bool { return ctx.Value(key{}) == "tenant" }
	opts := []unary.Option{
		unary.WithPolicies(denies("all")), unary.WithMethodPolicies("/a.S/GetOne", denies("method")),
		unary.WithPoliciesIf(tenant, denies("tenant")), unary.WithPoliciesIf(reads, denies("read")),
		unary.WithPoliciesIf(func(_ context.Context, method string) bool { return method == "/a.S/Off" }),
	}
	require.NoError(t, unary.Validate(opts...))
	of := context.WithValue(t.Context(), key{}, "tenant")
	for _, c := range []struct {
		ctx          context.Context
		method, want string
	}{
		{t.Context(), "/a.S/Put", "all"}, {t.Context(), "/a.S/GetOne", "read"}, {t.Context(), "/a.S/Off", "bare"}, {of, "/a.S/GetOne", "tenant"},
	} {
		err := unary.ClientInterceptor(opts...)(c.ctx, c.method, &request{}, &response{}, nil,
			func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
				return status.Error(codes.Internal, "bare")
			})
		require.ErrorContains(t, err, c.want, c.method)
		_, err = unary.ServerInterceptor(opts...)(c.ctx, &request{}, &grpc.UnaryServerInfo{FullMethod: c.method},
			func(context.Context, any) (any, error) { return nil, status.Error(codes.Internal, "bare") })
		require.ErrorContains(t, err, c.want, c.method)
	}
	require.ErrorContains(t, unary.Validate(unary.WithPoliciesIf(nil)), "WithPoliciesIf")
}
