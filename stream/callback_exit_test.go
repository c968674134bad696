package stream_test

import (
	"context"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/hedgepolicy"
	"github.com/failsafe-go/failsafe-go/timeout"
	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream"
)

// A callback may end its goroutine where the goroutine is a policy's.

// exits is a Resume that ends its goroutine, as t.FailNow does.
func exits(context.Context, *resumption) error {
	runtime.Goexit()
	return nil
}

// A policy at open scope waits for a result, and has one: the stream ends.
func TestAResumeThatEndsTheGoroutineUnderOpenPolicies(t *testing.T) {
	t.Parallel()
	options := map[string]func() stream.ClientOption{
		"a hedge":   func() stream.ClientOption { return stream.WithOpenPolicies(hedgepolicy.NewWithDelay[any](time.Second)) },
		"a timeout": func() stream.ClientOption { return stream.WithOpenPolicies(timeout.New[any](time.Minute)) },
		"an executor with a hedge": func() stream.ClientOption {
			return stream.WithOpenExecutor(failsafe.With(hedgepolicy.NewWithDelay[any](time.Second)))
		},
	}
	for name, option := range options {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := scripted(t, stays())
				_, err := w.dial(t.Context(), resumes(exits), option())
				requireReason(t, err, stream.ReasonResume, "end of the stream")
				synctest.Wait()
				require.Zero(t, active(w), "the attempt is closed (invariant 23)")
			})
		})
	}
}

// The permit of a bulkhead is held for the life of the stream, and no longer.
func TestAResumeThatEndsTheGoroutineUnderABulkhead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		limit := bulkhead.New[any](1)
		_, err := scripted(t, stays()).dial(t.Context(), resumes(exits), stream.WithStreamPolicies(limit))
		requireReason(t, err, stream.ReasonResume, "end of the stream")
		require.True(t, limit.TryAcquirePermit(), "the permit is back")
	})
}

// exitingObserver ends its goroutine at the first event.
type exitingObserver struct{ attached, closed atomic.Int32 }

func (*exitingObserver) OnOpened(stream.Info)                          { runtime.Goexit() }
func (o *exitingObserver) OnAttached(stream.Info, checkpoint.Position) { o.attached.Add(1) }
func (o *exitingObserver) OnClosed(stream.Info, error)                 { o.closed.Add(1) }

// An observer that ends its goroutine is told of what comes after that all the same: of what waits already, and of what
// happens later.
func TestAnObserverThatEndsTheGoroutine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var o exitingObserver
		s := scripted(t, stays()).mustDial(positions(), stream.WithObserver(&o))
		synctest.Wait()
		require.Equal(t, int32(1), o.attached.Load(), "told of the next event")
		require.NoError(t, s.Close())
		synctest.Wait()
		require.Equal(t, int32(1), o.closed.Load(), "and of a later one, once")
	})
}
