package stream_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go/adaptivelimiter"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream"
)

// What a stream waits for before it opens, and what the life of a stream tells policies.

// The wait for a permit is part of the first open: WithMaxOutage bounds it.
func TestMaxOutageBoundsTheWaitForAPermit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		limit := bulkhead.NewBuilder[any](1).WithMaxWaitTime(time.Hour).Build()
		require.True(t, limit.TryAcquirePermit())
		w := scripted(t, stays())
		began := time.Now()
		_, err := w.dial(t.Context(), positions(), stream.WithStreamPolicies(limit), stream.WithMaxOutage(5*time.Second))
		wantEnd(t, err, stream.ReasonMaxOutage, codes.Unavailable, "no permit")
		require.NotErrorIs(t, err, context.Canceled, "invariant 30")
		require.Equal(t, 5*time.Second, time.Since(began))
		require.Zero(t, w.Stats().Connections, "nothing is opened")
		limit.ReleasePermit()
		s := w.mustDial(positions(), stream.WithStreamPolicies(limit), stream.WithMaxOutage(5*time.Second))
		rest(time.Minute)
		require.Equal(t, stream.Attached, s.State(), "once it has a permit, the limit is for outages alone")
	})
}

// hangingStore is a store whose Acquire waits for its end.
type hangingStore struct{ checkpoint.Memory }

func (*hangingStore) Acquire(ctx context.Context, _ string) (checkpoint.Record, error) {
	<-ctx.Done()
	return checkpoint.Record{}, ctx.Err()
}

// CommitTimeout bounds acquiring the key, too. That is no deadline of the application's (invariant 30).
func TestCommitTimeoutBoundsAcquire(t *testing.T) {
	t.Parallel()
	options := map[string]struct {
		opts  []stream.StoreOption
		limit time.Duration
	}{
		"by default":   {nil, 5 * time.Second},
		"as it is set": {[]stream.StoreOption{stream.CommitTimeout(time.Minute)}, time.Minute},
	}
	for name, option := range options {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := scripted(t, stays())
				began := time.Now()
				_, err := w.dial(t.Context(), positions(), stream.WithStore(&hangingStore{}, "key", option.opts...))
				wantEnd(t, err, stream.ReasonStore, codes.DeadlineExceeded, "no answer from the store")
				require.NotErrorIs(t, err, context.DeadlineExceeded)
				require.Equal(t, option.limit, time.Since(began))
				require.Zero(t, w.Stats().Connections, "nothing is opened")
			})
		})
	}
}

// An adaptive limiter takes times for those of responses. How long a stream lives is none: the longer, the better.
func TestAnAdaptiveLimiterDoesNotTakeALongLifeForOverload(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		limit := adaptivelimiter.NewBuilder[any]().WithLimits(1, 40, 20).
			WithRecentWindow(time.Millisecond, time.Millisecond, 1).Build()
		w := newWorld(t, &feed{})
		rounds := func(life time.Duration) {
			w.feed.handler = lasts(life, nil)
			for range 10 {
				var all sync.WaitGroup
				for range 10 {
					all.Go(func() {
						if s, err := w.dial(t.Context(), positions(), stream.WithStreamPolicies(limit)); err == nil {
							_, _ = s.Recv()
						}
					})
				}
				all.Wait()
			}
		}
		rounds(time.Second)
		before := limit.Limit()
		rounds(time.Minute) // as healthy as before: the streams are of use for longer
		require.GreaterOrEqual(t, limit.Limit(), before, "nothing is overloaded")
		synctest.Wait() // they are held for the streams' last words
		require.Zero(t, limit.Inflight(), "every permit is back")
	})
}

// A breaker does not count a stream that the application left while it was opening (invariant 28): the server has done
// nothing. A deadline that passes may be the server's doing.
func TestABreakerAndAContextThatIsDoneWhileOpening(t *testing.T) {
	t.Parallel()
	contexts := map[string]struct {
		with  func(context.Context) (context.Context, context.CancelFunc)
		end   error
		state circuitbreaker.State
	}{
		"cancelled": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(time.Second, cancel)
			return ctx, cancel
		}, context.Canceled, circuitbreaker.ClosedState},
		"past its deadline": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, time.Second)
		}, context.DeadlineExceeded, circuitbreaker.OpenState},
	}
	for name, test := range contexts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				breaker := circuitbreaker.NewBuilder[any]().WithFailureThreshold(1).WithDelay(time.Minute).Build()
				ctx, cancel := test.with(t.Context())
				defer cancel()
				_, err := scripted(t, stays()).dial(ctx, resumes(hangs),
					stream.WithStreamPolicies(stream.NewRetryPolicyBuilder().Build(), breaker))
				requireReason(t, err, stream.ReasonContext, name)
				require.ErrorIs(t, err, test.end)
				require.Equal(t, test.state.String(), breaker.State().String())
			})
		})
	}
}
