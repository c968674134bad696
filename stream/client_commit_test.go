package stream_test

import (
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream"
)

// Invariant 25: when a stream has ended, what is processed is written, though nobody calls Recv, Commit or Close any more.
func TestTheEndIsCommittedThoughNobodyAsks(t *testing.T) {
	t.Parallel()
	ends := map[string]error{"with OK": nil, "with the server's last word": errLastWord}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store := new(checkpoint.Memory)
				goes := make(chan struct{})
				w := scripted(t, func(s bidi) error {
					if err := sends(nil, numbered(1, 2, 3)...)(s); err != nil {
						return err
					}
					return when(goes, sends(end))(s)
				})
				s := w.mustDial(positions(), stream.WithAtMostOnceSends(),
					stream.WithStore(store, "key", stream.CommitEvery(1000), stream.CommitInterval(24*time.Hour)))
				mustReceive(t, s, 1, 2, 3)
				close(goes)
				synctest.Wait()
				sent := async(func() error { return s.Send(frame{kind: data}.request()) })
				require.Error(t, within(t, sent, "the Send that finds the end"))
				synctest.Wait()
				require.Equal(t, stream.Closed, s.State())
				require.Equal(t, uint64(2), committed(t, store), "the third is still in the application's hands")
			})
		})
	}
}

// One write at a time, whoever asks for it: the application, several times at once, the interval, and Close.
func TestOneWriteAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := new(faultyStore)
		store.set(nil, 3*time.Second)
		s := scripted(t, stays(numbered(upTo(20)...)...)).mustDial(positions(),
			stream.WithStore(store, "key", stream.CommitEvery(1), stream.CommitInterval(time.Second), stream.CommitTimeout(time.Minute)))
		var commits []<-chan error
		for seq := uint64(1); seq <= 20; seq++ {
			mustReceive(t, s, seq)
			commits = append(commits, async(func() error { return s.Commit(t.Context()) }))
			rest(500 * time.Millisecond)
		}
		mustClose(t, s, "while others write")
		for i, commit := range commits {
			require.NoError(t, within(t, commit, "Commit"), "Commit after message %d", i+1)
		}
		writes, most := store.writes()
		require.Equal(t, 1, most, "writes at the same time")
		require.IsIncreasing(t, writes, "a write of an older position, or of one that is written")
		require.Equal(t, uint64(20), committed(t, store))
	})
}

// Invariant 24: the last to acquire the key has it; the owner before ends with ReasonFenced, and writes nothing more.
func TestFencedOwnerEnds(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, store checkpoint.Store) {
		t.Helper()
		w := newWorld(t, &feed{total: 10})
		var d diary
		p1, p2 := &process{Store: store}, &process{Store: store}
		first := w.mustOpen(stream.WithStore(p1, "key", stream.CommitEvery(1)), stream.WithObserver(&d))
		_, err := p1.work(first, 3)
		require.NoError(t, err)
		synctest.Wait()
		require.Equal(t, uint64(2), committed(t, store))
		second := w.mustOpen(stream.WithStore(p2, "key", stream.CommitEvery(1)))
		got, err := p2.work(second, 2)
		require.NoError(t, err)
		require.Equal(t, []uint64{3, 4}, got, "what the new owner gets")
		synctest.Wait()
		_, err = p1.work(first, 2) // the third is processed now, and to be committed
		if err == nil {
			rest(time.Minute)
			_, err = p1.work(first, 1)
		}
		wantEnd(t, err, stream.ReasonFenced, codes.Aborted, "the old owner")
		require.ErrorIs(t, err, checkpoint.ErrFenced)
		require.NotEmpty(t, d.of("fenced"))
		require.Equal(t, uint64(3), committed(t, store), "what the new owner has committed")
		require.ErrorIs(t, first.Close(), checkpoint.ErrFenced, "Close tells that the last position was not written")
		_, err = p2.work(second, 6)
		require.NoError(t, err, "the new owner goes on")
	})
}

// A store that fails for a while fails nothing else; the newest position is written when it works again.
func TestStoreFailsForAWhile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("disk full")
		store := new(faultyStore)
		var d diary
		s := newWorld(t, &feed{total: 100}).mustOpen(
			stream.WithStore(store, "key", stream.CommitEvery(10)), stream.WithObserver(&d))
		store.set(broken, 0)
		mustReceive(t, s, upTo(50)...)
		rest(time.Minute)
		require.ErrorIs(t, s.Stats().CommitError, broken)
		require.Zero(t, s.Stats().Committed)
		require.NotEmpty(t, d.of("commit failed"))
		require.Equal(t, stream.Attached, s.State())
		store.set(nil, 0)
		rest(2 * time.Second)
		require.Equal(t, uint64(49), committed(t, store), "written as soon as the store works, without another message")
		require.NoError(t, s.Stats().CommitError)
		store.set(broken, 0)
		mustReceive(t, s, 51)
		err := s.Close()
		requireReason(t, err, stream.ReasonStore, "Close, whose write failed")
		require.ErrorIs(t, err, broken)
	})
}

func TestStoreFailsAtTheStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("no disk")
		store := new(faultyStore)
		store.set(broken, 0)
		w := newWorld(t, &feed{})
		_, err := w.open(t.Context(), stream.WithStore(store, "key"))
		wantEnd(t, err, stream.ReasonStore, codes.Unavailable, "open")
		require.ErrorIs(t, err, broken)
		require.Zero(t, w.Stats().Connections, "nothing is opened")
	})
}

// Writes are off the message path, one at a time, and of the newest position only.
func TestSlowStoreDelaysNoMessage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := new(faultyStore)
		s := newWorld(t, &feed{total: 1000}).mustOpen(stream.WithStore(store, "key", stream.CommitEvery(1)))
		store.set(nil, 3*time.Second)
		began := time.Now()
		mustReceive(t, s, upTo(1000)...)
		require.Zero(t, time.Since(began), "time that 1,000 messages took")
		rest(time.Minute)
		writes, most := store.writes()
		require.Equal(t, 1, most, "writes at the same time")
		require.LessOrEqual(t, len(writes), 3, "writes of the newest position: %v", writes)
		require.Equal(t, uint64(999), committed(t, store))
	})
}

// A write comes after so many messages, and after so long.
func TestCommitEveryAndInterval(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := new(faultyStore)
		s := newWorld(t, &feed{total: 100}).mustOpen(
			stream.WithStore(store, "key", stream.CommitEvery(10), stream.CommitInterval(time.Minute)))
		for seq := uint64(1); seq <= 95; seq++ {
			mustReceive(t, s, seq)
			synctest.Wait()
		}
		before, _ := store.writes()
		require.LessOrEqual(t, len(before), 11, "writes: %v", before)
		require.GreaterOrEqual(t, len(before), 8, "writes: %v", before)
		rest(59 * time.Second)
		writes, _ := store.writes()
		require.Equal(t, before, writes, "writes before the interval is over")
		rest(2 * time.Second)
		require.Equal(t, uint64(94), committed(t, store), "written after the interval")
		rest(time.Hour)
		writes, _ = store.writes()
		require.Len(t, writes, len(before)+1, "what is written already is not written again")
	})
}

// Invariant 5: a position inside a unit is never committed. A unit is two fragments and a message with the position.
func TestCommitIsNeverInsideAUnit(t *testing.T) {
	t.Parallel()
	options := map[string][]stream.ClientOption{
		"delivered at once": nil,
		"held":              {stream.HoldUntilCheckpoint(1<<20, stream.OverflowFail)},
	}
	for name, opts := range options {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for kill := 1; kill <= 12; kill++ {
				synctest.Test(t, func(t *testing.T) {
					store := new(checkpoint.Memory)
					handler := func(s bidi) error {
						m, err := s.Recv()
						if err != nil {
							return err
						}
						for unit := frameOf(m).seq + 1; unit <= 5; unit++ {
							for _, k := range []kind{fragment, fragment, data} {
								if err := s.Send(frame{kind: k, seq: unit}.response()); err != nil {
									return err
								}
							}
						}
						return nil
					}
					cb := positions()
					cb.Resume = greets
					w := scripted(t, handler)
					s := w.mustDial(cb, append(opts, stream.WithStore(store, "key", stream.CommitEvery(1)))...)
					for i := range kill {
						mustReceive(t, s, uint64(i/3)+1)
						synctest.Wait()
					}
					require.Equal(t, uint64((kill-1)/3), committed(t, store), "committed with message %d in hand", kill)
					mustClose(t, s, "called by the test")
					again := w.mustDial(cb, append(opts, stream.WithStore(store, "key"))...)
					got, err := receiveAll(again)
					require.ErrorIs(t, err, io.EOF)
					require.Len(t, got, 15-(kill-1)/3*3, "whole units, from the first that was not processed")
				})
			}
		})
	}
}

// Messages that are handed over after the end of the stream are committed too, and before Recv tells of the end
// (invariant 25).
func TestWhatIsReceivedAfterTheEndIsCommitted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := new(checkpoint.Memory)
		w := scripted(t, sends(nil, numbered(1, 2, 3)...))
		s := w.mustDial(positions(), stream.WithStore(store, "key"), stream.WithAtMostOnceSends())
		synctest.Wait() // the server has ended the stream, and nobody has received anything
		for s.Send(frame{kind: data, seq: 1}.request()) == nil {
			synctest.Wait() // until Send finds out, and the stream looks for the cause
		}
		require.Equal(t, stream.Closed, s.State())
		got, err := receiveAll(s)
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, upTo(3), got)
		record, err := store.Load(t.Context(), "key")
		require.NoError(t, err)
		require.Equal(t, uint64(3), record.Position.Seq, "committed when Recv returns io.EOF")
	})
}

// Nothing is written where the application has committed nothing.
func TestManualCommitKeepsWhatTheStoreHad(t *testing.T) {
	t.Parallel()
	for _, lineage := range []string{"", "x"} {
		t.Run("lineage "+lineage, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var store checkpoint.Memory
				r, err := store.Acquire(t.Context(), "k")
				require.NoError(t, err)
				require.NoError(t, store.Commit(t.Context(), "k", r.Epoch, checkpoint.Position{Lineage: lineage, Seq: 7}))
				w := scripted(t, stays())
				s := w.mustDial(positions(), stream.WithStore(&store, "k"), stream.WithManualCommit())
				time.Sleep(3 * time.Second)
				mustClose(t, s, "called by the test")
				r, err = store.Load(t.Context(), "k")
				require.NoError(t, err)
				require.Equal(t, uint64(7), r.Position.Seq, "nothing was committed by the application")
			})
		})
	}
}

// Where another owner has the key, Recv returns that at once, whatever is still to be had: the new owner has it, too.
func TestAFencedOwnerGetsNothingMore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var store checkpoint.Memory
		w := scripted(t, stays(numbered(1, 2, 3, 4, 5)...))
		s := w.mustDial(resumes(delivers(5)), stream.WithStore(&store, "key"))
		mustReceive(t, s, 1, 2) // and the first is processed
		_, err := store.Acquire(t.Context(), "key")
		require.NoError(t, err)
		rest(2 * time.Second)
		require.Equal(t, stream.Closed, s.State())
		_, err = s.Recv()
		wantEnd(t, err, stream.ReasonFenced, codes.Aborted, "three messages wait, and are not handed over")
	})
}
