package stream_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream"
)

// CommitTimeout limits a write by Commit, too: it would hold up every other one.
func TestCommitTimeoutLimitsCommit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &oddStore{commit: hanging, once: true}
		s := scripted(t, stays(numbered(1)...)).mustDial(positions(), stream.WithManualCommit(),
			stream.WithStore(store, "key", stream.CommitTimeout(2*time.Second), stream.CommitInterval(time.Hour)))
		mustReceive(t, s, 1)
		began := time.Now()
		err := s.Commit(t.Context())
		wantEnd(t, err, stream.ReasonStore, codes.DeadlineExceeded, "Commit")
		require.NotErrorIs(t, err, context.DeadlineExceeded, "invariant 30: not the application's deadline")
		require.Equal(t, 2*time.Second, time.Since(began))
		require.NoError(t, s.Commit(t.Context()), "the next write")
		require.Equal(t, uint64(1), committed(t, store))
	})
}

// The application's own deadline is its own.
func TestCommitWithADeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := scripted(t, stays(numbered(1)...)).mustDial(positions(), stream.WithManualCommit(),
			stream.WithStore(&oddStore{commit: hanging, once: true}, "key"))
		mustReceive(t, s, 1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		require.ErrorIs(t, s.Commit(ctx), context.DeadlineExceeded)
		require.Equal(t, time.Second, time.Since(began))
	})
}

// CommitTimeout limits acquiring the key, and so the constructor.
func TestCommitTimeoutLimitsAcquire(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, stays())
		began := time.Now()
		_, err := w.dial(t.Context(), positions(), stream.WithStore(&oddStore{acquire: hanging}, "key", stream.CommitTimeout(2*time.Second)))
		wantEnd(t, err, stream.ReasonStore, codes.DeadlineExceeded, "open")
		require.Equal(t, 2*time.Second, time.Since(began))
	})
}

// Who has left does not wait for a write that runs to its end, whatever its context says.
func TestRecvDoesNotWaitForAWriteThatIsOnItsWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, stays(numbered(1, 2)...))
		store := new(faultyStore)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		s, err := w.dial(ctx, positions(), stream.WithStore(store, "key", stream.CommitEvery(1)))
		require.NoError(t, err)
		store.set(nil, 30*time.Second)
		mustReceive(t, s, 1, 2)
		time.AfterFunc(time.Second, cancel)
		began := time.Now()
		_, err = s.Recv()
		wantEnd(t, err, stream.ReasonContext, codes.Canceled, "Recv")
		require.Equal(t, time.Second, time.Since(began))
		store.set(nil, 0)
		mustClose(t, s, "Close waits")
		require.Equal(t, uint64(2), committed(t, store), "what was handed over is processed with the Recv that came after")
	})
}

// A message that is processed during an outage counts for CommitEvery like any other.
func TestCommitEveryCountsDuringAnOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, sends(errGone, numbered(1)...), stays())
		store := new(checkpoint.Memory)
		cb := positions()
		cb.Resume = func(_ context.Context, r *resumption) error {
			if r.Attempt() > 1 {
				return errGone
			}
			return nil
		}
		s := w.mustDial(cb, stream.WithAtMostOnceSends(),
			stream.WithStore(store, "key", stream.CommitEvery(1), stream.CommitInterval(time.Hour)))
		mustReceive(t, s, 1)
		go func() { _ = s.Send(frame{kind: data}.request()) }() // finds the attempt dead; ends with the stream
		synctest.Wait()
		require.NotEqual(t, stream.Attached, s.State(), "the application has message 1 in hand")
		receiving(s) // and has done with it
		rest(10 * time.Minute)
		require.Equal(t, uint64(1), committed(t, store))
	})
}

// With WithManualCommit nothing counts as processed but what Commit says: not a bookmark, not the next Recv, not the end.
func TestManualCommitLeavesItToCommit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, stays(frame{kind: data, seq: 1}, frame{kind: data, seq: 2}, frame{kind: bookmark, seq: 3},
			frame{kind: data, seq: 4}, frame{kind: bookmark, seq: 5}))
		store := new(checkpoint.Memory)
		s := w.mustDial(positions(), stream.WithStore(store, "key", stream.CommitEvery(1)), stream.WithManualCommit())
		mustReceive(t, s, 1, 2)
		require.Zero(t, s.Stats().Processed)
		require.NoError(t, s.Commit(t.Context()))
		require.Equal(t, uint64(2), committed(t, store))
		mustReceive(t, s, 4)
		require.Equal(t, at(2), s.Stats().Processed, "after a bookmark, with nothing in hand")
		receiving(s)
		rest(time.Minute)
		require.Equal(t, at(5), s.Stats().Delivered)
		require.Equal(t, at(2), s.Stats().Processed, "after the next Recv")
		mustClose(t, s, "called by the test")
		require.Equal(t, uint64(2), committed(t, store), "after Close")
	})
}

// Invariant 3: a position without a message, which comes while the application has a message in hand, says nothing of that.
func TestAPositionDoesNotOvertakeTheMessageInHand(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, sends(errGone, frame{kind: fragment, seq: 11}), stays())
		store := new(checkpoint.Memory)
		cb := positions()
		cb.Resume = func(_ context.Context, r *resumption) error {
			if r.Attempt() == 2 {
				r.StartsAt(at(7))
			}
			return nil
		}
		s := w.mustDial(cb, stream.WithStore(store, "key", stream.CommitEvery(1)), stream.WithAtMostOnceSends())
		mustReceive(t, s, 11)
		for range 60 { // finds the attempt dead
			require.NoError(t, s.Send(frame{kind: data}.request()))
			rest(time.Second)
		}
		require.Equal(t, uint64(2), s.Stats().Attempts)
		require.Equal(t, at(7), s.Stats().Delivered)
		require.Zero(t, committed(t, store), "11 is in the application's hands")
		receiving(s)
		rest(time.Minute)
		require.Equal(t, uint64(7), committed(t, store), "and now it is not")
	})
}

// Invariant 24: who was fenced is fenced for good, and does not ask again.
func TestFencedIsForGood(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &oddStore{commit: failing(fmt.Errorf("another owner: %w", checkpoint.ErrFenced)), once: true}
		s := scripted(t, stays(numbered(1, 2, 3)...)).mustDial(positions(), stream.WithManualCommit(),
			stream.WithStore(store, "key", stream.CommitInterval(time.Hour)))
		mustReceive(t, s, 1)
		requireReason(t, s.Commit(t.Context()), stream.ReasonFenced, "Commit")
		requireReason(t, s.Commit(t.Context()), stream.ReasonFenced, "Commit again")
		requireReason(t, s.Close(), stream.ReasonFenced, "Close")
		_, err := s.Recv()
		require.True(t, errors.Is(err, checkpoint.ErrFenced), err)
		require.Equal(t, 1, store.commits, "writes that were tried")
		require.Zero(t, committed(t, store))
	})
}

// Who has left does not wait for the store.
func TestRecvReturnsAtOnceThoughTheStoreHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, stays(numbered(1)...))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		s, err := w.dial(ctx, positions(), stream.WithStore(&oddStore{commit: hanging}, "k"))
		require.NoError(t, err)
		mustReceive(t, s, 1)
		time.AfterFunc(10*time.Second+500*time.Millisecond, cancel)
		began := time.Now()
		_, err = s.Recv()
		require.Error(t, err)
		took := time.Since(began) - 10500*time.Millisecond
		_ = s.Close()
		require.Less(t, took, time.Second, "after the context was done")
	})
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
				_, err := w.dial(t.Context(), positions(), stream.WithStore(&oddStore{acquire: hanging}, "key", option.opts...))
				wantEnd(t, err, stream.ReasonStore, codes.DeadlineExceeded, "no answer from the store")
				require.NotErrorIs(t, err, context.DeadlineExceeded)
				require.Equal(t, option.limit, time.Since(began))
				require.Zero(t, w.Stats().Connections, "nothing is opened")
			})
		})
	}
}
