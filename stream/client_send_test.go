package stream_test

import (
	"context"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/protobuf/proto"

	"github.com/streamsafe/streamsafe/internal/testnet"
	"github.com/streamsafe/streamsafe/stream"
)

// That grpc has aborted an attempt is known also where an interceptor gives the stream a context of its own.
func TestATooLargeMessageAndAContextOfAnInterceptors(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &feed{handler: stays()}, wrapped(func(ctx context.Context, s grpc.ClientStream) grpc.ClientStream {
			return ownContext{s, context.WithValue(ctx, frame{}, 1)}
		}))
		s := w.mustDial(positions(), stream.WithAtMostOnceSends(), stream.WithCallOptions(grpc.MaxCallSendMsgSize(1000)))
		ended := receiving(s)
		err := s.Send(frame{kind: data, size: 5000}.request())
		wantEnd(t, err, stream.ReasonMessage, codes.ResourceExhausted, "the message")
		goesOn(t, ended)
		require.NoError(t, s.Send(frame{kind: data}.request()))
	})
}

// A message that grpc refused was never on the wire, and its number is free, also where the attempt is just ending.
func TestATooLargeMessageWhileTheAttemptEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var ending atomic.Bool
		ends := make(chan struct{})
		w := newWorld(t, &feed{handler: inOrder(lasts(time.Second, errGone), stays())})
		s := w.mustDial(acking(), withReplay(), stream.WithCallOptions(grpc.MaxCallSendMsgSize(1000), grpc.OnFinish(func(error) {
			if ending.CompareAndSwap(false, true) {
				<-ends // before grpc cancels the stream's context
			}
		})))
		mustSend(t, s, 1, 1)
		receiving(s)
		time.Sleep(2 * time.Second)
		require.True(t, ending.Load())
		requireReason(t, s.Send(frame{kind: data, seq: 2, size: 5000}.request()), stream.ReasonMessage, "too large")
		close(ends)
		rest(20 * time.Second)
		mustSend(t, s, 2, 2)
		require.Equal(t, uint64(2), s.Stats().LastSeq)
	})
}

// Interceptors below see messages, in the first sending and in the replay alike.
func TestInterceptorsSeeMessages(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const n = 5
		f := &feed{}
		forgetsFirst(f, n)
		var seen []uint64 // sends come one after the other
		w := newWorld(t, f, grpc.WithStreamInterceptor(sendingWith(func(m any, next func(any) error) error {
			if fr := frameOf(asRequest(m)); fr.kind == data {
				seen = append(seen, fr.seq)
			}
			return next(m)
		})))
		s := w.mustOpen(withReplay())
		_, sendErr, recvErr := exchange(s, n)
		require.NoError(t, sendErr)
		require.ErrorIs(t, recvErr, io.EOF)
		require.Equal(t, append(upTo(n), upTo(n)...), seen)
	})
}

// An interceptor changes messages, a copy of them or in place: the server sees each changed once, also where it is sent
// again.
func TestInterceptorsChangeMessages(t *testing.T) {
	t.Parallel()
	const n = 5
	add := func(m *request) *request {
		if frameOf(m).kind == data {
			m.Payload.Body = append(m.Payload.Body, 'x')
		}
		return m
	}
	for name, send := range map[string]func(m any, next func(any) error) error{
		"a copy":   func(m any, next func(any) error) error { return next(add(proto.CloneOf(asRequest(m)))) },
		"in place": func(m any, next func(any) error) error { return next(add(asRequest(m))) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := &feed{}
				j := keepJournal(f)
				forgetsFirst(f, n)
				s := newWorld(t, f, grpc.WithStreamInterceptor(sendingWith(send))).mustOpen(withReplay())
				_, sendErr, recvErr := exchange(s, n)
				require.NoError(t, sendErr)
				require.ErrorIs(t, recvErr, io.EOF)
				require.Len(t, j.handlers, 1)
				require.Len(t, j.handlers[0].received, n)
				for i, got := range j.handlers[0].received {
					require.Equal(t, frame{kind: data, seq: uint64(i) + 1, size: 1}, got, "message sent again")
				}
			})
		})
	}
}

// badMessages cannot be sent, each for a reason of its own.
func badMessages() map[string]*request {
	return map[string]*request{
		"not to be encoded": {ResponseStatus: &testpb.EchoStatus{Message: "\xff"}, Payload: frame{kind: data, seq: 99}.payload()},
		"too large":         frame{kind: data, seq: 99, size: 10_000}.request(),
		"nil":               nil,
	}
}

// A message that cannot be sent is an error of that one Send. The stream goes on, and nothing is lost.
func TestBadMessageBreaksNothing(t *testing.T) {
	t.Parallel()
	for name, bad := range badMessages() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := &feed{total: 20}
				j := keepJournal(f)
				w := newWorld(t, f)
				s := w.mustOpen(withReplay(), stream.WithCallOptions(grpc.MaxCallSendMsgSize(5000)))
				sent := make(chan error, 1)
				go func() { sent <- drain(s) }() // ends with the stream; a line below waits for it
				for seq := uint64(1); seq <= 10; seq++ {
					requireReason(t, s.Send(bad), stream.ReasonMessage, "a bad message")
					require.NoError(t, s.Send(frame{kind: data, seq: seq, size: sizeOf(seq)}.request()))
				}
				requireReason(t, s.Send(bad), stream.ReasonMessage, "a bad message at the end")
				require.Equal(t, uint64(10), s.Stats().Sent, "messages sent")
				require.NoError(t, s.CloseSend())
				require.ErrorIs(t, within(t, sent, "the end of Recv"), io.EOF)
				require.Equal(t, upTo(10), f.stored)
				require.Equal(t, uint64(20), s.Stats().Deliveries)
				j.check(t)
			})
		})
	}
}

// The attempt is lost while a bad message is on its way to the codec: the message is refused all the same, and not kept.
func TestBadMessageOnDeadAttempt(t *testing.T) {
	t.Parallel()
	for name, bad := range badMessages() {
		if bad == nil {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := &feed{total: 1}
				held := make(chan struct{})
				var once sync.Once
				w := newWorld(t, f, grpc.WithStreamInterceptor(sendingWith(func(m any, next func(any) error) error {
					if frameOf(asRequest(m)).seq == 99 {
						once.Do(func() { <-held })
					}
					return next(m)
				})))
				s := w.mustOpen(withReplay(), stream.WithCallOptions(grpc.MaxCallSendMsgSize(5000)))
				end := make(chan error, 1)
				go func() { end <- drain(s) }() // ends with the stream; a line below waits for it
				refused := make(chan error, 1)
				go func() { refused <- s.Send(bad) }() // ends when held is closed; a line below waits for it
				synctest.Wait()
				w.Cut(testnet.RST)
				synctest.Wait()
				close(held)
				requireReason(t, within(t, refused, "the refusal of the message"), stream.ReasonMessage, "a bad message")
				require.NoError(t, s.Send(frame{kind: data, seq: 1, size: sizeOf(1)}.request()))
				require.NoError(t, s.CloseSend())
				require.ErrorIs(t, within(t, end, "the end of Recv"), io.EOF, "the stream goes on")
				require.Equal(t, upTo(1), f.stored)
			})
		})
	}
}

// What is refused names the limit.
func TestTooLargeMessageSaysSo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newWorld(t, &feed{}).mustOpen(withReplay(), stream.WithCallOptions(grpc.MaxCallSendMsgSize(5000)))
		err := s.Send(frame{kind: data, seq: 1, size: 10_000}.request())
		require.True(t, strings.Contains(err.Error(), "5000"), err)
	})
}
