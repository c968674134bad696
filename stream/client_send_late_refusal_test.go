package stream_test

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/streamsafe/streamsafe/internal/testnet"
	"github.com/streamsafe/streamsafe/stream"
)

// An interceptor refuses a message that grpc had, and the attempt has ended meanwhile: the number is not given again.
func TestALateRefusalWhileTheAttemptEnds(t *testing.T) {
	t.Parallel()
	t.Run("with a handshake", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			f := &feed{}
			var w *world
			w = newWorld(t, f, tooLate(func(fr frame) error {
				if fr.seq != 3 || f.last() >= 3 {
					return nil
				}
				time.Sleep(time.Millisecond)
				w.Cut(testnet.RST)
				time.Sleep(time.Millisecond)
				return errors.New("the audit log is full")
			}))
			s := w.mustOpen(withReplay())
			ended := receiving(s)
			mustSend(t, s, 1, 2)
			requireReason(t, s.Send(frame{kind: data, seq: 3}.request()), stream.ReasonSendsInDoubt, "3")
			goesOn(t, ended)
			mustSend(t, s, 4, 4)
			goesOn(t, ended)
			require.Equal(t, upTo(4), f.stored)
		})
	})
	t.Run("without", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex
			var stored []frame // what a server that drops what it has by its number has kept
			handler := func(s bidi) error {
				for {
					m, err := s.Recv()
					if err != nil {
						return err
					}
					fr := frameOf(m)
					mu.Lock()
					if fr.seq == uint64(len(stored))+1 {
						stored = append(stored, fr)
					}
					n := uint64(len(stored))
					mu.Unlock()
					if err := s.Send(frame{kind: ack, seq: n}.response()); err != nil {
						return err
					}
				}
			}
			var w *world
			w = newWorld(t, &feed{handler: handler}, grpc.WithStreamInterceptor(sendingWith(func(m any, next func(any) error) error {
				if err := next(m); err != nil {
					return err
				}
				if fr := frameOf(asRequest(m)); fr.seq == 3 && fr.size == 100 {
					time.Sleep(time.Millisecond)
					w.Cut(testnet.RST)
					time.Sleep(time.Millisecond)
					return errors.New("the audit log is full")
				}
				return nil
			})))
			cb := acking()
			cb.Sequence = func(m *request) uint64 { return frameOf(m).seq }
			s := w.mustDial(cb, withReplay())
			ended := receiving(s)
			mustSend(t, s, 1, 2)
			requireReason(t, s.Send(frame{kind: data, seq: 3, size: 100}.request()), stream.ReasonSendsInDoubt, "refused")
			t.Logf("last seq: %d", s.Stats().LastSeq)
			// the number is free, says the stream: the next message has it
			err := s.Send(frame{kind: data, seq: s.Stats().LastSeq + 1, size: 200}.request())
			require.NoError(t, err)
			goesOn(t, ended)
			sizes := make([]int, 0, len(stored))
			for _, fr := range stored {
				sizes = append(sizes, fr.size)
			}
			require.Contains(t, sizes, 200, "a message that Send has accepted, and that counts as acknowledged")
		})
	})
}

// An interceptor that sends a copy, as it has to, and fails after that: the number is used, too.
func TestALateRefusalOfACopy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &feed{}
		w := newWorld(t, f, grpc.WithStreamInterceptor(sendingWith(func(m any, next func(any) error) error {
			if err := next(proto.Clone(asRequest(m))); err != nil {
				return err
			}
			if frameOf(asRequest(m)).seq == 3 && f.last() < 3 {
				time.Sleep(time.Millisecond)
				return errors.New("the audit log is full")
			}
			return nil
		})))
		s := w.mustOpen(withReplay())
		ended := receiving(s)
		mustSend(t, s, 1, 2)
		requireReason(t, s.Send(frame{kind: data, seq: 3}.request()), stream.ReasonSendsInDoubt, "3")
		goesOn(t, ended)
		mustSend(t, s, 4, 4)
		goesOn(t, ended)
		require.Equal(t, upTo(4), f.stored)
	})
}

// One that sends something else for what cannot be encoded, and fails after that: the message cannot be kept, and whether
// the server has it is in doubt.
func TestALateRefusalOfWhatCannotBeKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		bad := badMessages()["not to be encoded"]
		w := newWorld(t, &feed{}, grpc.WithStreamInterceptor(sendingWith(func(m any, next func(any) error) error {
			if m != any(bad) {
				return next(m)
			}
			if err := next(frame{kind: data, seq: 1}.request()); err != nil {
				return err
			}
			return errors.New("the audit log is full")
		})))
		s := w.mustOpen(withReplay())
		ended := receiving(s)
		requireReason(t, s.Send(bad), stream.ReasonSendsInDoubt, "refused")
		requireReason(t, within(t, ended, "the end of Recv"), stream.ReasonSendsInDoubt, "end of the stream")
	})
}

// reopens is an interceptor that opens again when that fails, as retry interceptors and ones that refresh a token do.
func reopens(send func(m any, next func(any) error) error) grpc.StreamClientInterceptor {
	return func(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, next grpc.Streamer,
		opts ...grpc.CallOption,
	) (grpc.ClientStream, error) {
		s, err := next(ctx, desc, conn, method, opts...)
		if err != nil {
			if s, err = next(ctx, desc, conn, method, opts...); err != nil {
				return nil, err
			}
		}
		return sendingStream{s, send}, nil
	}
}

// staleToken fails the first time.
type staleToken struct{ calls atomic.Int32 }

func (c *staleToken) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	if c.calls.Add(1) == 1 {
		return nil, status.Error(codes.Unauthenticated, "stale token")
	}
	return map[string]string{}, nil
}

func (*staleToken) RequireTransportSecurity() bool { return false }

// An interceptor may open again what failed to open, with the same options: the attempt is alive.
func TestAnInterceptorThatOpensTwice(t *testing.T) {
	t.Parallel()
	t.Run("a refusal with UNAVAILABLE", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			var got []uint64
			w := newWorld(t, &feed{handler: reads(&got)}, grpc.WithPerRPCCredentials(&staleToken{}),
				grpc.WithStreamInterceptor(reopens(func(m any, next func(any) error) error {
					if frameOf(asRequest(m)).seq == 99 {
						return errGone
					}
					return next(m)
				})))
			s := w.mustDial(acking(), withReplay())
			ended := receiving(s)
			mustSend(t, s, 1, 1)
			told := make(chan error, 1)
			go func() { told <- s.Send(frame{kind: data, seq: 99}.request()) }()
			rest(time.Hour)
			select {
			case err := <-told:
				requireReason(t, err, stream.ReasonMessage, "99")
			default:
				t.Fatalf("Send waits for an hour, on a good connection; state %v, attempts %d", s.State(), s.Stats().Attempts)
			}
			goesOn(t, ended)
		})
	})
	t.Run("another refusal", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			var got []uint64
			w := newWorld(t, &feed{handler: reads(&got)}, grpc.WithPerRPCCredentials(&staleToken{}),
				grpc.WithStreamInterceptor(reopens(func(m any, next func(any) error) error {
					if frameOf(asRequest(m)).seq == 99 {
						return errors.New("99")
					}
					return next(m)
				})))
			s := w.mustDial(acking())
			ended := receiving(s)
			mustSend(t, s, 1, 1)
			requireReason(t, s.Send(frame{kind: data, seq: 99}.request()), stream.ReasonSendsInDoubt, "99")
			goesOn(t, ended) // by default there is no resuming after a Send
		})
	})
}

// slowRecv is a stream with an interceptor's RecvMsg that takes its time to tell of the end.
type slowRecv struct {
	grpc.ClientStream
	send func(m any, next func(any) error) error
}

func (s slowRecv) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if err != nil {
		time.Sleep(time.Millisecond)
	}
	return err
}

// The server has ended the stream, and before Recv tells of it a message is refused: the server's word counts.
func TestTheServersWordAndARefusedMessage(t *testing.T) {
	t.Parallel()
	for name, last := range map[string]error{"OK": nil, "a status": errLastWord} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, &feed{handler: lasts(time.Second, last)},
					wrapped(func(_ context.Context, s grpc.ClientStream) grpc.ClientStream { return slowRecv{s, nil} }))
				s := w.mustDial(positions(), stream.WithCallOptions(grpc.MaxCallSendMsgSize(1000)))
				mustSend(t, s, 1, 1)
				ended := receiving(s)
				time.Sleep(time.Second + 500*time.Microsecond)
				requireReason(t, s.Send(frame{kind: data, size: 5000}.request()), stream.ReasonMessage, "too large")
				err := within(t, ended, "the end of Recv")
				if last == nil {
					require.ErrorIs(t, err, io.EOF)
					return
				}
				wantEnd(t, err, stream.ReasonServer, codes.InvalidArgument, "the server's last word")
			})
		})
	}
}

// A message that Send has refused is let go where it is refused in the replay, too.
func TestAMessageThatIsAlwaysRefusedLate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &feed{}
		w := newWorld(t, f, tooLate(func(fr frame) error {
			if fr.seq == 3 {
				return errors.New("the audit log does not take this one")
			}
			return nil
		}))
		s := w.mustOpen(withReplay())
		ended := receiving(s)
		mustSend(t, s, 1, 2)
		requireReason(t, s.Send(frame{kind: data, seq: 3}.request()), stream.ReasonSendsInDoubt, "3")
		goesOn(t, ended)
	})
}

// A too large message was never on the wire, and its number is free, also where the attempt ends at the same time: an option
// of the connection's holds that up.
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
