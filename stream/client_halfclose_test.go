package stream_test

import (
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/internal/testnet"
	"github.com/streamsafe/streamsafe/stream"
)

// Invariant 15: the half-close is repeated until the stream has ended.
func TestHalfCloseIsRepeated(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &feed{}
		var counts []int // of the messages before each half-close; handlers come one after the other
		f.handler = func(s bidi) error {
			if err := greet(s, 0); err != nil {
				return err
			}
			n, err := countToEnd(s)
			if err != nil {
				return err
			}
			if counts = append(counts, n); len(counts) < 4 {
				return status.Error(codes.Unavailable, "the status is lost")
			}
			return nil
		}
		s := newWorld(t, f).mustOpen(withReplay(), stream.WithOKAcknowledges())
		_, sendErr, recvErr := exchange(s, 3)
		require.NoError(t, sendErr)
		require.ErrorIs(t, recvErr, io.EOF)
		require.Equal(t, []int{3, 3, 3, 3}, counts, "messages before the half-close, by attempt")
	})
}

func TestCloseSendWhileDetached(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &feed{total: 3})
		s := w.mustOpen(withReplay())
		got := make(chan error, 1)
		go func() { got <- drain(s) }() // ends with the stream; a line below waits for it
		require.NoError(t, s.Send(frame{kind: data, seq: 1}.request()))
		synctest.Wait()
		w.Refuse(true)
		w.Cut(testnet.RST)
		synctest.Wait()
		require.Equal(t, stream.Detached, s.State())
		require.NoError(t, s.CloseSend(), "while detached")
		require.NoError(t, s.CloseSend(), "the second time")
		time.Sleep(time.Minute)
		require.NotEqual(t, stream.Closed, s.State(), "the stream waits for the server")
		w.Refuse(false)
		require.ErrorIs(t, within(t, got, "the end of Recv"), io.EOF)
		require.Equal(t, upTo(1), w.feed.stored)
	})
}

func TestSendAfterCloseSend(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &feed{total: 3})
		s := w.mustOpen(withReplay())
		require.NoError(t, s.CloseSend())
		err := s.Send(frame{kind: data, seq: 1}.request())
		requireReason(t, err, stream.ReasonMessage, "Send after CloseSend")
		require.NoError(t, s.CloseSend(), "the second time")
		require.ErrorIs(t, drain(s), io.EOF, "the refused Send breaks nothing")
		require.Equal(t, uint64(1), s.Stats().Attempts)
		require.Empty(t, w.feed.seen, "messages of the client that the server saw")
		require.NoError(t, s.CloseSend(), "after the end")
	})
}

// CloseSend during a replay: the half-close comes after what is sent again.
func TestCloseSendDuringReplay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const n, size = 20, 64 << 10
		f := &feed{options: []grpc.ServerOption{grpc.StaticStreamWindowSize(size)}} // grpc's own may grow to hold all of it
		first := true
		f.handler = func(s bidi) error {
			if first {
				first = false
				return swallow(s, n)
			}
			if err := greet(s, 0); err != nil {
				return err
			}
			time.Sleep(time.Minute) // flow control holds the replay up meanwhile
			count, err := countToEnd(s)
			if err == nil && count != n {
				err = status.Errorf(codes.DataLoss, "%d messages before the half-close", count)
			}
			return err
		}
		s := newWorld(t, f).mustOpen(withReplay(), stream.WithOKAcknowledges())
		for seq := uint64(1); seq <= n; seq++ {
			require.NoError(t, s.Send(frame{kind: data, seq: seq, size: size}.request()))
		}
		end := make(chan error, 1)
		go func() { end <- drain(s) }() // ends with the stream; a line below waits for it
		time.Sleep(30 * time.Second)
		require.Equal(t, stream.Attached, s.State(), "in the middle of the replay")
		require.Less(t, s.Stats().Replayed, uint64(n), "in the middle of the replay")
		require.NoError(t, s.CloseSend())
		require.ErrorIs(t, within(t, end, "the end of Recv"), io.EOF)
	})
}

// The connection breaks while CloseSend runs, at any moment of it.
func TestCloseSendRacingWithBreak(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &feed{}
		w := newWorld(t, f)
		for range 300 {
			f.mu.Lock()
			f.stored = nil
			f.mu.Unlock()
			s := w.mustOpen(withReplay())
			for seq := range uint64(3) {
				require.NoError(t, s.Send(frame{kind: data, seq: seq + 1}.request()))
			}
			var breaks sync.WaitGroup
			breaks.Go(func() { w.Cut(testnet.RST) })
			require.NoError(t, s.CloseSend())
			require.ErrorIs(t, drain(s), io.EOF)
			require.Equal(t, uint64(3), f.last(), "messages the server has")
			breaks.Wait()
		}
	})
}

// CloseSend waits for a Send that is on its way, and so the half-close comes after its message, also where the attempt
// dies meanwhile (invariant 15).
func TestCloseSendWhileASendIsOnItsWay(t *testing.T) {
	t.Parallel()
	for name, breaks := range map[string]bool{"as usual": false, "the attempt dies": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := &feed{}
				held := make(chan struct{})
				w := newWorld(t, f, grpc.WithStreamInterceptor(sendingWith(func(m any, next func(any) error) error {
					if frameOf(asRequest(m)).seq == 2 {
						<-held
					}
					return next(m)
				})))
				s := w.mustOpen(withReplay())
				ended := receiving(s)
				mustSend(t, s, 1, 1)
				sent := make(chan error, 1)
				go func() { sent <- s.Send(frame{kind: data, seq: 2}.request()) }() // ends when held is closed
				synctest.Wait()
				closed := make(chan error, 1)
				go func() { closed <- s.CloseSend() }() // ends with the Send
				synctest.Wait()
				if breaks {
					w.Cut(testnet.RST)
					synctest.Wait()
				} else {
					require.Empty(t, closed, "CloseSend waits")
				}
				close(held)
				require.NoError(t, within(t, sent, "the return of Send"))
				require.NoError(t, within(t, closed, "the return of CloseSend"))
				require.ErrorIs(t, within(t, ended, "the end of Recv"), io.EOF)
				require.Equal(t, upTo(2), f.stored, "messages before the half-close")
			})
		})
	}
}

func TestCloseAndRecv(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, func(s bidi) error {
			n := uint64(0)
			for {
				if _, err := s.Recv(); err != nil {
					return s.Send(frame{kind: data, seq: n}.response())
				}
				n++
			}
		})
		var upload grpc.ClientStreamingClient[request, response] = w.mustDial(positions(), stream.WithAtMostOnceSends())
		for range 3 {
			require.NoError(t, upload.SendMsg(frame{kind: data}.request()))
		}
		m, err := upload.CloseAndRecv()
		require.NoError(t, err)
		require.Equal(t, uint64(3), frameOf(m).seq)
	})
}
