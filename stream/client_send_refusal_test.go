package stream_test

import (
	"errors"
	"fmt"
	"io"
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

// An interceptor that refuses a message, whatever it says, has not aborted the attempt: that goes on. With replay it is known
// that grpc never had the message, and its number is given to the next. Without, it may have been sent (invariant 34).
func TestAMessageThatAnInterceptorRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		opt    stream.ClientOption
		reason stream.Reason
		sent   uint64
	}{
		"with replay": {withReplay(), stream.ReasonMessage, 4},
		"by default":  {stream.WithName("default"), stream.ReasonSendsInDoubt, 5},
	}
	for name, test := range tests {
		for _, refusal := range []error{status.Error(codes.InvalidArgument, "99"), errGone, errors.New("99")} {
			t.Run(name+", "+refusal.Error(), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					var got []uint64
					w := newWorld(t, &feed{handler: reads(&got)},
						grpc.WithStreamInterceptor(sendingWith(func(m any, next func(any) error) error {
							if frameOf(asRequest(m)).seq == 99 {
								return refusal
							}
							return next(m)
						})))
					s := w.mustDial(acking(), test.opt)
					ended := receiving(s)
					mustSend(t, s, 1, 3)
					requireReason(t, s.Send(frame{kind: data, seq: 99}.request()), test.reason, "99")
					mustSend(t, s, 4, 4)
					goesOn(t, ended)
					require.Equal(t, upTo(4), got, "messages the server has")
					require.Equal(t, uint64(1), s.Stats().Attempts)
					require.Equal(t, test.sent, s.Stats().Sent)
					require.Equal(t, test.sent, s.Stats().LastSeq)
				})
			})
		}
	}
}

// An interceptor may say in its own words that the attempt is dead. That is no fault of the message. It goes on the next
// attempt, but for one case: nothing is kept, and the interceptor hides what grpc said. Then the message may have been sent,
// and at most once means that it is not sent again (invariant 34).
func TestAnInterceptorThatTellsOfADeadAttempt(t *testing.T) {
	t.Parallel()
	options := map[string]stream.ClientOption{"with replay": withReplay(), "at most once": stream.WithAtMostOnceSends()}
	words := map[string]func(error) error{
		"what grpc said": func(err error) error { return fmt.Errorf("the audit log has it: %w", err) },
		"a status":       func(error) error { return status.Error(codes.Unavailable, "the stream is broken") },
	}
	for name, opt := range options {
		for how, says := range words {
			t.Run(name+", "+how, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					var got []uint64
					held := make(chan struct{})
					told := 0 // sends come one after the other
					w := newWorld(t, &feed{handler: reads(&got)},
						grpc.WithStreamInterceptor(sendingWith(func(m any, next func(any) error) error {
							<-held
							err := next(m)
							if errors.Is(err, io.EOF) {
								told++
								return says(err)
							}
							return err
						})))
					s := w.mustDial(acking(), opt)
					ended := receiving(s)
					sent := make(chan error, 1)
					go func() { sent <- s.Send(frame{kind: data, seq: 1}.request()) }() // ends when held is closed
					synctest.Wait()
					w.Cut(testnet.RST)
					synctest.Wait()
					close(held)
					require.NoError(t, within(t, sent, "the return of Send"), "a good message")
					mustSend(t, s, 2, 2)
					require.Equal(t, uint64(2), s.Stats().Sent)
					goesOn(t, ended)
					want := upTo(2)
					if name == "at most once" && how == "a status" {
						want = []uint64{2}
					}
					require.Equal(t, want, got, "messages the server has")
					require.Equal(t, 1, told, "times that the interceptor told")
				})
			})
		}
	}
}

// It may refuse one that grpc had: that may be on its way, or the attempt may be dead, and the interceptor hides it. The
// message counts as sent, and the attempt is given up: then the server tells what it has.
func TestAMessageThatAnInterceptorRefusesTooLate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &feed{}
		w := newWorld(t, f, tooLate(func(fr frame) error {
			if fr.seq != 3 {
				return nil
			}
			time.Sleep(time.Millisecond)
			return errors.New("the audit log is full")
		}))
		s := w.mustOpen(withReplay())
		ended := receiving(s)
		mustSend(t, s, 1, 2)
		requireReason(t, s.Send(frame{kind: data, seq: 3}.request()), stream.ReasonSendsInDoubt, "3")
		mustSend(t, s, 4, 4)
		goesOn(t, ended)
		require.Equal(t, upTo(4), f.stored)
		require.Equal(t, uint64(4), s.Stats().Acked)
		require.Equal(t, uint64(2), s.Stats().Attempts)
	})
}

// grpc has aborted the attempt for a message that is too large, and Recv hears of that first, as of the server's word.
// The message is refused, once, and the stream goes on.
func TestABadMessageThatRecvHearsOfFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var got []uint64
		w := newWorld(t, &feed{handler: reads(&got)}, grpc.WithStreamInterceptor(sendingWith(slow)))
		s := w.mustDial(acking(), withReplay(), stream.WithCallOptions(grpc.MaxCallSendMsgSize(5000)))
		ended := receiving(s)
		bad := frame{kind: data, seq: 99, size: 10_000}.request()
		began := time.Now()
		requireReason(t, s.Send(bad), stream.ReasonMessage, "too large")
		require.Less(t, time.Since(began), time.Second, "it is not tried on one attempt after the other")
		mustSend(t, s, 1, 1)
		goesOn(t, ended)
		require.Equal(t, upTo(1), got)
		require.Equal(t, uint64(2), s.Stats().Attempts)
	})
}

// What Replay has made too large is Replay's failure, also where Recv hears of it first.
func TestABadReplayThatRecvHearsOfFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var got []uint64
		w := newWorld(t, &feed{handler: reads(&got)}, grpc.WithStreamInterceptor(sendingWith(slow)))
		cb := acking()
		cb.Replay = func(*request, uint64) *request { return frame{kind: data, seq: 1, size: 10_000}.request() }
		s := w.mustDial(cb, withReplay(), stream.WithCallOptions(grpc.MaxCallSendMsgSize(1000)))
		ended := receiving(s)
		mustSend(t, s, 1, 1)
		synctest.Wait()
		w.Cut(testnet.RST)
		wantEnd(t, within(t, ended, "the end of Recv"), stream.ReasonResume, codes.ResourceExhausted, "end of the stream")
	})
}

// In the replay a refusal is classified like any other error: one that may be resumed costs an attempt, the last word
// ends the stream.
func TestAMessageThatAnInterceptorRefusesInTheReplay(t *testing.T) {
	t.Parallel()
	for _, refusal := range []error{status.Error(codes.Unavailable, "the token service is away"), errLastWord} {
		t.Run(codeOf(refusal).String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := newPuppet()
				sent := 0 // sends come one after the other
				w := newWorld(t, &feed{handler: p.handle},
					grpc.WithStreamInterceptor(sendingWith(func(m any, next func(any) error) error {
						if frameOf(asRequest(m)).kind == data {
							if sent++; sent == 2 {
								return refusal
							}
						}
						return next(m)
					})))
				s := w.mustOpen(withReplay())
				ended := receiving(s)
				mustSend(t, s, 1, 1)
				synctest.Wait()
				w.Cut(testnet.RST)
				if codeOf(refusal) != codes.Unavailable {
					wantEnd(t, within(t, ended, "the end of Recv"), stream.ReasonResume, codeOf(refusal), "end of the stream")
					return
				}
				goesOn(t, ended)
				require.Equal(t, []uint64{1, 1}, p.got())
				require.Equal(t, uint64(3), s.Stats().Attempts)
			})
		})
	}
}

// An interceptor sends something else in place of a message that cannot be encoded, and so not be kept. The server has
// something, and nobody can answer for it: that ends the stream.
func TestAMessageThatAnInterceptorRepairs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPuppet()
		bad := badMessages()["not to be encoded"]
		w := newWorld(t, &feed{handler: p.handle}, grpc.WithStreamInterceptor(sendingWith(func(m any, next func(any) error) error {
			if m == any(bad) {
				return next(frame{kind: data, seq: 1}.request())
			}
			return next(m)
		})))
		s := w.mustOpen(withReplay())
		ended := receiving(s)
		requireReason(t, s.Send(bad), stream.ReasonSendsInDoubt, "Send")
		requireReason(t, within(t, ended, "the end of Recv"), stream.ReasonSendsInDoubt, "Recv")
		requireReason(t, s.Send(frame{kind: data, seq: 2}.request()), stream.ReasonSendsInDoubt, "the next Send")
		require.Zero(t, s.Stats().Unacked, "nothing is kept")
	})
}
