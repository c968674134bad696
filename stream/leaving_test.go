package stream_test

import (
	"context"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/hedgepolicy"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream"
)

// wrapped makes an interceptor of what it does to each stream.
func wrapped(wrap func(context.Context, grpc.ClientStream) grpc.ClientStream) grpc.DialOption {
	return grpc.WithStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string,
		next grpc.Streamer, opts ...grpc.CallOption,
	) (grpc.ClientStream, error) {
		s, err := next(ctx, desc, conn, method, opts...)
		if err != nil {
			return nil, err
		}
		return wrap(ctx, s), nil
	})
}

// Nothing is handed over after Close, though a callback runs on, and whatever that says.
func TestCloseWhileACallbackRuns(t *testing.T) {
	t.Parallel()
	delivered := func(ctx context.Context, r *resumption) error { return delivers(3)(ctx, r) }
	t.Run("from WithResumable, which says no", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := scripted(t, lasts(time.Second, status.Error(codes.FailedPrecondition, "last word"), numbered(1, 2, 3)...))
			cb := positions()
			cb.Resume = delivered
			var s *client
			closed := make(chan error, 1)
			s = w.mustDial(cb, stream.WithResumable(func(error) bool {
				closed <- s.Close()
				return false
			}))
			mustReceive(t, s, 1)
			time.Sleep(2 * time.Second)
			go func() { _ = s.Send(frame{kind: data}.request()) }() // finds the attempt dead
			require.NoError(t, <-closed)
			_, err := s.Recv()
			wantEnd(t, err, stream.ReasonClosed, codes.Canceled, "after Close")
		})
	})
	t.Run("while Resume does not return", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := scripted(t, lasts(time.Second, errGone, numbered(1, 2, 3)...))
			returns := make(chan struct{})
			cb := positions()
			cb.Resume = func(ctx context.Context, r *resumption) error {
				if r.Attempt() > 1 {
					<-returns
					return ctx.Err()
				}
				return delivered(ctx, r)
			}
			s := w.mustDial(cb)
			mustReceive(t, s, 1)
			time.Sleep(2 * time.Second)
			go func() { _ = s.Send(frame{kind: data}.request()) }() // finds the attempt dead
			time.Sleep(time.Minute)
			require.Equal(t, stream.Opening, s.State())
			require.NoError(t, s.Close())
			_, err := s.Recv()
			wantEnd(t, err, stream.ReasonClosed, codes.Canceled, "Recv, while Resume still runs")
			wantEnd(t, s.Send(frame{kind: data}.request()), stream.ReasonClosed, codes.Canceled, "Send")
			close(returns)
		})
	})
}

type exitsInCloseSend struct{ grpc.ClientStream }

func (exitsInCloseSend) CloseSend() error { runtime.Goexit(); return nil }

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
		<-gone
		_, err := s.Recv()
		wantEnd(t, err, stream.ReasonResume, codes.Unknown, "as after a Send that does so")
	})
}

// exitingStore is a store with a t.FailNow in it.
type exitingStore struct{ checkpoint.Memory }

func (*exitingStore) Commit(context.Context, string, uint64, checkpoint.Position) error {
	runtime.Goexit()
	return nil
}

// A store that ends the goroutine does not keep the stream from its end.
func TestStoreThatDoesNotReturn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, lasts(time.Second, nil, numbered(1, 2, 3)...))
		s := w.mustDial(positions(), stream.WithStore(&exitingStore{}, "k", stream.CommitInterval(time.Hour)))
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

// The last commit belongs to the life that a permit is held for: the next owner of the key waits until it is written.
func TestThePermitIsHeldForTheLastCommit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := new(faultyStore)
		store.set(nil, time.Second)
		one := bulkhead.NewBuilder[any](1).WithMaxWaitTime(time.Hour).Build()
		w := newWorld(t, &feed{handler: stays(numbered(1, 2, 3)...)})
		a := w.mustDial(positions(), stream.WithStreamPolicies(one), stream.WithStore(store, "k", stream.CommitInterval(time.Hour)))
		mustReceive(t, a, 1, 2, 3)
		opened := make(chan *client, 1)
		go func() {
			opened <- w.mustDial(positions(), stream.WithStreamPolicies(one), stream.WithStore(store, "k"))
		}()
		synctest.Wait()
		require.NoError(t, a.Close(), "nobody else has the key")
		b := <-opened
		require.Equal(t, uint64(2), b.Stats().Delivered.Seq, "1 and 2 were processed")
		require.NoError(t, b.Close())
	})
}
