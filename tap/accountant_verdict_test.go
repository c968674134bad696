package tap_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go/adaptivelimiter"
	"github.com/failsafe-go/failsafe-go/adaptivethrottler"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	grpctap "google.golang.org/grpc/tap"

	"github.com/streamsafe/streamsafe/tap"
)

// What policies learn from how RPCs end.

func TestAThrottlerAndALimiterLearnHowRPCsEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		answer := status.Error(codes.NotFound, "fine")
		throttler := adaptivethrottler.NewBuilder[any]().WithFailureRateThreshold(.1, 10, time.Minute).WithMaxRejectionRate(1).Build()
		limiter := adaptivelimiter.NewBuilder[any]().WithLimits(1, 5, 5).Build()
		a := accountant(t, tap.WithPolicies(throttler, limiter))
		conn := serve(t, &service{unary: func(context.Context) error { time.Sleep(time.Second); return answer }}, a.ServerOptions()...)
		var calls sync.WaitGroup
		for range 7 {
			calls.Go(func() { _ = call(t.Context(), conn) })
		}
		synctest.Wait()
		require.Equal(t, 5, limiter.Inflight())
		calls.Wait()
		synctest.Wait()
		require.Zero(t, limiter.Inflight())
		require.Equal(t, uint64(2), a.Stats().Refused[tap.ReasonAdaptiveLimiter])
		for range 10 {
			require.Equal(t, codes.NotFound, status.Code(call(t.Context(), conn)))
		}
		synctest.Wait()
		require.True(t, throttler.TryAcquirePermit(), "no failure so far")
		require.Zero(t, throttler.RejectionRate())

		answer = status.Error(codes.Unavailable, "broken")
		for range 200 {
			_ = call(t.Context(), conn)
		}
		synctest.Wait()
		require.Positive(t, throttler.RejectionRate())
		require.Positive(t, a.Stats().Refused[tap.ReasonThrottler])
	})
}

// An adaptive limiter learns from durations, so not from those that the client has chosen.
func TestALimiterLearnsOnlyFromRPCsThatRan(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		limiter := &spyLimiter{AdaptiveLimiter: adaptivelimiter.NewWithDefaults[any]()}
		shut := true
		a := accountant(t, tap.WithPolicies(limiter))
		conn := serve(t, &service{unary: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }},
			grpc.StatsHandler(a), grpc.InTapHandle(tap.Chain(a.Handle, func(ctx context.Context, _ *grpctap.Info) (context.Context, error) {
				if shut {
					return ctx, bulkhead.ErrFull
				}
				return ctx, nil
			})))
		require.Error(t, call(t.Context(), conn))
		require.Equal(t, [2]int{0, 1}, [2]int{limiter.recorded, limiter.dropped}, "it never ran")
		shut = false
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		require.Error(t, call(ctx, conn))
		synctest.Wait()
		require.Equal(t, [2]int{0, 2}, [2]int{limiter.recorded, limiter.dropped}, "it was cancelled")
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.Error(t, call(ctx, conn))
		synctest.Wait()
		require.Equal(t, [2]int{1, 2}, [2]int{limiter.recorded, limiter.dropped}, "the server was too slow")
	})
}

type spyLimiter struct {
	adaptivelimiter.AdaptiveLimiter[any]
	recorded, dropped int
}

type spyPermit struct {
	adaptivelimiter.Permit
	of *spyLimiter
}

func (l *spyLimiter) TryAcquirePermit() (adaptivelimiter.Permit, bool) {
	p, ok := l.AdaptiveLimiter.TryAcquirePermit()
	return spyPermit{p, l}, ok
}

func (p spyPermit) Record() { p.of.recorded++; p.Permit.Record() }
func (p spyPermit) Drop()   { p.of.dropped++; p.Permit.Drop() }

// A cancelled RPC says nothing about the server. One that the client gave up at its deadline does.
func TestACancelledRPCIsNoVerdict(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		breaker := circuitbreaker.NewBuilder[any]().WithFailureThreshold(1).WithDelay(time.Second).Build()
		a := accountant(t, tap.WithPolicies(breaker))
		conn := serve(t, &service{unary: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}, a.ServerOptions()...)
		quit := func() {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			require.Equal(t, codes.Canceled, status.Code(call(ctx, conn)))
			synctest.Wait()
		}
		quit()
		require.True(t, breaker.IsClosed())
		require.Zero(t, breaker.Metrics().Executions())

		late := func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			require.Equal(t, codes.DeadlineExceeded, status.Code(call(ctx, conn)))
			synctest.Wait()
		}
		late()
		require.True(t, breaker.IsOpen())

		time.Sleep(time.Second)
		quit()
		require.True(t, breaker.IsHalfOpen(), "the trial has no verdict")
		quit()
		require.True(t, breaker.IsHalfOpen(), "and its permit is used again")
		late()
		require.True(t, breaker.IsOpen())
	})
}

// An RPC from before the breaker opened must not add to the permits of the trial.
func TestAnOldRPCIsNoTrial(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		breaker := circuitbreaker.NewBuilder[any]().WithFailureThreshold(1).WithDelay(time.Second).Build()
		a := accountant(t, tap.WithPolicies(breaker))
		conn := serve(t, &service{unary: func(context.Context) error { <-release; return nil }}, a.ServerOptions()...)
		var calls sync.WaitGroup
		for range 3 {
			calls.Go(func() { assert.NoError(t, call(t.Context(), conn)) })
		}
		synctest.Wait()
		breaker.HalfOpen()
		close(release)
		calls.Wait()
		synctest.Wait()
		require.True(t, breaker.IsHalfOpen())
		require.NoError(t, call(t.Context(), conn), "the trial")
		synctest.Wait()
		require.True(t, breaker.IsClosed())
	})
}
