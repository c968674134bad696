package stream_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/internal/testnet"
	"github.com/streamsafe/streamsafe/stream"
	"github.com/streamsafe/streamsafe/stream/streamtest"
)

// origins receives n messages, and returns their numbers and the attempts that they came from.
func origins(t *testing.T, s *client, n int) [][2]uint64 {
	t.Helper()
	var got [][2]uint64
	for range n {
		m, err := s.Recv()
		require.NoError(t, err)
		got = append(got, [2]uint64{frameOf(m).seq, s.Attempt()})
	}
	return got
}

// Attempt is the attempt of the message that Recv has returned, and not of the one that has arrived since.
func TestAttemptIsThatOfTheMessage(t *testing.T) {
	t.Parallel()
	want := [][2]uint64{{1, 1}, {2, 1}, {3, 2}, {4, 3}, {5, 3}}
	handlers := []func(bidi) error{
		sends(errGone, numbered(1, 2)...), sends(errGone, numbered(3)...), stays(numbered(4, 5)...),
	}
	t.Run("as they come", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s := scripted(t, handlers...).mustDial(positions())
			require.Zero(t, s.Attempt(), "before the first message")
			require.Equal(t, want, origins(t, s, 5))
		})
	})
	t.Run("queued", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			cb := positions()
			cb.Acked = func(*response) (uint64, bool) { return 0, false }
			s := scripted(t, handlers...).mustDial(cb, withReplay())
			go func() { _ = s.Flush(t.Context()) }() // ends with the stream; it has the stream receive
			mustSend(t, s, 1, 1)
			rest(time.Minute)
			require.Equal(t, 5, s.Stats().Waiting, "messages that wait for Recv")
			require.Equal(t, uint64(3), s.Stats().Attempts)
			require.Equal(t, want, origins(t, s, 5))
		})
	})
	t.Run("held", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			part := func(seq uint64) frame { return frame{kind: fragment, seq: seq} }
			s := scripted(t,
				sends(errGone, append([]frame{part(1)}, append(numbered(2), part(3))...)...),
				stays(append([]frame{part(3)}, numbered(4)...)...),
			).mustDial(positions(), stream.HoldUntilCheckpoint(1<<20, stream.OverflowFail))
			require.Equal(t, [][2]uint64{{1, 1}, {2, 1}, {3, 2}, {4, 2}}, origins(t, s, 4))
		})
	})
	t.Run("delivered by Resume", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s := scripted(t, sends(errGone, numbered(1)...), sends(errGone, numbered(2)...), stays(numbered(3, 4)...)).
				mustDial(resumes(delivers(1)))
			require.Equal(t, [][2]uint64{{1, 1}, {2, 2}, {3, 3}, {4, 3}}, origins(t, s, 4))
		})
	})
}

// A message of one attempt goes to that one or to none. It costs no doubt: the stream, which could not answer for a lost Send,
// goes on.
func TestSendOnBelongsToOneAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var first, second []uint64
		greets := func(seq uint64, got *[]uint64) func(bidi) error {
			return func(s bidi) error {
				if err := s.Send(frame{kind: data, seq: seq}.response()); err != nil {
					return err
				}
				return reads(got)(s)
			}
		}
		w := scripted(t, greets(1, &first), greets(2, &second))
		s := w.mustDial(positions())
		mustReceive(t, s, 1)
		require.NoError(t, s.SendOn(s.Attempt(), frame{kind: ack, seq: 1}.request()))
		synctest.Wait()
		w.Cut(testnet.RST)
		mustReceive(t, s, 2)
		err := s.SendOn(1, frame{kind: ack, seq: 9}.request())
		wantEnd(t, err, stream.ReasonMessage, codes.Aborted, "SendOn of an attempt that is over")
		require.ErrorIs(t, err, stream.ErrAttemptOver)
		require.NoError(t, s.SendOn(2, frame{kind: ack, seq: 2}.request()))
		synctest.Wait()
		require.Equal(t, []uint64{1}, first, "what the first attempt brought")
		require.Equal(t, []uint64{2}, second, "what the second attempt brought")
		require.Zero(t, s.Stats().LastSeq, "numbers given")
		require.Zero(t, s.Stats().Sent, "messages that are the stream's")
	})
}

func TestSendOnRefusesWhatCannotBe(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, stays(numbered(1)...))
		s := w.mustDial(positions(), stream.WithAtMostOnceSends(), stream.WithCallOptions(grpc.MaxCallSendMsgSize(1000)))
		for attempt, text := range map[uint64]string{0: "attempt 0 is not attached", 2: "attempt 2 is not attached"} {
			err := s.SendOn(attempt, item(1))
			requireReason(t, err, stream.ReasonMessage, "SendOn")
			require.ErrorContains(t, err, text)
		}
		require.ErrorContains(t, s.SendOn(1, nil), "the message is nil")
		require.NoError(t, s.CloseSend())
		require.ErrorContains(t, s.SendOn(1, item(1)), "after CloseSend")
		require.NoError(t, s.Close())
		requireReason(t, s.SendOn(1, item(1)), stream.ReasonClosed, "SendOn after Close")
	})
}

// If the attempt dies while SendOn is on its way, or waits for its turn, that is the same as before.
func TestSendOnAttemptThatDies(t *testing.T) {
	t.Parallel()
	t.Run("on its way", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := scripted(t, stays(numbered(1)...), stays(numbered(2)...))
			s := w.mustDial(positions())
			mustReceive(t, s, 1)
			done := make(chan error, 1)
			go func() { // ends when the attempt is over
				for {
					if err := s.SendOn(1, frame{size: 60_000}.request()); err != nil {
						done <- err
						return
					}
				}
			}()
			rest(time.Second)
			w.Cut(testnet.RST)
			require.ErrorIs(t, within(t, done, "the return of SendOn"), stream.ErrAttemptOver)
			mustReceive(t, s, 2)
		})
	})
	t.Run("waiting", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			held := make(chan struct{})
			w := newWorld(t, &feed{handler: inOrder(stays(numbered(1)...), stays(numbered(2)...))},
				grpc.WithStreamInterceptor(sendingWith(func(m any, next func(any) error) error {
					if frameOf(asRequest(m)).seq == 7 {
						<-held
					}
					return next(m)
				})))
			s := w.mustDial(positions(), stream.WithAtMostOnceSends())
			go func() { _ = s.Send(item(7)) }() // ends when held is closed
			mustReceive(t, s, 1)
			done := make(chan error, 1)
			go func() { done <- s.SendOn(1, item(8)) }() // ends when the attempt is over
			rest(time.Second)
			require.Empty(t, done, "SendOn while another message is on its way")
			w.Cut(testnet.RST)
			require.ErrorIs(t, within(t, done, "the return of SendOn"), stream.ErrAttemptOver)
			close(held)
			mustReceive(t, s, 2)
		})
	})
}

// A replay does not hold SendOn up: the server may want its answer first.
func TestSendOnGoesBetweenReplayedMessages(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPuppet()
		var slow atomic.Bool
		w := newWorld(t, &feed{handler: p.handle}, grpc.WithStreamInterceptor(sendingWith(func(m any, next func(any) error) error {
			if slow.Load() {
				time.Sleep(time.Second)
			}
			return next(m)
		})))
		s := w.mustOpen(withReplay())
		receiving(s)
		mustSend(t, s, 1, 20)
		synctest.Wait()
		p.forget()
		w.Cut(testnet.RST)
		slow.Store(true)
		time.Sleep(5 * time.Second)
		require.NoError(t, s.SendOn(2, frame{kind: ack, seq: 99}.request()))
		require.Less(t, s.Stats().Replayed, uint64(20), "messages sent again by then")
		rest(time.Minute)
		require.Len(t, p.got(), 21, "what the second attempt brought")
		var replayed []uint64
		for _, seq := range p.got() {
			if seq != 99 {
				replayed = append(replayed, seq)
			}
		}
		require.Equal(t, upTo(20), replayed, "what was sent again, in order")
		require.NotEqual(t, uint64(99), p.got()[20], "SendOn went between them")
	})
}

// nonces is a server that wants the answer to each of its messages on the attempt that it sent it on, before it sends the next.
type nonces struct {
	mu     sync.Mutex
	done   uint64 // answered
	faults []string
}

func (n *nonces) handle(total uint64) func(bidi) error {
	return func(s bidi) error {
		for {
			n.mu.Lock()
			next := n.done + 1
			n.mu.Unlock()
			if next > total {
				return nil
			}
			if err := s.Send(frame{kind: data, seq: next}.response()); err != nil {
				return err
			}
			m, err := s.Recv()
			if err != nil {
				return err
			}
			n.mu.Lock()
			if got := frameOf(m); got.kind != ack || got.seq != next {
				n.faults = append(n.faults, fmt.Sprintf("an answer to %d, where %d was sent", got.seq, next))
			}
			n.done = next
			n.mu.Unlock()
		}
	}
}

// An answer never reaches another attempt than the one that asked, wherever it breaks.
func TestMatrixOfCutsWithSendOn(t *testing.T) {
	t.Parallel()
	const total = 12
	var n *nonces
	streamtest.CutEverywhere(t, streamtest.Scenario{
		Serve: func(s *grpc.Server) {
			n = &nonces{}
			testpb.RegisterTestServiceServer(s, &feed{handler: n.handle(total)})
		},
		Run: func(ctx context.Context, cc grpc.ClientConnInterface) error {
			s, err := stream.Resilient(ctx, testpb.NewTestServiceClient(cc).FullDuplexCall, callbacks{}, stream.WithRestart())
			if err != nil {
				return err
			}
			for {
				m, err := s.Recv()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					return err
				}
				err = s.SendOn(s.Attempt(), frame{kind: ack, seq: frameOf(m).seq}.request())
				if err != nil && !errors.Is(err, stream.ErrAttemptOver) {
					return err
				}
			}
			n.mu.Lock()
			defer n.mu.Unlock()
			if len(n.faults) > 0 || n.done != total {
				return fmt.Errorf("%d messages were answered; %v", n.done, n.faults)
			}
			return s.Close()
		},
	}, streamtest.WithKinds(streamtest.RST))
}

// What an interceptor says of a message of one attempt is the caller's to know, and breaks nothing.
func TestSendOnThatAnInterceptorRefuses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &feed{handler: stays(numbered(1, 2)...)}, grpc.WithStreamInterceptor(sendingWith(func(m any, next func(any) error) error {
			return status.Error(codes.PermissionDenied, "not you")
		})))
		s := w.mustDial(positions())
		mustReceive(t, s, 1)
		wantEnd(t, s.SendOn(1, item(1)), stream.ReasonMessage, codes.PermissionDenied, "SendOn")
		mustReceive(t, s, 2)
		require.Equal(t, uint64(1), s.Attempt())
	})
}
