package stream_test

import (
	"context"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/cachepolicy"
	"github.com/failsafe-go/failsafe-go/hedgepolicy"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/failsafe-go/failsafe-go/timeout"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/streamsafe/streamsafe/stream"
)

// A timeout at open scope limits the opening, and nothing after it.
func TestATimeoutAtOpenScope(t *testing.T) {
	t.Parallel()
	options := map[string]func(failsafe.Policy[any]) stream.ClientOption{
		"policies": func(p failsafe.Policy[any]) stream.ClientOption { return stream.WithOpenPolicies(p) },
		"executor": func(p failsafe.Policy[any]) stream.ClientOption { return stream.WithOpenExecutor(failsafe.With(p)) },
	}
	for name, option := range options {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := scripted(t, stays(), lasts(time.Hour, nil, numbered(1)...))
				cb := positions()
				var ended atomic.Bool
				cb.Resume = func(ctx context.Context, r *resumption) error {
					if r.Attempt() > 1 {
						return nil
					}
					<-ctx.Done()
					ended.Store(true)
					return ctx.Err()
				}
				began := time.Now()
				s := w.mustDial(cb, option(timeout.New[any](3*time.Second)))
				require.InDelta(t, 3*time.Second, time.Since(began), float64(100*time.Millisecond))
				got, err := receiveAll(s)
				require.ErrorIs(t, err, io.EOF, "the stream lives on after the execution that opened it")
				require.Equal(t, upTo(1), got)
				require.True(t, ended.Load(), "the Resume that was too slow was cancelled")
				require.Equal(t, uint64(2), s.Stats().Attempts)
			})
		})
	}
}

// A timeout at stream scope cuts every attempt that it outlives before that is stable: the documentation warns of it.
func TestATimeoutAtStreamScope(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, lasts(time.Minute, nil, numbered(1)...))
		retry := stream.NewRetryPolicyBuilder().WithMaxRetries(2).Build()
		s := w.mustDial(positions(), stream.WithStreamPolicies(retry, timeout.New[any](3*time.Second)))
		_, err := receiveAll(s)
		wantEnd(t, err, stream.ReasonPolicy, codes.DeadlineExceeded, "cut each time")
		require.ErrorIs(t, err, timeout.ErrExceeded)
		require.NotErrorIs(t, err, context.Canceled, "invariant 30")
		require.Equal(t, uint64(3), s.Stats().Attempts)
	})
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, lasts(time.Minute, nil, numbered(1)...))
		got, err := receiveAll(w.mustDial(positions(), stream.WithStreamPolicies(timeout.New[any](11*time.Second))))
		require.ErrorIs(t, err, io.EOF, "stable before the timeout")
		require.Equal(t, upTo(1), got)
	})
}

// Two opens race. The one that loses is cancelled and closed (invariant 23).
func TestAHedgeAtOpenScope(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, stays(), stays(numbered(1)...))
		cb := positions()
		var cancelled atomic.Int32
		cb.Resume = func(ctx context.Context, r *resumption) error {
			if r.Attempt() == 1 {
				<-ctx.Done()
				cancelled.Add(1)
				return ctx.Err()
			}
			return nil
		}
		began := time.Now()
		s := w.mustDial(cb, stream.WithOpenPolicies(hedgepolicy.NewWithDelay[any](2*time.Second)))
		require.Equal(t, 2*time.Second, time.Since(began))
		mustReceive(t, s, 1)
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, int32(1), cancelled.Load(), "the loser's Resume")
		require.Equal(t, 1, active(w), "the loser's handler has ended")
		require.Equal(t, stream.Attached, s.State())
		require.Equal(t, uint64(2), s.Stats().Attempts)
	})
}

// A loser that ignores its context and succeeds late is closed all the same.
func TestAHedgeWhoseLoserSucceedsLate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, stays(), stays(numbered(1)...))
		cb := positions()
		cb.Resume = func(_ context.Context, r *resumption) error {
			if r.Attempt() == 1 {
				time.Sleep(10 * time.Second) // deaf
			}
			return nil
		}
		s := w.mustDial(cb, stream.WithOpenPolicies(hedgepolicy.NewWithDelay[any](2*time.Second)))
		mustReceive(t, s, 1)
		time.Sleep(time.Minute)
		require.Equal(t, 1, active(w))
		require.Equal(t, stream.Attached, s.State())
	})
}

// Both succeed at the same moment: one is taken, and the other is closed.
func TestAHedgeThatEndsInADeadHeat(t *testing.T) {
	t.Parallel()
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			w := scripted(t, stays(numbered(1)...))
			cb := positions()
			cb.Resume = func(_ context.Context, r *resumption) error {
				time.Sleep(time.Duration(3-r.Attempt()) * time.Second)
				return nil
			}
			s := w.mustDial(cb, stream.WithOpenPolicies(hedgepolicy.NewWithDelay[any](time.Second)))
			mustReceive(t, s, 1)
			time.Sleep(time.Minute)
			require.Equal(t, 1, active(w), "the loser's handler has ended")
			require.Equal(t, stream.Attached, s.State())
		})
	}
}

func TestARateLimiterAtOpenScope(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		limit := ratelimiter.NewSmoothWithMaxRate[any](time.Minute)
		w := scripted(t, sends(errGone), sends(errGone), sends(nil, numbered(1)...))
		began := time.Now()
		s := w.mustDial(positions(), stream.WithOpenPolicies(limit))
		got, err := receiveAll(s)
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, upTo(1), got)
		require.GreaterOrEqual(t, time.Since(began), 2*time.Minute, "an attempt a minute")
		require.Equal(t, uint64(3), s.Stats().Attempts, "what the limiter denied was no attempt")
	})
	synctest.Test(t, func(t *testing.T) {
		limit := ratelimiter.NewSmoothWithMaxRate[any](time.Hour)
		w := scripted(t, sends(errGone, numbered(1)...))
		once := stream.NewRetryPolicyBuilder().WithMaxRetries(1).Build()
		_, err := receiveAll(w.mustDial(positions(), stream.WithOpenPolicies(limit), stream.WithStreamPolicies(once)))
		wantEnd(t, err, stream.ReasonPolicy, codes.ResourceExhausted, "the limiter's code")
		require.ErrorIs(t, err, ratelimiter.ErrExceeded)
	})
}

// If an outer limiter denies the try that would have been the break, the next one opens: the break is not told late.
func TestADeniedFirstTry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		limit := ratelimiter.NewBursty[any](1, time.Minute)
		w := scripted(t, lasts(20*time.Second, errGone, numbered(1)...), sends(nil, numbered(2)...))
		var d diary
		s := w.mustDial(positions(), stream.WithObserver(&d),
			stream.WithStreamPolicies(stream.NewRetryPolicyBuilder().WithDelay(10*time.Second).WithJitter(0).Build(), limit))
		began := time.Now()
		got, err := receiveAll(s)
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, upTo(2), got)
		require.Equal(t, uint64(2), s.Stats().Attempts)
		require.Equal(t, time.Minute, time.Since(began), "the first try after the denials is an attempt")
	})
}

// A retry policy at open scope makes attempts of its own.
func TestARetryAtOpenScope(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, stays())
		cb := positions()
		cb.Resume = func(_ context.Context, r *resumption) error {
			if r.Attempt() < 4 {
				return errGone
			}
			return nil
		}
		var d diary
		retry := retrypolicy.NewBuilder[any]().WithMaxRetries(2).WithDelay(time.Second).Build()
		s := w.mustDial(cb, stream.WithOpenPolicies(retry), stream.WithObserver(&d))
		require.Equal(t, uint64(4), s.Stats().Attempts)
		synctest.Wait()
		require.Len(t, d.of("detached"), 1, "three attempts were one open")
		require.Equal(t, uint64(3), d.of("detached")[0].info.Attempt)
	})
}

// noCache is a cache that has nothing.
type noCache struct{}

func (noCache) Get(string) (any, bool) { return nil, false }
func (noCache) Set(string, any)        {}

func TestPoliciesThatAreOfNoUse(t *testing.T) {
	t.Parallel()
	cache := cachepolicy.NewBuilder[any](noCache{}).WithKey("k").Build()
	for name, opt := range map[string]stream.ClientOption{
		"cache at stream scope": stream.WithStreamPolicies(cache),
		"cache at open scope":   stream.WithOpenPolicies(cache),
		"hedge at stream scope": stream.WithStreamPolicies(hedgepolicy.NewWithDelay[any](time.Second)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := scripted(t, stays())
				_, err := w.dial(t.Context(), positions(), opt)
				wantEnd(t, err, stream.ReasonOptions, codes.InvalidArgument, name)
				require.Zero(t, handled(w))
			})
		})
	}
}
