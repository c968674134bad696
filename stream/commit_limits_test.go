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

// mute is a store that answers neither Acquire, where that is set, nor its first Commit. Like every store it minds its
// context.
type mute struct {
	checkpoint.Memory
	acquire bool
	commits int // writes come one after the other
}

func (m *mute) Acquire(ctx context.Context, key string) (checkpoint.Record, error) {
	if m.acquire {
		<-ctx.Done()
		return checkpoint.Record{}, ctx.Err()
	}
	return m.Memory.Acquire(ctx, key)
}

func (m *mute) Commit(ctx context.Context, key string, epoch uint64, p checkpoint.Position) error {
	if m.commits++; m.commits == 1 {
		<-ctx.Done()
		return ctx.Err()
	}
	return m.Memory.Commit(ctx, key, epoch, p)
}

// CommitTimeout limits a write by Commit, too: it would hold up every other one.
func TestCommitTimeoutLimitsCommit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := new(mute)
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
		s := scripted(t, stays(numbered(1)...)).mustDial(positions(), stream.WithManualCommit(), stream.WithStore(new(mute), "key"))
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
		_, err := w.dial(t.Context(), positions(), stream.WithStore(&mute{acquire: true}, "key", stream.CommitTimeout(2*time.Second)))
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
		require.NoError(t, s.Close(), "Close waits")
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
		require.NoError(t, s.Close())
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

// usurped is a store that says once that another owner has the key.
type usurped struct {
	checkpoint.Memory
	commits int // writes come one after the other
}

func (u *usurped) Commit(ctx context.Context, key string, epoch uint64, p checkpoint.Position) error {
	if u.commits++; u.commits == 1 {
		return fmt.Errorf("epoch %d: %w", epoch, checkpoint.ErrFenced)
	}
	return u.Memory.Commit(ctx, key, epoch, p)
}

// Invariant 24: who was fenced is fenced for good, and does not ask again.
func TestFencedIsForGood(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := new(usurped)
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

// A nil option is an error of the constructor, and not a panic.
func TestNilStoreOption(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, err := newWorld(t, &feed{}).open(t.Context(), stream.WithStore(new(checkpoint.Memory), "key", nil))
		wantEnd(t, err, stream.ReasonOptions, codes.InvalidArgument, "an option of WithStore is nil")
	})
}
