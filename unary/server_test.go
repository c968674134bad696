package unary_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/adaptivethrottler"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/fallback"
	"github.com/failsafe-go/failsafe-go/hedgepolicy"
	"github.com/failsafe-go/failsafe-go/priority"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/unary"
)

// The numbers are those of the list in bench/compare, where the same is shown of failsafe-go's own gRPC package. 9 is of
// package tap, 14 of package stream, and 13 of both taps and interceptors.

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
