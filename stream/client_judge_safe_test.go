package stream_test

import (
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/streamsafe/streamsafe/stream"
)

// The safe defaults: nothing is silently restarted, lost or doubled.

func TestNoCheckpoint(t *testing.T) {
	t.Parallel()
	t.Run("after a message", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := scripted(t, sends(errGone, numbered(1)...))
			s := w.mustDial(callbacks{})
			got, err := receiveAll(s)
			wantEnd(t, err, stream.ReasonNoCheckpoint, codes.Unavailable, "nobody knows where to go on")
			require.Equal(t, upTo(1), got)
			require.Equal(t, uint64(1), s.Stats().Attempts)
		})
	})
	t.Run("before the first message", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := scripted(t, sends(errGone), lasts(time.Minute, errGone), sends(nil, numbered(1)...))
			got, err := receiveAll(w.mustDial(callbacks{}))
			require.ErrorIs(t, err, io.EOF, "nothing was delivered: to begin again is to go on")
			require.Equal(t, upTo(1), got)
		})
	})
	t.Run("after a protocol message", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := scripted(t, sends(errGone, frame{kind: ack}), sends(nil, numbered(1)...))
			got, err := receiveAll(w.mustDial(callbacks{Control: positions().Control}))
			require.ErrorIs(t, err, io.EOF, "the application was given nothing")
			require.Equal(t, upTo(1), got)
		})
	})
	t.Run("with restart", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := scripted(t, sends(errGone, numbered(1, 2)...), sends(nil, numbered(1, 2, 3)...))
			got, err := receiveAll(w.mustDial(callbacks{}, stream.WithRestart()))
			require.ErrorIs(t, err, io.EOF)
			require.Equal(t, []uint64{1, 2, 1, 2, 3}, got, "the snapshot comes first")
		})
	})
	t.Run("the server's last word has its own reason", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := scripted(t, sends(nil, numbered(1)...))
			_, err := receiveAll(w.mustDial(callbacks{}))
			require.ErrorIs(t, err, io.EOF)
		})
	})
}

func TestSendsInDoubt(t *testing.T) {
	t.Parallel()
	drop := func(s bidi) error { _, _ = s.Recv(); return errGone }
	t.Run("after a Send", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s := scripted(t, drop).mustDial(positions())
			require.NoError(t, s.Send(frame{kind: data}.request()))
			_, err := s.Recv()
			wantEnd(t, err, stream.ReasonSendsInDoubt, codes.Unavailable, "invariant 31: a nil error is not delivery")
			err = s.Send(frame{kind: data}.request())
			wantEnd(t, err, stream.ReasonSendsInDoubt, codes.Unavailable, "Send says why, where the stream ended itself")
			require.Equal(t, uint64(1), s.Stats().Attempts)
		})
	})
	t.Run("what Resume sends does not count", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := scripted(t, drop, sends(nil))
			cb := positions()
			cb.Resume = greets
			_, err := w.mustDial(cb).Recv()
			require.ErrorIs(t, err, io.EOF)
		})
	})
	t.Run("a half-close does not count", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s := scripted(t, drop, sends(nil)).mustDial(positions())
			require.NoError(t, s.CloseSend())
			_, err := s.Recv()
			require.ErrorIs(t, err, io.EOF)
		})
	})
	t.Run("with at-most-once sends", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s := scripted(t, drop, sends(nil)).mustDial(positions(), stream.WithAtMostOnceSends())
			require.NoError(t, s.Send(frame{kind: data}.request()))
			_, err := s.Recv()
			require.ErrorIs(t, err, io.EOF)
		})
	})
	t.Run("with replay", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			cb := positions()
			cb.Acked = func(*response) (uint64, bool) { return 0, false }
			again := make(chan uint64, 1)
			w := scripted(t, drop, func(s bidi) error {
				m, err := s.Recv()
				if err == nil {
					again <- frameOf(m).seq
				}
				return nil
			})
			s := w.mustDial(cb, stream.WithReplay(stream.ReplayLimits{}), stream.WithOKAcknowledges())
			require.NoError(t, s.Send(frame{kind: data, seq: 7}.request()))
			_, err := s.Recv()
			require.ErrorIs(t, err, io.EOF)
			require.Equal(t, uint64(7), within(t, again, "the replayed message"))
		})
	})
}

func TestWithoutResume(t *testing.T) {
	t.Parallel()
	t.Run("a break", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s := scripted(t, sends(errGone, numbered(1)...)).mustDial(positions(), stream.WithoutResume())
			got, err := receiveAll(s)
			wantEnd(t, err, stream.ReasonResumeOff, codes.Unavailable, "resuming is off")
			require.Equal(t, upTo(1), got)
			require.Equal(t, uint64(1), s.Stats().Attempts)
		})
	})
	t.Run("the first open", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := scripted(t, stays())
			w.Refuse(true)
			_, err := w.dial(t.Context(), positions(), stream.WithoutResume())
			wantEnd(t, err, stream.ReasonResumeOff, codes.Unavailable, "the first open is not repeated")
		})
	})
	t.Run("a time limit", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s := scripted(t, stays()).mustDial(positions(), stream.WithoutResume(), stream.WithIdleTimeout(time.Second))
			_, err := s.Recv()
			wantEnd(t, err, stream.ReasonResumeOff, codes.DeadlineExceeded, "the stream's own limit")
			require.NotErrorIs(t, err, context.DeadlineExceeded, "invariant 30")
		})
	})
}

func TestPoisonLimit(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{1, 2, 5} {
		synctest.Test(t, func(t *testing.T) {
			w := scripted(t, sends(errGone, numbered(1, 2)...), sends(errGone))
			s := w.mustDial(positions(), stream.WithPoisonLimit(limit))
			got, err := receiveAll(s)
			wantEnd(t, err, stream.ReasonPoison, codes.Unavailable, "at the same place")
			require.Equal(t, upTo(2), got)
			require.Equal(t, uint64(limit), s.Stats().Attempts, "exactly so many died there")
		})
	}
	t.Run("progress starts the count anew", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := scripted(t, sends(errGone, numbered(1)...), sends(errGone, numbered(2)...), sends(errGone, numbered(3)...), sends(nil))
			got, err := receiveAll(w.mustDial(positions(), stream.WithPoisonLimit(2)))
			require.ErrorIs(t, err, io.EOF)
			require.Equal(t, upTo(3), got)
		})
	})
	t.Run("a bookmark is progress", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			mark := func(seq uint64) func(bidi) error { return sends(errGone, frame{kind: bookmark, seq: seq}) }
			w := scripted(t, mark(1), mark(2), mark(3), sends(nil))
			_, err := receiveAll(w.mustDial(positions(), stream.WithPoisonLimit(2)))
			require.ErrorIs(t, err, io.EOF, "the position moved")
		})
	})
	t.Run("attempts that were not attached do not count", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := scripted(t, stays(), stays(), stays(), stays(), sends(nil, numbered(1)...))
			cb := positions()
			cb.Resume = func(_ context.Context, r *resumption) error {
				if r.Attempt() < 5 {
					return errGone
				}
				return nil
			}
			got, err := receiveAll(w.mustDial(cb, stream.WithPoisonLimit(2)))
			require.ErrorIs(t, err, io.EOF)
			require.Equal(t, upTo(1), got)
		})
	})
	t.Run("zero is off", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			dead := sends(errGone)
			w := scripted(t, dead, dead, dead, dead, sends(nil))
			_, err := receiveAll(w.mustDial(positions(), stream.WithPoisonLimit(0)))
			require.ErrorIs(t, err, io.EOF)
		})
	})
}
