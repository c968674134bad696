package stream_test

import (
	"context"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go/adaptivelimiter"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

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

// The last commit belongs to the life that a permit is held for: the next owner of the key waits until it is written.
func TestThePermitIsHeldForTheLastCommit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := new(faultyStore)
		store.set(nil, time.Second)
		one := bulkhead.NewBuilder[any](1).WithMaxWaitTime(time.Hour).Build()
		w := newWorld(t, &feed{handler: stays(numbered(1, 2, 3)...)})
		a := w.mustDial(positions(), stream.WithStreamPolicies(one), stream.WithStore(store, "k", stream.CommitInterval(time.Hour)))
		mustReceive(t, a, 1, 2, 3)
		opened := make(chan *client, 1)
		go func() {
			opened <- w.mustDial(positions(), stream.WithStreamPolicies(one), stream.WithStore(store, "k"))
		}()
		synctest.Wait()
		mustClose(t, a, "nobody else has the key")
		b := within(t, opened, "the second stream")
		require.Equal(t, uint64(2), b.Stats().Delivered.Seq, "1 and 2 were processed")
		mustClose(t, b, "called by the test")
	})
}

// A bulkhead at stream scope is held for the life of the logical stream, outages included.
func TestABulkheadIsHeldForTheLifeOfAStream(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		limit := bulkhead.New[any](1)
		w := scripted(t, sends(errGone, numbered(1)...), stays(), stays())
		slow := stream.NewRetryPolicyBuilder().WithDelay(time.Minute).WithJitter(0).Build()
		s := w.mustDial(positions(), stream.WithStreamPolicies(slow, limit))
		mustReceive(t, s, 1)
		go func() { _, _ = s.Recv() }() // ends with the stream
		refused := func(when string) {
			_, err := w.dial(t.Context(), positions(), stream.WithStreamPolicies(limit))
			wantEnd(t, err, stream.ReasonPolicy, codes.ResourceExhausted, when)
			require.ErrorIs(t, err, bulkhead.ErrFull)
		}
		time.Sleep(time.Second)
		require.Equal(t, stream.Detached, s.State())
		refused("in an outage")
		time.Sleep(10 * time.Minute)
		require.Equal(t, stream.Attached, s.State())
		refused("long after it")
		mustClose(t, s, "called by the test")
		require.NoError(t, w.mustDial(positions(), stream.WithStreamPolicies(limit)).Close(), "the permit is back")
		require.NoError(t, w.mustDial(positions(), stream.WithStreamPolicies(limit)).Close(), "and again")
	})
}

// A bulkhead alone does not replace the default policy for outages.
func TestABulkheadAloneKeepsTheDefault(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, sends(errGone, numbered(1)...), sends(nil, numbered(2)...))
		got, err := receiveAll(w.mustDial(positions(), stream.WithStreamPolicies(bulkhead.New[any](1))))
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, upTo(2), got)
	})
}

func TestAnAdaptiveLimiterIsHeldForTheLifeOfAStream(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		limit := adaptivelimiter.NewBuilder[any]().WithLimits(1, 1, 1).Build()
		w := scripted(t, sends(errGone, numbered(1)...), stays(), stays())
		s := w.mustDial(positions(), stream.WithStreamPolicies(limit))
		mustReceive(t, s, 1)
		time.Sleep(time.Minute)
		require.Equal(t, 1, limit.Inflight(), "one permit, for the whole life")
		_, err := w.dial(t.Context(), positions(), stream.WithStreamPolicies(limit))
		wantEnd(t, err, stream.ReasonPolicy, codes.ResourceExhausted, "the limit is one stream")
		require.ErrorIs(t, err, adaptivelimiter.ErrExceeded)
		mustClose(t, s, "called by the test")
		require.Zero(t, limit.Inflight())
	})
}
