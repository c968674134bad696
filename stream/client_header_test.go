package stream_test

import (
	"context"
	"io"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/internal/testnet"
	"github.com/streamsafe/streamsafe/stream"
)

// The trailer may still be on its way; -race tells.
func TestTrailerAfterClose(t *testing.T) {
	t.Parallel()
	for range 300 {
		end := make(chan struct{})
		w := newWorld(t, &feed{handler: func(s bidi) error {
			s.SetTrailer(metadata.Pairs("a", "b"))
			_ = s.Send(frame{kind: data, seq: 1}.response())
			<-end
			return errGone
		}})
		s := w.mustDial(positions())
		mustReceive(t, s, 1)
		go close(end)
		_ = s.Close()
		_, err := s.Recv()
		require.Error(t, err)
		_ = s.Trailer()
	}
}

// The last attempt counts, also where it was never attached.
func TestTrailerOfTheLastAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, func(s bidi) error {
			s.SetTrailer(metadata.Pairs("attempt", "1"))
			return errGone
		}, func(s bidi) error {
			s.SetTrailer(metadata.Pairs("attempt", "2"))
			return status.Error(codes.PermissionDenied, "no")
		})
		cb := positions()
		cb.Resume = func(_ context.Context, r *resumption) error {
			if r.Attempt() == 1 {
				return nil
			}
			_, err := r.Recv()
			return err
		}
		s := w.mustDial(cb)
		_, err := s.Recv()
		require.Equal(t, codes.PermissionDenied, status.Code(err))
		require.Equal(t, []string{"2"}, s.Trailer().Get("attempt"))
	})
}

type countedHeader struct {
	grpc.ClientStream
	calls *atomic.Int64
}

func (s countedHeader) Header() (metadata.MD, error) {
	if s.calls.Add(1) > 10_000 { // give up: the bubble's clock stands still
		runtime.Goexit()
	}
	return s.ClientStream.Header()
}

// Header does not ask a dead attempt again and again.
func TestHeaderAfterCloseWhileACallbackRuns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		w := newWorld(t, &feed{handler: stays()}, wrapped(func(_ context.Context, s grpc.ClientStream) grpc.ClientStream {
			return countedHeader{s, &calls}
		}))
		returns := make(chan struct{})
		cb := acking()
		cb.Replay = func(m *request, _ uint64) *request { <-returns; return m }
		s := w.mustDial(cb, withReplay())
		mustSend(t, s, 1, 1)
		receiving(s)
		w.Cut(testnet.RST)
		rest(time.Minute)
		require.Equal(t, stream.Attached, s.State(), "Replay runs")
		mustClose(t, s, "called by the test")
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = s.Header()
		}()
		synctest.Wait()
		n := calls.Load()
		close(returns)
		within(t, done, "the return of Header")
		require.Less(t, n, int64(10), "calls of Header")
	})
}

func TestHeaderAndTrailerAreTheNewestAttempts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		marked := func(mark string, then func(bidi) error) func(bidi) error {
			return func(s bidi) error {
				if err := s.SendHeader(metadata.Pairs("mark", mark)); err != nil {
					return err
				}
				s.SetTrailer(metadata.Pairs("end", mark))
				return then(s)
			}
		}
		w := scripted(t, sends(errGone), marked("second", lasts(time.Second, errGone)), marked("third", sends(nil)))
		s := w.mustDial(positions())
		header, err := s.Header()
		require.NoError(t, err)
		require.Equal(t, []string{"second"}, header.Get("mark"), "the first attempt had no header")
		_, err = s.Recv()
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, []string{"third"}, s.Trailer().Get("end"))
	})
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, sends(status.Error(codes.NotFound, "no")))
		s := w.mustDial(positions())
		header, err := s.Header()
		require.NoError(t, err, "Recv tells")
		require.Nil(t, header)
		_, err = s.Recv()
		wantEnd(t, err, stream.ReasonServer, codes.NotFound, "the server's word")
	})
}
