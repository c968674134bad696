package stream_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go/timeout"
	"github.com/stretchr/testify/require"

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
