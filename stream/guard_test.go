package stream_test

import (
	"context"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/hedgepolicy"
	"github.com/failsafe-go/failsafe-go/timeout"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/internal/testnet"
	"github.com/streamsafe/streamsafe/stream"
)

// What the application gave may panic, or end the goroutine: a callback, an interceptor, a codec, a listener of a policy, an
// observer, a store. Nobody waits for ever.

// A policy at open scope waits for a result, and has one: the stream ends.
func TestAResumeThatEndsTheGoroutineUnderOpenPolicies(t *testing.T) {
	t.Parallel()
	options := map[string]func() stream.ClientOption{
		"a hedge":   func() stream.ClientOption { return stream.WithOpenPolicies(hedgepolicy.NewWithDelay[any](time.Second)) },
		"a timeout": func() stream.ClientOption { return stream.WithOpenPolicies(timeout.New[any](time.Minute)) },
		"an executor with a hedge": func() stream.ClientOption {
			return stream.WithOpenExecutor(failsafe.With(hedgepolicy.NewWithDelay[any](time.Second)))
		},
	}
	for name, option := range options {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := scripted(t, stays())
				_, err := w.dial(t.Context(), resumes(exits), option())
				requireReason(t, err, stream.ReasonResume, "end of the stream")
				synctest.Wait()
				require.Zero(t, active(w), "the attempt is closed (invariant 23)")
			})
		})
	}
}

// The permit of a bulkhead is held for the life of the stream, and no longer.
func TestAResumeThatEndsTheGoroutineUnderABulkhead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		limit := bulkhead.New[any](1)
		_, err := scripted(t, stays()).dial(t.Context(), resumes(exits), stream.WithStreamPolicies(limit))
		requireReason(t, err, stream.ReasonResume, "end of the stream")
		require.True(t, limit.TryAcquirePermit(), "the permit is back")
	})
}

// exitingObserver ends its goroutine at the first event.
type exitingObserver struct{ attached, closed atomic.Int32 }

func (*exitingObserver) OnOpened(stream.Info) { runtime.Goexit() }

func (o *exitingObserver) OnAttached(stream.Info, checkpoint.Position) { o.attached.Add(1) }

func (o *exitingObserver) OnClosed(stream.Info, error) { o.closed.Add(1) }

// An observer that ends its goroutine is told of what comes after that all the same: of what waits already, and of what
// happens later.
func TestAnObserverThatEndsTheGoroutine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var o exitingObserver
		s := scripted(t, stays()).mustDial(positions(), stream.WithObserver(&o))
		synctest.Wait()
		require.Equal(t, int32(1), o.attached.Load(), "told of the next event")
		mustClose(t, s, "called by the test")
		synctest.Wait()
		require.Equal(t, int32(1), o.closed.Load(), "and of a later one, once")
	})
}

// A store that ends the goroutine once has failed once.
func TestACommitThatEndsTheGoroutineIsTriedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &oddStore{commit: exiting, once: true}
		w := scripted(t, stays(numbered(upTo(1000)...)...))
		d := &diary{}
		s := w.mustDial(positions(), stream.WithObserver(d), stream.WithStore(store, "k", stream.CommitEvery(1), stream.CommitInterval(time.Second)))
		for seq := uint64(1); seq <= 1000; seq++ {
			mustReceive(t, s, seq)
			rest(time.Second)
		}
		t.Log(s.State(), d.of("commit failed"))
		r, err := store.Load(t.Context(), "k")
		require.NoError(t, err)
		require.Positive(t, r.Position.Seq, "committed in 1000 s, of 1000 messages")
	})
}

// A callback that ends its goroutine, as t.FailNow does, ends the stream: nobody waits for ever.
func TestCallbackThatEndsTheGoroutine(t *testing.T) {
	t.Parallel()
	for attempt := range uint64(2) {
		t.Run([]string{"on the first attempt", "on the second"}[attempt], func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := scripted(t, stays(numbered(1)...))
				cb := positions()
				cb.Resume = func(_ context.Context, r *resumption) error {
					if r.Attempt() == attempt+1 {
						runtime.Goexit()
					}
					return nil
				}
				s, err := w.dial(t.Context(), cb)
				if attempt == 1 {
					require.NoError(t, err)
					mustReceive(t, s, 1)
					w.Cut(testnet.RST)
					_, err = s.Recv()
					mustClose(t, s, "called by the test")
				}
				requireReason(t, err, stream.ReasonResume, "end of the stream")
			})
		})
	}
}

// breakOff are the two ways in which a function does not return.
func breakOff() map[string]func() {
	return map[string]func(){
		"panic":  func() { fail(nil) },
		"Goexit": runtime.Goexit,
	}
}

// fail panics where m is nil.
func fail(m map[string]int) { m["one"] = 1 }

// recovering calls f in a goroutine that recovers from its panic, as net/http does, and waits until it is over. It sees
// that f did not return.
func recovering(t *testing.T, f func()) {
	t.Helper()
	over, returned := make(chan struct{}), false
	go func() {
		defer close(over)
		defer func() { _ = recover() }()
		f()
		returned = true
	}()
	<-over
	require.False(t, returned, "the place was reached")
}

// wantResumeEnds sees that a stream whose callback broke off has ended, and says so to both halves. Nobody waits for ever.
func wantResumeEnds(t *testing.T, s *client) {
	t.Helper()
	_, err := s.Recv()
	requireReason(t, err, stream.ReasonResume, "the next Recv")
	requireReason(t, s.Send(frame{kind: data, seq: 1}.request()), stream.ReasonResume, "the next Send")
	require.Equal(t, stream.Closed, s.State())
	synctest.Wait()
}

// What Recv calls breaks off, and the application recovers: that ends the stream.
func TestRecvThatDoesNotReturn(t *testing.T) {
	t.Parallel()
	places := map[string]func(cb *callbacks, boom func()){
		"Err": func(cb *callbacks, boom func()) { cb.Err = func(*response) error { boom(); return nil } },
		"Acked": func(cb *callbacks, boom func()) {
			cb.Acked = func(*response) (uint64, bool) { boom(); return 0, false }
		},
		"Checkpoint": func(cb *callbacks, boom func()) {
			cb.Checkpoint = func(*response) (checkpoint.Position, bool) { boom(); return checkpoint.Position{}, false }
		},
		"Control": func(cb *callbacks, boom func()) { cb.Control = func(*response) bool { boom(); return false } },
	}
	for name, place := range places {
		for how, boom := range breakOff() {
			t.Run(name+", "+how, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := scripted(t, stays(numbered(1, 2)...))
					cb := acking()
					place(&cb, boom)
					s := w.mustDial(cb, withReplay())
					recovering(t, func() { _, _ = s.Recv() })
					wantResumeEnds(t, s)
					require.Zero(t, active(w), "handlers that live")
				})
			})
		}
	}
}

// What Send calls breaks off: the same. The message was not accepted.
func TestSendThatDoesNotReturn(t *testing.T) {
	t.Parallel()
	for name, opt := range map[string]stream.ClientOption{"with replay": withReplay(), "by default": stream.WithName("default")} {
		for how, boom := range breakOff() {
			t.Run(name+", "+how, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, &feed{handler: stays()},
						grpc.WithStreamInterceptor(sendingWith(func(any, func(any) error) error { boom(); return nil })))
					s := w.mustDial(acking(), opt)
					recovering(t, func() { _ = s.Send(frame{kind: data, seq: 1}.request()) })
					synctest.Wait()
					require.Zero(t, s.Stats().Sent)
					wantResumeEnds(t, s)
					require.Zero(t, active(w), "handlers that live")
				})
			})
		}
	}
}

// A Recv that waits meanwhile is told, though it is the Send that broke off.
func TestSendThatDoesNotReturnWhileRecvWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &feed{handler: stays()},
			grpc.WithStreamInterceptor(sendingWith(func(any, func(any) error) error { runtime.Goexit(); return nil })))
		s, err := w.dial(context.WithoutCancel(t.Context()), acking(), withReplay())
		require.NoError(t, err)
		ended := receiving(s)
		synctest.Wait()
		recovering(t, func() { _ = s.Send(frame{kind: data, seq: 1}.request()) })
		requireReason(t, within(t, ended, "the end of Recv"), stream.ReasonResume, "the Recv that waited")
		mustClose(t, s, "called by the test")
	})
}

// A listener of a policy held for life ends the goroutine.
func TestAListenerThatDoesNotReturn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		limit := bulkhead.NewBuilder[any](1).OnFull(func(failsafe.ExecutionEvent[any]) { runtime.Goexit() }).Build()
		require.True(t, limit.TryAcquirePermit())
		s, err := scripted(t, stays()).dial(t.Context(), positions(), stream.WithStreamPolicies(limit))
		require.True(t, s != nil || err != nil, "Resilient returned nil, nil")
		require.Error(t, err)
	})
}

// An interceptor that ends the goroutine in CloseSend ends the stream, and not the process.
func TestCloseSendThatDoesNotReturn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &feed{handler: stays()},
			wrapped(func(_ context.Context, s grpc.ClientStream) grpc.ClientStream { return exitsInCloseSend{s} }))
		s := w.mustDial(positions(), stream.WithAtMostOnceSends())
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			_ = s.CloseSend()
		}()
		within(t, gone, "the end of the goroutine")
		_, err := s.Recv()
		wantEnd(t, err, stream.ReasonResume, codes.Unknown, "as after a Send that does so")
	})
}

// A store that ends the goroutine does not keep the stream from its end.
func TestStoreThatDoesNotReturn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, lasts(time.Second, nil, numbered(1, 2, 3)...))
		s := w.mustDial(positions(), stream.WithStore(&oddStore{commit: exiting}, "k", stream.CommitInterval(time.Hour)))
		got, err := receiveAll(s)
		require.Equal(t, upTo(3), got)
		require.Error(t, err)
		require.Equal(t, stream.Closed, s.State())
	})
}

// A hedge waits for a result of each open, whatever a rule does that is asked about it.
func TestARuleThatDoesNotReturnUnderAHedge(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cb := positions()
		cb.Resume = func(context.Context, *resumption) error { return status.Error(codes.Aborted, "not now") }
		_, err := scripted(t, stays()).dial(t.Context(), cb, stream.WithOpenPolicies(hedgepolicy.NewWithDelay[any](time.Second)),
			stream.WithResumable(func(error) bool { runtime.Goexit(); return false }))
		requireReason(t, err, stream.ReasonResume, "end of the stream")
	})
}
