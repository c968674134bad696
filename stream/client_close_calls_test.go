package stream_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/internal/testnet"
	"github.com/streamsafe/streamsafe/stream"
)

// Close from what others call, grpc too, and while a callback runs.

// OnFinish, a function given as a call option, runs wherever an attempt is ended: in the lifecycle goroutine, too.
func TestCloseFromOnFinish(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, lasts(time.Second, errGone), stays())
		var c closer
		s := w.mustDial(acking(), withReplay(), stream.WithCallOptions(grpc.OnFinish(func(error) { c.close() })))
		c.use(s)
		time.Sleep(2 * time.Second)
		require.NoError(t, s.Send(frame{kind: data, seq: 1}.request())) // finds the break; nobody receives
		rest(time.Hour)
		require.Equal(t, stream.Closed, s.State())
		c.check(t)
	})
}

// An interceptor may be in the lifecycle goroutine: a replay sends there.
func TestCloseFromAnInterceptorInTheReplay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var got []uint64
		var c closer
		sent := 0 // sends come one after the other
		w := newWorld(t, &feed{handler: reads(&got)}, grpc.WithStreamInterceptor(sendingWith(func(m any, next func(any) error) error {
			if sent++; sent == 2 {
				c.close()
			}
			return next(m)
		})))
		s := w.mustDial(acking(), withReplay())
		c.use(s)
		ended := receiving(s)
		mustSend(t, s, 1, 1)
		synctest.Wait()
		w.Cut(testnet.RST)
		wantEnd(t, within(t, ended, "the end of Recv"), stream.ReasonClosed, codes.Canceled, "closed from inside")
		c.check(t)
	})
}

// WithResumable and WithPositionLost are asked about an open that failed, too.
func TestCloseFromAPredicateWhileOpening(t *testing.T) {
	t.Parallel()
	failing := errors.New("the second attempt cannot be opened")
	options := map[string]func(c *closer) stream.ClientOption{
		"WithResumable": func(c *closer) stream.ClientOption {
			return stream.WithResumable(func(err error) bool {
				if errors.Is(err, failing) {
					c.close()
				}
				return true
			})
		},
		"WithPositionLost": func(c *closer) stream.ClientOption {
			return stream.WithPositionLost(func(err error) bool {
				if errors.Is(err, failing) {
					c.close()
				}
				return false
			})
		},
	}
	for name, opt := range options {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := scripted(t, lasts(time.Second, errGone, numbered(1)...), stays())
				cb := positions()
				cb.Resume = func(_ context.Context, r *resumption) error {
					if r.Attempt() > 1 {
						return failing
					}
					return nil
				}
				var c closer
				s := w.mustDial(cb, opt(&c))
				c.use(s)
				got, err := receiveAll(s)
				require.Equal(t, upTo(1), got)
				wantEnd(t, err, stream.ReasonClosed, codes.Canceled, "closed from inside")
				c.check(t)
			})
		})
	}
}

// What Close lets go was not handed over: the position that Lost tells then is not processed.
func TestCloseWhileLostRuns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var store checkpoint.Memory
		w := scripted(t, sends(status.Error(codes.OutOfRange, "compacted"), numbered(1, 2, 3)...), stays())
		cb := positions()
		asked, returns := make(chan struct{}), make(chan struct{})
		cb.Lost = func(context.Context, checkpoint.Position, error) (stream.Recovery, error) {
			close(asked)
			<-returns
			return stream.RestartFrom(checkpoint.Position{Seq: 100}), nil
		}
		s := w.mustDial(cb, stream.WithAtMostOnceSends(), stream.WithStore(&store, "k", stream.CommitInterval(time.Hour)))
		rest(time.Second)
		go func() { _ = s.Send(frame{kind: data}.request()) }() // finds the attempt dead; nobody has called Recv yet
		within(t, asked, "the question to the callback")
		require.Equal(t, 3, s.Stats().Waiting, "messages that wait for Recv")
		mustClose(t, s, "called by the test")
		close(returns)
		rest(time.Minute)
		require.Equal(t, stream.Closed, s.State())
		record, err := store.Load(t.Context(), "k")
		require.NoError(t, err)
		require.Zero(t, record.Position.Seq, "committed; nothing was handed over")
	})
}

// Observers are told of the end that the application is told of.
func TestCloseInARuleThatSaysYes(t *testing.T) {
	t.Parallel()
	for name, opt := range map[string]func(f func(error) bool) stream.ClientOption{
		"WithResumable":    func(f func(error) bool) stream.ClientOption { return stream.WithResumable(f) },
		"WithPositionLost": func(f func(error) bool) stream.ClientOption { return stream.WithPositionLost(f) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := scripted(t, lasts(time.Second, errGone))
				d := &diary{}
				var s *client
				s = w.mustDial(positions(), stream.WithObserver(d), opt(func(error) bool { _ = s.Close(); return true }))
				mustSend(t, s, 1, 1)
				err := within(t, receiving(s), "the end of Recv")
				wantEnd(t, err, stream.ReasonClosed, codes.Canceled, "Recv")
				rest(time.Minute)
				wantEnd(t, d.of("closed")[0].cause, stream.ReasonClosed, codes.Canceled, "OnClosed")
			})
		})
	}
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
			require.NoError(t, within(t, closed, "the return of Close"))
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
			mustClose(t, s, "called by the test")
			_, err := s.Recv()
			wantEnd(t, err, stream.ReasonClosed, codes.Canceled, "Recv, while Resume still runs")
			wantEnd(t, s.Send(frame{kind: data}.request()), stream.ReasonClosed, codes.Canceled, "Send")
			close(returns)
		})
	})
}

// A function that opens may close the stream, too.
func TestOpenCallsClose(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, lasts(time.Second, errGone), stays())
		var s *client
		n := 0
		open := func(ctx context.Context, opts ...grpc.CallOption) (grpc.BidiStreamingClient[request, response], error) {
			if n++; n > 1 {
				_ = s.Close()
			}
			return testpb.NewTestServiceClient(w.conn).FullDuplexCall(ctx, opts...)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var err error
		s, err = stream.Resilient(w.watch.context(ctx), open, positions())
		require.NoError(t, err)
		done := make(chan struct{})
		go func() { _, _ = s.Recv(); close(done) }()
		time.Sleep(time.Hour)
		select {
		case <-done:
		default:
			t.Error("Close in open hangs")
		}
	})
}
