package stream_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
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

// Receipts are truthful: each is settled once, when its message is acknowledged, or when it is certain that it never will be
// (invariants 31 and 32).

// mustTrack sends messages numbered from first to last, and returns their receipts.
func mustTrack(t *testing.T, s *client, first, last uint64) []*stream.Receipt {
	t.Helper()
	receipts := make([]*stream.Receipt, 0, last-first+1)
	for seq := first; seq <= last; seq++ {
		r, err := s.SendTracked(sized(seq).request())
		require.NoError(t, err, "message %d", seq)
		require.Equal(t, seq, r.Seq())
		receipts = append(receipts, r)
	}
	return receipts
}

// isDone reports whether a receipt is settled.
func isDone(r *stream.Receipt) bool {
	select {
	case <-r.Done():
		return true
	default:
		return false
	}
}

// wantAcked sees that the first n receipts say acknowledged, and that the others are pending.
func wantAcked(t *testing.T, receipts []*stream.Receipt, n int, when string) {
	t.Helper()
	for i, r := range receipts {
		require.Equal(t, i < n, isDone(r), "whether receipt %d is settled %s", i+1, when)
		if i < n {
			require.NoError(t, r.Wait(t.Context()), "receipt %d %s", i+1, when)
		}
	}
}

// A receipt is settled by the acknowledgement of its message, and by none before: also if nobody receives (invariant 35).
func TestReceiptsOfAcknowledgedMessages(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, receives bool) {
		t.Helper()
		p := newPuppet()
		s := newWorld(t, &feed{handler: p.handle}).mustOpen(withReplay())
		if receives {
			receiving(s)
		}
		receipts := mustTrack(t, s, 1, 4)
		mustSendSized(t, s, 5, 5) // without one
		receipts = append(receipts, mustTrack(t, s, 6, 6)...)
		rest(time.Hour)
		wantAcked(t, receipts, 0, "an hour later")
		for acked, settled := range []int{0, 1, 2, 3, 4, 4, 5} {
			p.tell(frame{kind: ack, seq: uint64(acked)}) //nolint:gosec // small
			rest(2 * time.Second)
			wantAcked(t, receipts, settled, fmt.Sprintf("after %d was acknowledged", acked))
		}
	})
}

// Every end of the stream settles all receipts, with its reason.
func TestReceiptsEndWithTheStream(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		last   error // of the handler
		ends   func(w *world, p *puppet, s *client, cancel func())
		reason stream.Reason
		code   codes.Code
	}{
		"OK": {
			nil, func(_ *world, p *puppet, _ *client, _ func()) { says(p, nil, nil) }, stream.ReasonUnacked, codes.DataLoss,
		},
		"PERMISSION_DENIED": {
			status.Error(codes.PermissionDenied, "no"),
			func(_ *world, p *puppet, _ *client, _ func()) { says(p, nil, nil) }, stream.ReasonServer, codes.PermissionDenied,
		},
		"Close": {
			nil, func(_ *world, _ *puppet, s *client, _ func()) { _ = s.Close() }, stream.ReasonClosed, codes.Canceled,
		},
		"the stream's context": {
			nil, func(_ *world, _ *puppet, _ *client, cancel func()) { cancel() }, stream.ReasonContext, codes.Canceled,
		},
		"a protocol": {
			nil, func(_ *world, p *puppet, _ *client, _ func()) { p.tell(frame{kind: ack, seq: 6}) }, stream.ReasonProtocol, codes.Internal,
		},
		"max outage": {
			nil, func(w *world, _ *puppet, _ *client, _ func()) {
				w.Refuse(true)
				w.Cut(testnet.RST)
				rest(time.Hour)
			}, stream.ReasonMaxOutage, codes.Unavailable,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			both(t, func(t *testing.T, receives bool) {
				t.Helper()
				p := newPuppet()
				w := newWorld(t, &feed{handler: p.endsWith(test.last)})
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				s, err := w.open(ctx, withReplay(), stream.WithMaxOutage(10*time.Minute))
				require.NoError(t, err)
				defer func() { _ = s.Close() }()
				if receives {
					receiving(s)
				}
				rest(time.Minute) // stable
				receipts := mustTrack(t, s, 1, 5)
				p.tell(frame{kind: ack, seq: 2})
				rest(time.Minute)
				test.ends(w, p, s, cancel)
				rest(2 * time.Second)
				for i, r := range receipts {
					require.True(t, isDone(r), "receipt %d", i+1)
					err := r.Wait(t.Context())
					if i < 2 {
						require.NoError(t, err)
						continue
					}
					wantEnd(t, err, test.reason, test.code, "a receipt")
					require.Equal(t, "receipt", opOf(err))
					require.ErrorContains(t, err, fmt.Sprintf("message %d is not acknowledged", i+1))
					require.NotErrorIs(t, err, io.EOF)
				}
				require.NoError(t, ctxFree(s.Close()))
				wantEnd(t, receipts[4].Wait(t.Context()), test.reason, test.code, "a receipt after Close")
				_, err = s.SendTracked(sized(6).request())
				require.Error(t, err, "SendTracked after the end")
			})
		})
	}
}

// ctxFree is what Close returns: it has nothing to say here.
func ctxFree(err error) error { return err }

// A receipt outlives attempts: the message is sent again, and acknowledged once. Cut at every message of an exchange, both ways.
func TestReceiptsAcrossEveryCut(t *testing.T) {
	t.Parallel()
	messages := map[testnet.Direction]int{testnet.ToServer: 1 + matrixed, testnet.ToClient: 1 + matrixed}
	everywhere(t, "receipts", messages, func(t *testing.T, fault testnet.Fault) {
		t.Helper()
		f := &feed{}
		w := newWorld(t, f)
		w.Arm(fault)
		s := w.mustOpen(withReplay())
		receipts := mustTrack(t, s, 1, matrixed)
		for _, r := range receipts { // nobody receives
			require.NoError(t, r.Wait(t.Context()), "%v", fault)
			require.GreaterOrEqual(t, f.last(), r.Seq(), "what the server has when it is acknowledged, after %v", fault)
		}
		require.Equal(t, upTo(matrixed), f.stored, "after %v", fault)
		require.Len(t, w.Cuts(), 1, "the fault happened: %v", fault)
	})
}

// What a replay drops is not acknowledged any more, and the receipt says so: Callbacks.Replay, or an interceptor that rejects the
// message once more.
func TestReceiptsOfDroppedMessages(t *testing.T) {
	t.Parallel()
	t.Run("Replay", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			p := newPuppet()
			f := &feed{handler: p.handle}
			cb := f.callbacks()
			cb.Replay = func(m *request, _ uint64) *request {
				if frameOf(m).seq == 2 {
					return nil
				}
				return m
			}
			w := newWorld(t, f)
			s := w.mustDial(cb, withReplay())
			receiving(s)
			receipts := mustTrack(t, s, 1, 3)
			w.Cut(testnet.RST)
			rest(time.Minute)
			require.True(t, isDone(receipts[1]), "2 was dropped")
			err := receipts[1].Wait(t.Context())
			requireReason(t, err, stream.ReasonSendsInDoubt, "2")
			require.ErrorContains(t, err, "Callbacks.Replay")
			wantAcked(t, receipts[:1], 0, "after the replay")
			wantAcked(t, receipts[2:], 0, "after the replay")
			p.tell(frame{kind: ack, seq: 3})
			require.NoError(t, receipts[0].Wait(t.Context()))
			require.NoError(t, receipts[2].Wait(t.Context()))
			requireReason(t, receipts[1].Wait(t.Context()), stream.ReasonSendsInDoubt, "2, once more")
		})
	})
	t.Run("an interceptor", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			p := newPuppet()
			s := newWorld(t, &feed{handler: p.handle}, tooLate(func(f frame) error {
				if f.seq == 2 {
					return errors.New("the audit log does not take this one")
				}
				return nil
			})).mustOpen(withReplay())
			receiving(s)
			mustTrack(t, s, 1, 1)
			r, err := s.SendTracked(sized(2).request())
			requireReason(t, err, stream.ReasonSendsInDoubt, "it counts as sent")
			require.NotNil(t, r, "so there is a receipt")
			requireReason(t, r.Wait(t.Context()), stream.ReasonSendsInDoubt, "the replay has dropped it")
			require.Equal(t, uint64(1), s.Stats().Rejected)
		})
	})
}

// A message that was not sent has no receipt, and the next one has its number.
func TestNoReceiptOfWhatWasNotSent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPuppet()
		s := newWorld(t, &feed{handler: p.handle}).mustOpen(stream.WithReplay(stream.ReplayLimits{Messages: 2, FailWhenFull: true}),
			stream.WithCallOptions(grpc.MaxCallSendMsgSize(1000)))
		receiving(s)
		r, err := s.SendTracked(nil)
		requireReason(t, err, stream.ReasonMessage, "nil")
		require.Nil(t, r)
		r, err = s.SendTracked(frame{kind: data, seq: 1, size: 2000}.request())
		requireReason(t, err, stream.ReasonMessage, "too large")
		require.Nil(t, r)
		receipts := mustTrack(t, s, 1, 2)
		r, err = s.SendTracked(frame{kind: data, seq: 3}.request())
		requireReason(t, err, stream.ReasonWindowFull, "there is no room")
		require.Nil(t, r)
		p.tell(frame{kind: ack, seq: 2})
		wantAcked(t, receipts, 2, "after both were acknowledged")
		require.NoError(t, s.CloseSend())
		r, err = s.SendTracked(frame{kind: data, seq: 3}.request())
		requireReason(t, err, stream.ReasonMessage, "after CloseSend")
		require.Nil(t, r)
	})
}

// A message that an attempt did not take, and that the next one takes, has one receipt.
func TestAReceiptOfAMessageThatWaitsForAnAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		lost := true
		f := &feed{}
		s := newWorld(t, f, grpc.WithStreamInterceptor(sendingWith(func(m any, next func(any) error) error {
			if fr := frameOf(asRequest(m)); fr.kind == data && lost { // and grpc never has it
				lost = false
				return status.Error(codes.Unavailable, "not now")
			}
			return next(m)
		}))).mustOpen(withReplay())
		receiving(s)
		r, err := s.SendTracked(frame{kind: data, seq: 1}.request())
		if err != nil { // the attempt was alive: it is the application's to send it again
			require.Nil(t, r)
			r, err = s.SendTracked(frame{kind: data, seq: 1}.request())
		}
		require.NoError(t, err)
		require.NoError(t, r.Wait(t.Context()))
		require.Equal(t, upTo(1), f.stored)
	})
}

// Receipts need WithReplay, and the errors name what decides.
func TestSendTrackedNeedsReplay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, err := newWorld(t, &feed{}).mustOpen(stream.WithAtMostOnceSends()).SendTracked(sized(1).request())
		wantEnd(t, err, stream.ReasonOptions, codes.InvalidArgument, "without replay")
		require.ErrorContains(t, err, "WithReplay")
		cb := acking()
		cb.Key = func(*request) (string, bool) { return "key", false }
		_, err = scripted(t, stays()).mustDial(cb).SendTracked(sized(1).request())
		wantEnd(t, err, stream.ReasonOptions, codes.InvalidArgument, "with keys")
		require.ErrorContains(t, err, "Callbacks.Key")
		_, err = newShop(t, &warehouse{}).watching(downloads()).SendTracked(sized(1).request())
		wantEnd(t, err, stream.ReasonOptions, codes.InvalidArgument, "a server-streaming method")
	})
}

// The answer of a client-streaming method acknowledges everything.
func TestReceiptsOfAnUpload(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newShop(t, &warehouse{})
		s := w.uploading(uploads{}, withReplay())
		var receipts []*stream.Receipt
		for seq := uint64(1); seq <= 5; seq++ {
			r, err := s.SendTracked(piece(seq))
			require.NoError(t, err)
			receipts = append(receipts, r)
		}
		w.Cut(testnet.RST)
		rest(time.Minute)
		wantAcked(t, receipts, 0, "before the answer")
		_, err := s.CloseAndRecv()
		require.NoError(t, err)
		wantAcked(t, receipts, 5, "after the answer")
	})
}

// The context of Wait ends Wait, and nothing else. What is settled is told, whatever the context says.
func TestWaitOfAReceiptEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPuppet()
		s := newWorld(t, &feed{handler: p.handle}).mustOpen(withReplay())
		receiving(s)
		r := mustTrack(t, s, 1, 1)[0]
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		err := r.Wait(ctx)
		wantEnd(t, err, stream.ReasonContext, codes.DeadlineExceeded, "a deadline")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "message 1 is not acknowledged")
		require.Equal(t, time.Minute, time.Since(began))
		require.Equal(t, uint64(1), attemptsOf(err))
		p.tell(frame{kind: ack, seq: 1})
		require.NoError(t, r.Wait(ctx), "it is acknowledged")
	})
}

// A callback closes the stream while it is asked about the acknowledgement: 1. The message arrives. 2. Acked calls Close, which settles
// the receipts. 3. Acked says that all is acknowledged. What was said stays.
func TestReceiptsOfAStreamThatIsClosedInAcked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPuppet()
		f := &feed{handler: p.handle}
		cb := f.callbacks()
		var s *client
		acked := cb.Acked
		cb.Acked = func(m *response) (uint64, bool) {
			seq, ok := acked(m)
			if ok && s != nil {
				_ = s.Close()
			}
			return seq, ok
		}
		s = newWorld(t, f).mustDial(cb, withReplay())
		receipts := mustTrack(t, s, 1, 2)
		ended := receiving(s)
		p.tell(frame{kind: ack, seq: 2})
		requireReason(t, within(t, ended, "the end"), stream.ReasonClosed, "Recv")
		for _, r := range receipts {
			first := r.Wait(t.Context())
			rest(time.Minute)
			require.Equal(t, fmt.Sprint(first), fmt.Sprint(r.Wait(t.Context())), "what a receipt says later")
		}
	})
}

// Receipts have no goroutine, however many wait.
func TestReceiptsHaveNoGoroutine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPuppet()
		s := newWorld(t, &feed{handler: p.handle}).mustOpen(withReplay())
		receiving(s)
		mustSendSized(t, s, 1, 1)
		rest(time.Minute)
		stacks := make([]byte, 1<<20)
		before := runtime.Stack(stacks, false)
		_ = before
		receipts := mustTrack(t, s, 2, 1000)
		rest(time.Minute)
		wantAcked(t, receipts, 0, "a minute later")
		p.tell(frame{kind: ack, seq: 1000})
		wantAcked(t, receipts, 999, "at the end")
	})
}
