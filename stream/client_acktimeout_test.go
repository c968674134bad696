package stream_test

import (
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/streamsafe/streamsafe/stream"
)

// beats is a handler that says heartbeats and acknowledges nothing.
func beats(every time.Duration) func(bidi) error {
	return func(s bidi) error {
		for {
			if err := lasts(every, nil, frame{kind: hello})(s); err != nil {
				return err
			}
		}
	}
}

// takesAll is a handler that acknowledges each message after a time, and what came before it again and again.
func takesAll(after time.Duration) func(bidi) error {
	return func(s bidi) error {
		for {
			m, err := s.Recv()
			if err != nil {
				return err
			}
			if err := lasts(after, nil)(s); err != nil {
				return err
			}
			if err := s.Send(frame{kind: ack, seq: frameOf(m).seq}.response()); err != nil {
				return err
			}
		}
	}
}

// WithAckTimeout gives an attempt up if nothing is acknowledged, whatever heartbeats arrive (invariant 22). What is kept is
// sent again on the next.
func TestAckTimeout(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, receives bool) {
		t.Helper()
		var d diary
		w := scripted(t, beats(time.Second), takesAll(0))
		s := w.mustDial(acking(), withReplay(), stream.WithAckTimeout(time.Minute), stream.WithObserver(&d))
		if receives {
			receiving(s)
		}
		rest(10 * time.Minute)
		require.Equal(t, uint64(1), s.Stats().Attempts, "nothing was sent: nothing is late")
		mustSend(t, s, 1, 3)
		began := time.Now()
		for s.Stats().Attempts == 1 && time.Since(began) < time.Hour {
			rest(100 * time.Millisecond)
		}
		took := time.Since(began)
		require.GreaterOrEqual(t, took, time.Minute, "the limit is not cut short")
		require.LessOrEqual(t, took, time.Minute+time.Minute/8+time.Second, "an eighth late at the most, and the backoff")
		cause := s.Stats().LastError
		require.ErrorContains(t, cause, "nothing acknowledged within 1m0s")
		require.Equal(t, codes.DeadlineExceeded, codeOf(cause))
		rest(10 * time.Minute)
		st := s.Stats()
		require.Equal(t, []uint64{2, 3, 3, 0}, []uint64{st.Attempts, st.Replayed, st.Acked, uint64(st.Unacked)})
	})
}

// Acknowledgements that come within the limit keep the attempt, for hours, though the application does not receive.
func TestAckTimeoutWhereAcknowledgementsCome(t *testing.T) {
	t.Parallel()
	for name, opt := range map[string]stream.ClientOption{"with replay": withReplay(), "at most once": stream.WithAtMostOnceSends()} {
		for every, pause := range map[string]time.Duration{"one message": 0, "a trickle": 20 * time.Second, "rarely": time.Hour} {
			t.Run(name+", "+every, func(t *testing.T) {
				t.Parallel()
				both(t, func(t *testing.T, receives bool) {
					t.Helper()
					w := scripted(t, takesAll(45*time.Second))
					s := w.mustDial(acking(), opt, stream.WithAckTimeout(time.Minute))
					if receives {
						receiving(s)
					}
					n := uint64(5)
					if pause == 0 {
						n = 1
					}
					for seq := uint64(1); seq <= n; seq++ {
						mustSend(t, s, seq, seq)
						rest(pause)
					}
					rest(3 * time.Hour)
					st := s.Stats()
					require.Equal(t, uint64(1), st.Attempts, "the last attempt ended with %v", st.LastError)
					if receives {
						require.Equal(t, n, st.Acked)
					}
				})
			})
		}
	}
}

// The first message after a long silence has the whole limit, and so has the first attempt after a break.
func TestAckTimeoutBeginsWithTheMessage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, takesAll(50*time.Second))
		s := w.mustDial(acking(), withReplay(), stream.WithAckTimeout(time.Minute))
		ended := receiving(s)
		for seq := uint64(1); seq <= 3; seq++ {
			rest(17 * time.Minute)
			mustSend(t, s, seq, seq)
			rest(30 * time.Second)
			if seq == 2 {
				awayForAMinute(w.Memory)
				rest(2 * time.Minute)
			}
		}
		rest(time.Hour)
		require.Equal(t, uint64(3), s.Stats().Acked)
		require.Equal(t, uint64(1), s.Stats().Outages, "only the cut")
		goesOn(t, ended)
	})
}

// Without replay the messages are in doubt then, unless an option says what to do.
func TestAckTimeoutWithoutReplay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := scripted(t, beats(time.Second)).mustDial(acking(), stream.WithAckTimeout(time.Minute))
		mustSend(t, s, 1, 1)
		err := drain(s)
		requireReason(t, err, stream.ReasonSendsInDoubt, "Recv")
		require.ErrorContains(t, err, "nothing acknowledged within 1m0s")
		require.Equal(t, "send", opOf(err))
		require.False(t, errors.Is(err, io.EOF))
	})
}

// What was lost at most once is never acknowledged. It does not cost every attempt that follows.
func TestAckTimeoutDoesNotWaitForWhatIsLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var got []uint64
		w := scripted(t, reads(&got), takesAll(time.Second))
		s := w.mustDial(acking(), stream.WithAtMostOnceSends(), stream.WithAckTimeout(time.Minute))
		ended := receiving(s)
		mustSend(t, s, 1, 3)
		rest(time.Hour)
		st := s.Stats()
		require.Equal(t, []uint64{2, 0}, []uint64{st.Attempts, st.Acked}, "attempts, and what is acknowledged, an hour later")
		mustSend(t, s, 4, 4)
		rest(time.Hour)
		st = s.Stats()
		require.Equal(t, []uint64{2, 4}, []uint64{st.Attempts, st.Acked}, "after another message")
		goesOn(t, ended)
	})
}

// It needs Acked.
func TestAckTimeoutNeedsAcked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, err := scripted(t, stays()).dial(t.Context(), positions(), stream.WithAckTimeout(time.Minute))
		requireReason(t, err, stream.ReasonOptions, "WithAckTimeout without Acked")
		require.ErrorContains(t, err, "Callbacks.Acked")
		s, err := scripted(t, stays()).dial(t.Context(), positions(), stream.WithAckTimeout(-1))
		require.NoError(t, err, "below zero is none")
		require.NoError(t, s.Close())
	})
}
