package stream_test

import (
	"context"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/failsafe-go/failsafe-go/timeout"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/stream"
)

// An open that returns after its limit has failed, though Resume says that all is well: nothing that it was told takes
// effect, and the attempt is never attached.
func TestAnOpenThatSucceedsTooLate(t *testing.T) {
	t.Parallel()
	limits := map[string]stream.ClientOption{
		"WithOpenTimeout":         stream.WithOpenTimeout(time.Second),
		"a timeout at open scope": stream.WithOpenPolicies(timeout.New[any](time.Second)),
	}
	for name, limit := range limits {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := scripted(t, stays(numbered(1)...), stays(numbered(2)...))
				var d diary
				cb := positions()
				cb.Resume = func(_ context.Context, r *resumption) error {
					if r.Attempt() > 1 {
						require.Zero(t, r.Position(), "nothing was told that counts")
						return nil
					}
					m, err := r.Recv()
					if err != nil {
						return err
					}
					time.Sleep(10 * time.Second) // deaf
					r.Deliver(m)
					r.StartsAt(at(7))
					return nil
				}
				s := w.mustDial(cb, limit, stream.WithObserver(&d))
				mustReceive(t, s, 2)
				synctest.Wait()
				require.Equal(t, []string{"opened", "detached", "scheduled", "opened", "attached"}, d.names())
				require.Equal(t, uint64(2), d.of("attached")[0].info.Attempt, "the attempt that was attached first")
				require.Zero(t, s.Stats().Outages, "no attempt was lost after it was attached")
			})
		})
	}
}

// What a timeout at open scope ends is a cause like any other: Resume is told, and so is the application.
func TestATimeoutAtOpenScopeIsTheCause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var cause error
		s := scripted(t, stays()).mustDial(resumes(func(ctx context.Context, r *resumption) error {
			if r.Attempt() == 1 {
				return hangs(ctx, r)
			}
			cause = r.Cause()
			return nil
		}), stream.WithOpenPolicies(timeout.New[any](time.Second)))
		require.ErrorIs(t, cause, timeout.ErrExceeded, "Resumption.Cause of the second attempt")
		require.ErrorIs(t, s.Stats().LastError, timeout.ErrExceeded, "Stats.LastError")
	})
	synctest.Test(t, func(t *testing.T) {
		_, err := scripted(t, stays()).dial(t.Context(), resumes(hangs),
			stream.WithOpenPolicies(timeout.New[any](time.Second)), stream.WithMaxOutage(time.Minute))
		requireReason(t, err, stream.ReasonMaxOutage, "no open succeeds")
		require.ErrorIs(t, err, timeout.ErrExceeded, "the outage was about the timeout")
	})
}

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

// Invariant 16: a retry policy for opening does not try again what the server has refused for good.
func TestOpenPoliciesMindTheLastWord(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, func(bidi) error { return status.Error(codes.PermissionDenied, "no") })
		cb := positions()
		cb.Resume = func(_ context.Context, r *resumption) error { _, err := r.Recv(); return err }
		_, err := w.dial(t.Context(), cb, stream.WithOpenPolicies(retrypolicy.NewBuilder[any]().WithMaxRetries(3).WithDelay(time.Second).Build()))
		require.Equal(t, codes.PermissionDenied, status.Code(err))
		require.Equal(t, 1, handled(w), "invariant 16: classified alike in every phase")
	})
}
