package stream_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/streamsafe/streamsafe/internal/testnet"
	"github.com/streamsafe/streamsafe/stream"
)

// countedStream counts what handlers receive, and tells of it before they get it.
type countedStream struct {
	grpc.ServerStream
	count    *atomic.Int64
	received func(n int64)
}

func (s countedStream) RecvMsg(m any) error {
	err := s.ServerStream.RecvMsg(m)
	if err == nil {
		s.received(s.count.Add(1))
	}
	return err
}

// A server is drained at each message of a client in turn: in the first attempt, in the Resume and in the replay of the next.
func TestADrainAtEachMessage(t *testing.T) {
	t.Parallel()
	const messages, cutAt = 6, 4
	for drainAt := int64(1); drainAt <= messages+2; drainAt++ {
		synctest.Test(t, func(t *testing.T) {
			d := stream.NewDrainer(stream.DrainWindow(10*time.Millisecond), stream.DrainGrace(0))
			var count atomic.Int64
			f := &feed{}
			var w *world
			drained := make(chan error, 1)
			received := func(n int64) {
				if n == cutAt {
					w.Cut(testnet.RST)
				}
				if n == drainAt {
					go func() { // ends with the drain, which the test waits for
						err := d.Drain(t.Context(), w.server)
						f.options = nil // another server, which is not drained
						w.start()
						drained <- err
					}()
				}
				if n >= drainAt && n < drainAt+3 {
					time.Sleep(4 * time.Millisecond) // the drain happens in the middle of what follows
				}
			}
			f.options = []grpc.ServerOption{grpc.ChainStreamInterceptor(
				stream.ServerInterceptor(stream.WithDrainer(d)),
				func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
					return handler(srv, countedStream{ss, &count, received})
				})}
			w = newWorld(t, f)
			s := w.mustOpen(withReplay(), stream.WithResumeMetadata())
			for n := uint64(1); n <= messages; n++ {
				require.NoError(t, s.Send(item(n)))
			}
			require.NoError(t, s.CloseSend())
			ended := async(func() error { _, err := s.Recv(); return err })
			require.NoError(t, within(t, drained, "the drain"))
			require.EqualError(t, within(t, ended, "the end of the stream"), "EOF", "drained at %d", drainAt)
			require.Equal(t, upTo(messages), f.stored, "drained at %d", drainAt)
		})
	}
}
