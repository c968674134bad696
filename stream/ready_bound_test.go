package stream_test

import (
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/streamsafe/streamsafe/stream"
)

// inPortions returns a handler that goes on from the position it is told: it sends so many messages and fails, until all
// are through.
func inPortions(total, each uint64, size int) func(bidi) error {
	return func(s bidi) error {
		m, err := s.Recv()
		if err != nil {
			return err
		}
		last := min(frameOf(m).seq+each, total)
		for seq := frameOf(m).seq + 1; seq <= last; seq++ {
			if err := s.Send(frame{kind: data, seq: seq, size: size}.response()); err != nil {
				return err
			}
		}
		if last == total {
			return nil
		}
		return errGone
	}
}

// Invariant 8: where the application only sends, what is left of dead attempts waits for Recv, and not without bound.
// Where it is reached the next Send waits, until Recv goes on. Nothing is lost.
func TestWhatWaitsForRecvIsBounded(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		total, each uint64
		size        int
		waiting     int
	}{
		"in messages": {total: 80_000, each: 15_000, waiting: 1 << 16},
		"in bytes":    {total: 24, each: 5, size: 1 << 20, waiting: 16},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, &feed{handler: inPortions(test.total, test.each, test.size)},
					grpc.WithInitialWindowSize(16<<20), grpc.WithInitialConnWindowSize(64<<20)) // an attempt dies with all of it
				cb := positions()
				cb.Resume = greets
				s := w.mustDial(cb, stream.WithAtMostOnceSends())
				sent := make(chan struct{}, 1000)
				over := make(chan error, 1)
				go func() { // ends with the stream; the last lines wait for it
					for {
						if err := s.Send(frame{kind: data}.request()); err != nil {
							over <- err
							return
						}
						sent <- struct{}{}
						time.Sleep(time.Minute) // each of them finds the attempt dead
					}
				}()
				rest(time.Hour)
				require.Equal(t, test.waiting, s.Stats().Waiting, "messages that wait for Recv")
				before := len(sent)
				rest(time.Hour)
				require.Len(t, sent, before, "messages sent: the next one waits")
				require.Empty(t, over)
				require.Equal(t, test.waiting, s.Stats().Waiting, "messages that wait for Recv, an hour later")

				mustReceive(t, s, 1, 2, 3)
				rest(time.Minute)
				require.Equal(t, test.waiting, s.Stats().Waiting, "messages that wait: as many came after those taken")
				got, err := receiveAll(s)
				require.ErrorIs(t, err, io.EOF)
				require.Equal(t, test.total-3, uint64(len(got)))
				require.Equal(t, upTo(test.total)[3:], got, "in order, and nothing is lost")
				require.Zero(t, s.Stats().Duplicates)
				require.ErrorIs(t, <-over, io.EOF, "the Send that waited")
			})
		})
	}
}

// Who waits for room does not wait for ever: the end of the context is enough.
func TestASendThatWaitsForRecvEndsWithTheContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &feed{handler: inPortions(20, 20, 1<<20)},
			grpc.WithInitialWindowSize(32<<20), grpc.WithInitialConnWindowSize(64<<20))
		cb := positions()
		cb.Resume = greets
		s := w.mustDial(cb, stream.WithAtMostOnceSends())
		synctest.Wait()
		over := make(chan error, 1)
		go func() { over <- s.Send(frame{kind: data}.request()) }() // ends with the stream
		rest(time.Minute)
		require.Empty(t, over, "Send waits")
		require.Equal(t, 16, s.Stats().Waiting)
		require.NoError(t, s.Close())
		requireReason(t, <-over, stream.ReasonClosed, "the Send that waited")
	})
}
