package stream_test

import (
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream"
)

// Invariants 2 and 3: the position that Lost tells is behind what has arrived before, and was not handed over yet.
//
//  1. Messages 1 to 3 arrive, and nobody receives them. A Send finds the attempt dead, and they wait for Recv.
//  2. The server says that the position is lost, and Lost tells 100.
//  3. The application receives message 1. It stands at 1, and not at 100.
func TestTheRestartIsBehindWhatWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := new(checkpoint.Memory)
		goes := make(chan struct{})
		w := scripted(t, sends(errCompacted, numbered(1, 2, 3)...), when(goes, sends(nil, numbered(101)...)))
		cb := positions()
		cb.Lost = func(context.Context, checkpoint.Position, error) (stream.Recovery, error) {
			return stream.RestartFrom(at(100)), nil
		}
		s := w.mustDial(cb, stream.WithAtMostOnceSends(), stream.WithStore(store, "key", stream.CommitInterval(time.Second)))
		synctest.Wait() // the first attempt is dead
		sent := async(func() error { return s.Send(frame{kind: data}.request()) })
		rest(time.Minute)
		require.NoError(t, within(t, sent, "the Send that finds the attempt dead"))
		require.Equal(t, uint64(2), s.Stats().Attempts)
		require.Equal(t, 4, s.Stats().Waiting, "three messages wait, and the new position behind them")
		require.Zero(t, s.Stats().Delivered, "nothing was handed over")
		require.Zero(t, s.Stats().Processed, "nothing was handed over")
		for seq := uint64(1); seq <= 3; seq++ {
			mustReceive(t, s, seq)
			rest(time.Minute)
			require.Equal(t, at(seq), s.Stats().Delivered)
			require.Equal(t, seq-1, s.Stats().Processed.Seq, "message %d is in the application's hands", seq)
			require.Equal(t, seq-1, committed(t, store), "message %d is in the application's hands", seq)
		}
		close(goes)
		got, err := receiveAll(s)
		require.Equal(t, io.EOF, err)
		require.Equal(t, []uint64{101}, got)
		require.Equal(t, uint64(101), committed(t, store))
	})
}

// Invariant 16: "cannot resume" is the same in every phase.
func TestPositionLostInEveryPhase(t *testing.T) {
	t.Parallel()
	for name, phase := range phases() {
		for _, lose := range []error{errCompacted, status.Error(codes.OutOfRange, stream.ErrPositionLost.Error())} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				t.Run("restart", func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) { testRestart(t, phase, lose) })
				})
				t.Run("no callback", func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) {
						handlers, resume, dial := phase(lose)
						w := newWorld(t, &feed{handler: inOrder(handlers...)}, dial...)
						cb := positions()
						if cb.Err = tells(lose); resume != nil {
							cb.Resume = resume
						}
						got, err := receiveAll(w.mustDial(cb))
						wantEnd(t, err, stream.ReasonPositionLost, codes.OutOfRange, "nobody to ask")
						require.Equal(t, upTo(1), got)
					})
				})
			})
		}
	}
}

func testRestart(t *testing.T, phase func(error) ([]func(bidi) error, func(context.Context, *resumption) error, []grpc.DialOption), lose error) {
	t.Helper()
	handlers, resume, dial := phase(lose)
	w := newWorld(t, &feed{handler: inOrder(handlers...)}, dial...)
	var seen froms
	cb := positions()
	cb.Resume, cb.Err = seen.resume(resume), tells(lose)
	var asked []checkpoint.Position
	cb.Lost = func(_ context.Context, at checkpoint.Position, cause error) (stream.Recovery, error) {
		require.Equal(t, codes.OutOfRange, status.Code(cause))
		asked = append(asked, at)
		return stream.RestartFrom(checkpoint.Position{}), nil
	}
	var d diary
	s := w.mustDial(cb, stream.WithObserver(&d))
	got, err := receiveAll(s)
	require.ErrorIs(t, err, io.EOF)
	require.Equal(t, []uint64{1, 1, 2}, got, "from the beginning")
	require.Equal(t, []checkpoint.Position{at(1)}, asked)
	require.Equal(t, checkpoint.Position{}, seen[len(seen)-1])
	synctest.Wait()
	require.Len(t, d.of("lost"), 1)
	require.Len(t, d.of("scheduled"), 2, "invariant 20: it waits for its turn as after any loss")
}

func TestAnswersOfLost(t *testing.T) {
	t.Parallel()
	answers := map[string]struct {
		answer func() (stream.Recovery, error)
		reason stream.Reason
		code   codes.Code
	}{
		"give up": {func() (stream.Recovery, error) { return stream.Recovery{}, nil }, stream.ReasonPositionLost, codes.OutOfRange},
		"an error": {func() (stream.Recovery, error) {
			return stream.Recovery{}, status.Error(codes.FailedPrecondition, "ask a human")
		}, stream.ReasonResume, codes.FailedPrecondition},
	}
	for name, test := range answers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := scripted(t, sends(errCompacted, numbered(1)...))
				cb := positions()
				cb.Lost = func(context.Context, checkpoint.Position, error) (stream.Recovery, error) { return test.answer() }
				_, err := receiveAll(w.mustDial(cb))
				wantEnd(t, err, test.reason, test.code, name)
			})
		})
	}
}

// RestartFrom forgets what is known of sequence numbers: lower ones are no duplicates.
func TestRestartFromAnEarlierPosition(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, sends(errCompacted, numbered(8, 9)...), sends(errGone, numbered(4)...), sends(nil, numbered(5)...))
		var seen froms
		cb := positions()
		cb.Resume = seen.resume(nil)
		cb.Lost = func(context.Context, checkpoint.Position, error) (stream.Recovery, error) {
			return stream.RestartFrom(at(3)), nil
		}
		got, err := receiveAll(w.mustDial(cb))
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, []uint64{8, 9, 4, 5}, got)
		require.Equal(t, froms{{}, at(3), at(4)}, seen)
	})
}

// Invariant 17: a change of the lineage means that the history was replaced. The message that shows it is not handed
// over, nor is what follows it.
func TestAChangedLineageIsALoss(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		old, restored := "old", "restored"
		w := scripted(t, sends(errGone, numbered(1, 2)...),
			lasts(time.Second, errGone, frame{kind: data, seq: 1003}, frame{kind: fragment, seq: 99}, frame{kind: data, seq: 1004}),
			sends(nil, numbered(1001, 1002)...))
		cb := positions()
		cb.Checkpoint = func(m *response) (checkpoint.Position, bool) {
			f := frameOf(m)
			if f.seq > 1000 {
				return checkpoint.Position{Lineage: restored, Seq: f.seq - 1000}, f.kind == data
			}
			return checkpoint.Position{Lineage: old, Seq: f.seq}, f.kind == data
		}
		cb.Lost = func(_ context.Context, at checkpoint.Position, cause error) (stream.Recovery, error) {
			require.Equal(t, checkpoint.Position{Lineage: old, Seq: 2}, at)
			require.ErrorIs(t, cause, stream.ErrPositionLost)
			require.ErrorContains(t, cause, `lineage "old" was replaced by "restored"`)
			return stream.RestartFrom(checkpoint.Position{}), nil
		}
		got, err := receiveAll(w.mustDial(cb))
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, []uint64{1, 2, 1001, 1002}, got)
	})
}

// A lost position is about what is received. What was sent is as much in doubt as after any other loss.
func TestLostDoesNotSettleWhatWasSent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, func(s bidi) error {
			_, _ = s.Recv()
			return errCompacted
		})
		cb := positions()
		cb.Lost = func(context.Context, checkpoint.Position, error) (stream.Recovery, error) {
			return stream.RestartFrom(checkpoint.Position{}), nil
		}
		s := w.mustDial(cb)
		require.NoError(t, s.Send(frame{kind: data, seq: 1}.request()))
		_, err := s.Recv()
		wantEnd(t, err, stream.ReasonSendsInDoubt, codes.OutOfRange, "nothing is silently lost")
	})
}

func TestWithPositionLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		gone := func(err error) bool { return status.Code(err) == codes.NotFound }
		w := scripted(t, sends(status.Error(codes.NotFound, "410"), numbered(1)...))
		_, err := receiveAll(w.mustDial(positions(), stream.WithPositionLost(gone)))
		wantEnd(t, err, stream.ReasonPositionLost, codes.OutOfRange, "by the application's rule")
	})
	synctest.Test(t, func(t *testing.T) {
		never := func(error) bool { return false }
		w := scripted(t, sends(errCompacted, numbered(1)...))
		_, err := receiveAll(w.mustDial(positions(), stream.WithPositionLost(never)))
		wantEnd(t, err, stream.ReasonServer, codes.OutOfRange, "a last word as others")
	})
}
