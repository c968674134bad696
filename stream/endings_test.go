package stream_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/streamsafe/streamsafe/internal/testnet"
	"github.com/streamsafe/streamsafe/stream"
)

// A message that Send has refused is let go where it is refused in the replay, too.
func TestAMessageThatIsAlwaysRefusedLate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &feed{}
		w := newWorld(t, f, grpc.WithStreamInterceptor(sendingWith(func(m any, next func(any) error) error {
			if err := next(m); err != nil {
				return err
			}
			if frameOf(asRequest(m)).seq == 3 {
				return errors.New("the audit log does not take this one")
			}
			return nil
		})))
		s := w.mustOpen(withReplay())
		ended := receiving(s)
		mustSend(t, s, 1, 2)
		requireReason(t, s.Send(frame{kind: data, seq: 3}.request()), stream.ReasonMessage, "3")
		goesOn(t, ended)
	})
}

// As above, with an option of the connection's, which comes first.
func TestATooLargeMessageWhileGRPCEndsTheAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var ending atomic.Bool
		ends := make(chan struct{})
		w := newWorld(t, &feed{handler: inOrder(lasts(time.Second, errGone), stays())},
			grpc.WithDefaultCallOptions(grpc.OnFinish(func(error) {
				if ending.CompareAndSwap(false, true) {
					<-ends
				}
			})))
		s := w.mustDial(acking(), withReplay(), stream.WithCallOptions(grpc.MaxCallSendMsgSize(1000)))
		mustSend(t, s, 1, 1)
		ended := receiving(s)
		time.Sleep(2 * time.Second)
		require.True(t, ending.Load())
		requireReason(t, s.Send(frame{kind: data, seq: 2, size: 5000}.request()), stream.ReasonMessage, "too large")
		close(ends)
		goesOn(t, ended)
		mustSend(t, s, 2, 2)
		require.Equal(t, uint64(2), s.Stats().LastSeq)
	})
}

// A replayed message is refused with an error that may be resumed, on an attempt that the server has ended.
func TestAReplayRefusedOnAnEndedAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		busy := withRetryInfo(t, codes.ResourceExhausted, time.Second)
		sent := 0
		w := newWorld(t, &feed{handler: inOrder(stays(), lasts(time.Millisecond, busy), stays())},
			grpc.WithStreamInterceptor(sendingWith(func(m any, next func(any) error) error {
				if sent++; sent == 2 {
					time.Sleep(10 * time.Millisecond) // the server ends the attempt
					return busy
				}
				return next(m)
			})))
		s := w.mustDial(acking(), withReplay())
		ended := receiving(s)
		mustSend(t, s, 1, 1)
		synctest.Wait()
		w.Cut(testnet.RST)
		goesOn(t, ended)
	})
}

// Observers are told of the end that the application is told of.
func TestCloseInARuleThatSaysYes(t *testing.T) {
	t.Parallel()
	for name, opt := range map[string]func(f func(error) bool) stream.ClientOption{
		"WithResumable":    func(f func(error) bool) stream.ClientOption { return stream.WithResumable(f) },
		"WithPositionLost": func(f func(error) bool) stream.ClientOption { return stream.WithPositionLost(f) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := scripted(t, lasts(time.Second, errGone))
				d := &diary{}
				var s *client
				s = w.mustDial(positions(), stream.WithObserver(d), opt(func(error) bool { _ = s.Close(); return true }))
				mustSend(t, s, 1, 1)
				err := <-receiving(s)
				wantEnd(t, err, stream.ReasonClosed, codes.Canceled, "Recv")
				rest(time.Minute)
				wantEnd(t, d.of("closed")[0].cause, stream.ReasonClosed, codes.Canceled, "OnClosed")
			})
		})
	}
}

// Recv repeats its error, whatever waits.
func TestRecvTellsTheSameEndAfterClose(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, stays(numbered(1, 2, 3)...))
		cb := positions()
		cb.Resume = delivers(3)
		ctx, cancel := context.WithCancel(t.Context())
		s, err := w.dial(ctx, cb)
		require.NoError(t, err)
		mustReceive(t, s, 1)
		cancel()
		rest(time.Second)
		_, err = s.Recv()
		wantEnd(t, err, stream.ReasonContext, codes.Canceled, "the context")
		require.NoError(t, s.Close())
		_, err = s.Recv()
		wantEnd(t, err, stream.ReasonContext, codes.Canceled, "the same error")
	})
}
