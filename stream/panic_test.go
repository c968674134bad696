package stream_test

import (
	"context"
	"runtime"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream"
)

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
		requireReason(t, <-ended, stream.ReasonResume, "the Recv that waited")
		require.NoError(t, s.Close())
	})
}
