package stream_test

import (
	"context"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream"
)

// What the loss of an attempt finds out, while somebody is in a call on it.

// The message in the application's hands when the attempt is lost counts: without a position, to start over would bring
// it twice.
func TestAMessageInHandCountsWhereTheAttemptIsLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		w := scripted(t, stays(numbered(1)...))
		s := w.mustDial(callbacks{Err: func(*response) error { g.enter(); return nil }}, stream.WithIdleTimeout(time.Second))
		t.Cleanup(g.open)
		recv := async(func() received { got, err := receiveAll(s); return received{got, err} })
		within(t, g.entered, "message 1 in Err")
		rest(time.Minute) // the time limit ends the attempt
		g.open()
		end := within(t, recv, "the end of the stream")
		requireReason(t, end.err, stream.ReasonNoCheckpoint, "message 1 was handed over, and there is no position")
		require.Equal(t, upTo(1), end.got)
	})
}

// Observers are told of each message that may come again, the one in hand included.
func TestAMessageInHandIsRewound(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		cb := positions()
		cb.Err = func(m *response) error {
			if frameOf(m).kind == fragment {
				g.enter()
			}
			return nil
		}
		var d diary
		w := scripted(t, stays(frame{kind: data, seq: 1}, frame{kind: fragment, seq: 11}), sends(nil, numbered(2)...))
		s := w.mustDial(cb, stream.WithIdleTimeout(time.Second), stream.WithObserver(&d))
		t.Cleanup(g.open)
		recv := async(func() error { return drain(s) })
		within(t, g.entered, "the message without a position in Err")
		rest(time.Minute) // the time limit ends the attempt
		g.open()
		require.Equal(t, io.EOF, within(t, recv, "the end of the stream"))
		synctest.Wait()
		require.Len(t, d.of("rewound"), 1, "the message without a position comes again, says the stream")
		require.Equal(t, uint64(1), d.of("rewound")[0].count)
	})
}

// A message that turns out not to be on the wire is not in doubt: it goes on the next attempt.
//
//  1. Send is in an interceptor, which has not passed the message on.
//  2. The server goes away, and Recv finds out.
//  3. The interceptor passes the message on, and grpc says that the attempt is dead.
func TestASendThatNeverReachedTheWireIsNotInDoubt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		goes := make(chan struct{})
		var got []uint64
		w := newWorld(t, &feed{handler: inOrder(when(goes, sends(errGone)), reads(&got))},
			grpc.WithStreamInterceptor(sendingWith(func(m any, next func(any) error) error { g.enter(); return next(m) })))
		s := w.mustDial(positions())
		t.Cleanup(g.open)
		recv := receiving(s)
		sent := async(func() error { return s.Send(frame{kind: data, seq: 1}.request()) })
		within(t, g.entered, "Send in the interceptor")
		close(goes)
		rest(time.Minute)
		g.open()
		require.NoError(t, within(t, sent, "Send"), "nothing was sent on the first attempt, and so nothing is in doubt")
		synctest.Wait()
		require.Equal(t, upTo(1), got, "messages the server has")
		require.Empty(t, recv, "the stream goes on")
	})
}

// Close may be called from the very call that the loss of an attempt waits for.
func TestCloseFromTheCallThatALossWaitsFor(t *testing.T) {
	t.Parallel()
	for where, place := range fencePlaces() {
		for what, loss := range fenceLosses() {
			if what != "a time limit" && what != "the other half" {
				continue
			}
			t.Run(where+", lost by "+what, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					f := newFence(true, true)
					closed := make(chan error, 1)
					f.gate.leave = func() { closed <- f.stream.Close() }
					place(f)
					lose := loss(f)
					f.start(t)
					lose(t)
					rest(time.Minute) // the stream waits for who stands in the gate
					f.gate.open()
					require.NoError(t, within(t, closed, "Close, from inside"))
					requireReason(t, within(t, f.recv, "Recv").err, stream.ReasonClosed, "Recv")
				})
			})
		}
	}
}

// Invariant 10: nothing more is received from an attempt that has brought what must not be taken in, though a Send has
// asked what became of it.
//
//  1. Recv has message 3 in hand, after message 1, and the Checkpoint callback is asked about it.
//  2. Send finds the attempt dead. The lifecycle goroutine waits until Recv is through, to receive the cause.
//  3. The callback returns: that is a gap. What has arrived behind it is not to be looked at.
func TestNothingIsReceivedBehindAGap(t *testing.T) {
	t.Parallel()
	for range 50 { // grpc draws whether a cancelled stream gives what has arrived
		synctest.Test(t, func(t *testing.T) {
			g := newGate()
			goes := make(chan struct{})
			cb := positions()
			at := cb.Checkpoint
			cb.Checkpoint = func(m *response) (checkpoint.Position, bool) {
				switch f := frameOf(m); {
				case f.seq == 3:
					g.enter()
				case f.kind == fragment:
					t.Error("a callback is asked about what came behind the gap")
				}
				return at(m)
			}
			stale := frame{kind: fragment, seq: 66}
			w := scripted(t, when(goes, sends(errGone, frame{kind: data, seq: 1}, frame{kind: data, seq: 3}, stale, stale, stale)),
				sends(nil, numbered(2, 3)...))
			s := w.mustDial(cb, stream.WithGapDetection(), stream.WithAtMostOnceSends())
			t.Cleanup(g.open)
			recv := async(func() received { got, err := receiveAll(s); return received{got, err} })
			close(goes)
			within(t, g.entered, "message 3 in Checkpoint")
			synctest.Wait() // the server has gone
			sent := async(func() error { return s.Send(frame{kind: data, seq: 1}.request()) })
			rest(time.Minute)
			g.open()
			end := within(t, recv, "the end of the stream")
			require.Equal(t, io.EOF, end.err)
			require.Equal(t, upTo(3), end.got)
			_ = within(t, sent, "Send") // on the next attempt, or that has ended
		})
	}
}

// brokenStream is an attempt on which every Recv fails, and is counted.
type brokenStream struct {
	grpc.ClientStream
	t     *testing.T
	recvs *atomic.Int64
}

func (s brokenStream) Send(*request) error { return nil }

func (s brokenStream) Recv() (*response, error) {
	giveUpAfter(s.t, s.recvs, "Recv")
	return nil, status.Error(codes.Unavailable, "broken")
}

func (s brokenStream) Trailer() metadata.MD { return nil }

func (s brokenStream) Context() context.Context { return context.Background() }

// A Recv that has failed is not repeated on the dead attempt while the stream finds out: it would keep the lock that the
// reconnect waits for.
func TestRecvAsksDeadAttemptOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const attempts = 200
		var opens, recvs atomic.Int64
		open := func(context.Context, ...grpc.CallOption) (brokenStream, error) {
			if opens.Add(1) > attempts {
				return brokenStream{}, status.Error(codes.PermissionDenied, "enough")
			}
			return brokenStream{t: t, recvs: &recvs}, nil
		}
		s, err := stream.Resilient(t.Context(), open, stream.Callbacks[request, response]{})
		require.NoError(t, err)
		_, err = s.Recv()
		require.Equal(t, codes.PermissionDenied, status.Code(err))
		require.Equal(t, int64(attempts), recvs.Load(), "one Recv for each attempt")
	})
}

// The attempt is lost while Recv hands over a message that has just arrived: the message is delivered, and the stream
// goes on from there.
//
//  1. RecvMsg has returned message 1, and the Checkpoint callback is being asked about it.
//  2. A Send fails for good, and ends the attempt. The lifecycle goroutine waits for what is on its way.
//  3. The callback returns, and Recv hands over message 1: the lifecycle goroutine has to wake up.
func TestLossWhileMessageIsHandedOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &feed{total: 3}
		w := newWorld(t, f)
		callbacks := f.callbacks()
		asked, answer := make(chan struct{}), make(chan struct{})
		first, position := true, callbacks.Checkpoint
		callbacks.Checkpoint = func(m *response) (checkpoint.Position, bool) {
			if first {
				first = false
				close(asked)
				<-answer
			}
			return position(m)
		}
		s := w.mustDial(callbacks, withReplay(), stream.WithCallOptions(grpc.MaxCallSendMsgSize(100)))
		got := make(chan []uint64, 1)
		go func() { all, _ := receiveAll(s); got <- all }() // ends with the stream; a line below waits for it
		within(t, asked, "the question to the callback")
		requireReason(t, s.Send(frame{kind: data, seq: 1, size: 200}.request()), stream.ReasonMessage, "too large")
		rest(time.Minute)
		require.Equal(t, uint64(1), s.Stats().Attempts, "the next attempt waits for the message (invariant 12)")
		close(answer)
		require.NoError(t, s.CloseSend())
		require.Equal(t, upTo(3), within(t, got, "the end of Recv"))
		require.Equal(t, uint64(2), s.Stats().Attempts)
		require.Zero(t, s.Stats().Duplicates, "the position was read after message 1 was handed over (invariant 12)")
	})
}

// Invariant 10: once an attempt has brought what must not be taken in, nothing more is taken from it, though it has
// arrived already.
func TestNothingIsTakenFromRefusedAttempt(t *testing.T) {
	t.Parallel()
	for name, after1 := range map[string]frame{
		"a gap":                        {kind: data, seq: 3},
		"an acknowledgement of no one": {kind: ack, seq: 99},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for range 50 { // grpc draws whether a cancelled stream gives what has arrived
				synctest.Test(t, func(t *testing.T) {
					f := &feed{total: 3}
					attempts := 0
					f.handler = func(s bidi) error {
						if attempts++; attempts > 1 {
							return f.serve(s)
						}
						if err := greet(s, 0); err != nil {
							return err
						}
						stale := frame{kind: fragment, seq: 66}
						for _, m := range []frame{{kind: data, seq: 1}, after1, stale, stale, stale} {
							if err := s.Send(m.response()); err != nil {
								return err
							}
						}
						<-s.Context().Done()
						return s.Context().Err()
					}
					s := newWorld(t, f).mustOpen(withReplay(), stream.WithGapDetection())
					require.NoError(t, s.CloseSend())
					synctest.Wait()
					got, _ := receiveAll(s)
					if after1.kind == ack {
						_, err := s.Recv()
						requireReason(t, err, stream.ReasonProtocol, "the end")
						require.Equal(t, upTo(1), got)
						return
					}
					_, err := s.Recv()
					require.ErrorIs(t, err, io.EOF)
					require.Equal(t, upTo(3), got)
				})
			}
		})
	}
}

// Send finds the attempt dead while Recv has a message in hand, and then nobody receives: the cause is found all the same.
func TestCauseIsFoundThoughRecvWasBusy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		end := make(chan struct{})
		w := scripted(t, func(s bidi) error {
			if err := s.Send(frame{kind: data, seq: 1}.response()); err != nil {
				return err
			}
			<-end
			return errGone
		}, func(s bidi) error {
			for {
				if _, err := s.Recv(); err != nil {
					return err
				}
			}
		})
		cb := positions()
		gate := make(chan struct{})
		inner := cb.Checkpoint
		cb.Checkpoint = func(m *response) (checkpoint.Position, bool) {
			if frameOf(m).seq == 1 {
				<-gate
			}
			return inner(m)
		}
		s := w.mustDial(cb, stream.WithAtMostOnceSends())
		sent := make(chan error, 1)
		go func() {
			_, err := s.Recv() // message 1
			if err == nil {
				err = <-sent // and now waits for the sender, without receiving
			}
			sent <- err
		}()
		synctest.Wait() // Recv is busy with message 1
		close(end)      // the server goes away
		synctest.Wait()
		go func() { sent <- s.Send(frame{kind: data, seq: 1}.request()) }()
		synctest.Wait() // Send met io.EOF; the lifecycle goroutine saw that Recv is busy
		close(gate)     // Recv returns message 1
		time.Sleep(time.Hour)
		st := s.Stats()
		require.Equal(t, uint64(2), st.Attempts, "state %v: nobody finds out that the attempt is dead", st.State)
	})
}
