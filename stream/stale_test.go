package stream_test

import (
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream"
)

// The attempt is lost while Recv hands over a message that has just arrived: the message is delivered, and the stream
// goes on from there.
//
//  1. RecvMsg has returned message 1, and the Checkpoint callback is being asked about it.
//  2. A Send fails for good, and ends the attempt. The lifecycle goroutine waits for what is on its way.
//  3. The callback returns, and Recv hands over message 1: the lifecycle goroutine has to wake up.
func TestLossWhileMessageIsHandedOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &feed{total: 3}
		w := newWorld(t, f)
		callbacks := f.callbacks()
		asked, answer := make(chan struct{}), make(chan struct{})
		first, position := true, callbacks.Checkpoint
		callbacks.Checkpoint = func(m *response) (checkpoint.Position, bool) {
			if first {
				first = false
				close(asked)
				<-answer
			}
			return position(m)
		}
		s := w.mustDial(callbacks, withReplay(), stream.WithCallOptions(grpc.MaxCallSendMsgSize(100)))
		got := make(chan []uint64, 1)
		go func() { got <- sequences(s) }() // ends with the stream; a line below waits for it
		<-asked
		requireReason(t, s.Send(frame{kind: data, seq: 1, size: 200}.request()), stream.ReasonMessage, "too large")
		rest(time.Minute)
		require.Equal(t, uint64(1), s.Stats().Attempts, "the next attempt waits for the message (invariant 12)")
		close(answer)
		require.NoError(t, s.CloseSend())
		require.Equal(t, upTo(3), <-got)
		require.Equal(t, uint64(2), s.Stats().Attempts)
		require.Zero(t, s.Stats().Duplicates, "the position was read after message 1 was handed over (invariant 12)")
	})
}

// sequences receives until the end and returns the numbers of what came.
func sequences(s *client) []uint64 {
	var got []uint64
	for {
		m, err := s.Recv()
		if err != nil {
			return got
		}
		got = append(got, frameOf(m).seq)
	}
}

// Invariant 10: once an attempt has brought what must not be taken in, nothing more is taken from it, though it has
// arrived already.
func TestNothingIsTakenFromRefusedAttempt(t *testing.T) {
	t.Parallel()
	for name, after1 := range map[string]frame{
		"a gap":                        {kind: data, seq: 3},
		"an acknowledgement of no one": {kind: ack, seq: 99},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for range 50 { // grpc draws whether a cancelled stream gives what has arrived
				synctest.Test(t, func(t *testing.T) {
					f := &feed{total: 3}
					attempts := 0
					f.handler = func(s bidi) error {
						if attempts++; attempts > 1 {
							return f.serve(s)
						}
						if err := greet(s, 0); err != nil {
							return err
						}
						stale := frame{kind: fragment, seq: 66}
						for _, m := range []frame{{kind: data, seq: 1}, after1, stale, stale, stale} {
							if err := s.Send(m.response()); err != nil {
								return err
							}
						}
						<-s.Context().Done()
						return s.Context().Err()
					}
					s := newWorld(t, f).mustOpen(withReplay(), stream.WithGapDetection())
					require.NoError(t, s.CloseSend())
					synctest.Wait()
					got := sequences(s)
					if after1.kind == ack {
						_, err := s.Recv()
						requireReason(t, err, stream.ReasonProtocol, "the end")
						require.Equal(t, upTo(1), got)
						return
					}
					_, err := s.Recv()
					require.ErrorIs(t, err, io.EOF)
					require.Equal(t, upTo(3), got)
				})
			}
		})
	}
}
