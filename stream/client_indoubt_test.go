package stream_test

import (
	"context"
	"errors"
	"io"
	"slices"
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

// Invariant 34: what may have reached the wire counts as sent, whoever reports an error afterwards.

// endsOfContexts are what an interceptor may say of its context's end.
func endsOfContexts() map[string]error {
	return map[string]error{
		"CANCELLED":               status.Error(codes.Canceled, "context canceled"),
		"DEADLINE_EXCEEDED":       status.Error(codes.DeadlineExceeded, "context deadline exceeded"),
		"UNAVAILABLE":             status.Error(codes.Unavailable, "the stream is broken"),
		"bare, cancelled":         context.Canceled,
		"bare, past a deadline":   context.DeadlineExceeded,
		"another, of the attempt": errors.New("the audit log is full"),
	}
}

// dyingSend is an interceptor's SendMsg: for the message with that number it waits until the attempt is dead, before it passes
// the message on or after that, and returns err.
func dyingSend(seq uint64, passes bool, sent chan<- struct{}, err error) grpc.StreamClientInterceptor {
	dying := true // sends come one after the other
	return func(
		ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, streamer grpc.Streamer,
		opts ...grpc.CallOption,
	) (grpc.ClientStream, error) {
		s, openErr := streamer(ctx, desc, conn, method, opts...)
		if openErr != nil {
			return nil, openErr
		}
		return sendingStream{s, func(m any, next func(any) error) error {
			if !dying || frameOf(asRequest(m)).seq != seq {
				return next(m)
			}
			dying = false
			if passes {
				if err := next(m); err != nil {
					return err
				}
			}
			sent <- struct{}{}
			<-s.Context().Done()
			return err
		}}, nil
	}
}

// The attempt dies while an interceptor has message 3, which grpc had or had not.
func TestAnInterceptorWhoseAttemptDies(t *testing.T) {
	t.Parallel()
	options := map[string][]stream.ClientOption{
		"with replay": {withReplay()}, "at most once": {stream.WithAtMostOnceSends()}, "without": nil,
	}
	for how, opts := range options {
		for said, err := range endsOfContexts() {
			for when, passes := range map[string]bool{"after grpc had it": true, "before": false} {
				t.Run(how+", "+said+", "+when, func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) { dies(t, how, said, passes, err, opts) })
				})
			}
		}
	}
}

func dies(t *testing.T, how, said string, passes bool, err error, opts []stream.ClientOption) {
	t.Helper()
	var got []uint64
	sent := make(chan struct{}, 1)
	w := newWorld(t, &feed{handler: reads(&got)}, grpc.WithStreamInterceptor(dyingSend(3, passes, sent, err)))
	s := w.mustDial(acking(), opts...)
	ended := receiving(s)
	go func() { // ends when the interceptor has the message
		<-sent
		synctest.Wait()
		w.Cut(testnet.RST)
	}()
	var refusals []error
	for seq := uint64(1); seq <= 5; seq++ {
		sendErr := s.Send(frame{kind: data, seq: seq}.request())
		if sendErr != nil && how == "without" && seq > 3 {
			require.ErrorAs(t, sendErr, new(*stream.Error))
			break
		}
		if sendErr != nil {
			require.Equal(t, uint64(3), seq, "the only message that may be refused: %v", sendErr)
			refusals = append(refusals, sendErr)
		}
		synctest.Wait()
	}
	rest(time.Minute)
	times := map[uint64]int{}
	for _, seq := range got {
		times[seq]++
	}
	last := s.Stats().LastSeq
	switch how {
	case "with replay":
		numbers, frames := keptBy(s)
		if len(refusals) > 0 && !passes {
			requireReason(t, refusals[0], stream.ReasonMessage, "grpc never had it")
			require.Equal(t, uint64(4), last, "3 was taken back")
			require.Zero(t, times[3], "times that 3 arrived")
			break
		}
		require.Equal(t, uint64(5), last, "each message has one number")
		require.Equal(t, upTo(5), numbers)
		for i, fr := range frames {
			require.Equal(t, uint64(i)+1, fr.seq, "the number is the message's")
		}
		require.Equal(t, upTo(5), distinct(got), "the server has everything, in the order of numbers")
	case "at most once":
		for seq, n := range times {
			require.LessOrEqual(t, n, 1, "times that %d arrived", seq)
		}
		require.Equal(t, uint64(5), last, "it counts as sent: nobody knows")
		require.Equal(t, stream.Attached, s.State())
	default:
		requireReason(t, <-ended, stream.ReasonSendsInDoubt, "the stream")
		for seq, n := range times {
			require.LessOrEqual(t, n, 1, "times that %d arrived", seq)
		}
	}
	for _, refusal := range refusals {
		require.Equal(t, "send", opOf(refusal))
		require.NotErrorIs(t, refusal, io.EOF)
		require.Equal(t, "another, of the attempt", said, "an end of the context is the attempt's, not the message's: %v", refusal)
	}
}

// distinct returns what is in seqs, each once, where it came first.
func distinct(seqs []uint64) []uint64 {
	var all []uint64
	for _, seq := range seqs {
		if !slices.Contains(all, seq) {
			all = append(all, seq)
		}
	}
	return all
}

// An interceptor fails after grpc had the message, and the attempt lives: it may have been sent, and counts as sent.
func TestAnInterceptorThatFailsAfterGRPCHadTheMessage(t *testing.T) {
	t.Parallel()
	for said, err := range map[string]error{
		"INTERNAL": status.Error(codes.Internal, "the audit log is full"), "UNAVAILABLE": status.Error(codes.Unavailable, "the audit log is away"),
		"bare": errors.New("the audit log is full"), "a context's": context.Canceled, "EOF wrapped": errors.Join(io.ErrUnexpectedEOF, errors.New("log")),
	} {
		refuse := func(fr frame) error {
			if fr.seq == 3 {
				return err
			}
			return nil
		}
		t.Run("without replay, "+said, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var got []uint64
				w := newWorld(t, &feed{handler: reads(&got)}, tooLate(refuse))
				s := w.mustDial(acking(), stream.WithAtMostOnceSends())
				ended := receiving(s)
				mustSend(t, s, 1, 2)
				sendErr := s.Send(frame{kind: data, seq: 3}.request())
				requireReason(t, sendErr, stream.ReasonSendsInDoubt, "3")
				require.ErrorContains(t, sendErr, "may have been sent")
				require.ErrorIs(t, sendErr, err)
				require.Equal(t, uint64(3), s.Stats().Sent)
				require.Equal(t, uint64(3), s.Stats().LastSeq)
				mustSend(t, s, 4, 4)
				rest(time.Minute)
				require.Equal(t, upTo(4), got, "messages the server has: each once")
				require.Equal(t, uint64(1), s.Stats().Attempts, "the stream goes on, on the same attempt")
				goesOn(t, ended)
			})
		})
		t.Run("with replay, "+said, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := &feed{}
				first := true
				w := newWorld(t, f, tooLate(func(fr frame) error {
					if fr.kind == data && fr.seq == 3 && first {
						first = false
						return err
					}
					return nil
				}))
				s := w.mustOpen(withReplay())
				ended := receiving(s)
				mustSend(t, s, 1, 2)
				sendErr := s.Send(frame{kind: data, seq: 3}.request())
				requireReason(t, sendErr, stream.ReasonSendsInDoubt, "3")
				mustSend(t, s, 4, 4)
				rest(time.Minute)
				require.Equal(t, upTo(4), f.stored, "3 is kept, and sent again")
				require.Equal(t, uint64(4), s.Stats().Acked)
				require.Equal(t, uint64(4), s.Stats().LastSeq)
				goesOn(t, ended)
			})
		})
	}
}

// A message in doubt is the stream's doubt: a break after it ends the stream, unless an option says what to do.
func TestAMessageInDoubtCountsAtTheNextBreak(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var got []uint64
		w := newWorld(t, &feed{handler: reads(&got)}, tooLate(func(frame) error { return errors.New("the audit log is full") }))
		s := w.mustDial(acking())
		ended := receiving(s)
		requireReason(t, s.Send(frame{kind: data, seq: 1}.request()), stream.ReasonSendsInDoubt, "1")
		synctest.Wait()
		w.Cut(testnet.RST)
		err := <-ended
		requireReason(t, err, stream.ReasonSendsInDoubt, "the stream")
		require.Equal(t, upTo(1), got)
	})
}
