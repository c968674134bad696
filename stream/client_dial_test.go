package stream_test

import (
	"context"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/internal/testnet"
	"github.com/streamsafe/streamsafe/stream"
)

// dialled starts a world whose connection has DialOptions. It belongs in a bubble.
func dialled(t *testing.T, f *feed, opts ...grpc.DialOption) *world {
	t.Helper()
	return newWorld(t, f, stream.DialOptions(insecure.NewCredentials(), opts...)...)
}

// one is a handler that sends the message after the position in the hello, and then is silent.
func one(s bidi) error {
	m, err := s.Recv()
	if err != nil {
		return err
	}
	return stays(numbered(frameOf(m).seq + 1)...)(s)
}

// greeting are the callbacks for one.
func greeting() callbacks {
	cb := positions()
	cb.Resume = greets
	return cb
}

// Invariant 36: a stream is back within about a second after its server, however long that was down. A dead address is not asked
// more often than that, and the outage costs the stream one attempt.
func TestAStreamIsBackSoonAfterItsServer(t *testing.T) {
	t.Parallel()
	for down := 10 * time.Millisecond; down < time.Minute; down += down/5 + 37*time.Millisecond {
		t.Run(down.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := dialled(t, &feed{handler: one})
				var d diary
				s := w.mustDial(greeting(), stream.WithObserver(&d), stream.WithOpenTimeout(time.Second))
				mustReceive(t, s, 1)
				w.Refuse(true)
				w.Cut(testnet.RST)
				time.AfterFunc(down, func() { w.Refuse(false) })
				began := time.Now()
				mustReceive(t, s, 2)
				require.LessOrEqual(t, time.Since(began)-down, 1100*time.Millisecond, "from the server's return to the next message")
				dials := w.Stats().Refused
				require.LessOrEqual(t, dials, 7+int(down/(600*time.Millisecond)), "dials at the dead address")
				if down < 100*time.Millisecond {
					return
				}
				require.Equal(t, uint64(2), s.Stats().Attempts, "an attempt waits: it is not given up and tried again")
				synctest.Wait()
				waiting := d.of("waiting")
				require.Len(t, waiting, 1, "the observers are told once, not for each dial")
				require.Equal(t, uint64(2), waiting[0].info.Attempt)
				require.ErrorContains(t, waiting[0].cause, "no connection to passthrough:///memory: connection error")
				require.ErrorContains(t, waiting[0].cause, "connection refused")
				require.Equal(t, codes.Unavailable, status.Code(waiting[0].cause))
			})
		})
	}
}

// What the limit of an open does not count (invariant 36): time in which the connection is not ready. Nor is anything
// suspected then.
func TestTheOpenLimitWaitsForTheConnection(t *testing.T) {
	t.Parallel()
	for name, dial := range map[string]func(ctx context.Context, w *world) (net.Conn, error){
		"nobody answers": func(ctx context.Context, _ *world) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() },
		"refused":        func(ctx context.Context, w *world) (net.Conn, error) { return w.Dial(ctx, "memory") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var w *world
				var up atomic.Bool
				var d diary
				w = dialled(t, &feed{handler: one}, grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
					if up.Load() {
						return w.Dial(ctx, "memory")
					}
					return dial(ctx, w)
				}))
				w.Refuse(true)
				time.AfterFunc(time.Hour, func() { w.Refuse(false); up.Store(true) })
				s := w.mustDial(greeting(), stream.WithOpenTimeout(time.Second), stream.WithIdleTimeout(time.Second), stream.WithObserver(&d))
				mustReceive(t, s, 1)
				require.Equal(t, uint64(1), s.Stats().Attempts)
				synctest.Wait()
				require.Empty(t, d.of("detached"))
				require.Equal(t, 1, w.Stats().Connections)
			})
		})
	}
}

// Once the connection is there the limit runs, without what was spent before.
func TestTheOpenLimitRunsOnceThereIsAConnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := dialled(t, &feed{handler: inOrder(stays(), one)})
		w.Refuse(true)
		time.AfterFunc(time.Minute, func() { w.Refuse(false) })
		var d diary
		cb := greeting()
		asks := true
		cb.Resume = func(ctx context.Context, r *resumption) error {
			if asks {
				asks = false
				_, err := r.Recv()
				return err
			}
			return greets(ctx, r)
		}
		s := w.mustDial(cb, stream.WithOpenTimeout(8*time.Second), stream.WithObserver(&d))
		mustReceive(t, s, 1)
		lost := d.of("detached")
		require.Len(t, lost, 1)
		require.EqualError(t, lost[0].cause, "not opened within 8s", "the connection is alive: it has answered a probe")
		after := lost[0].info.Time.Sub(d.of("opened")[0].info.Time)
		require.GreaterOrEqual(t, after, time.Minute+8*time.Second, "the limit is not cut short")
		require.Less(t, after, time.Minute+8*time.Second+1500*time.Millisecond, "a second until the connection is there, and the limit")
		require.Equal(t, 1, w.Stats().Connections)
	})
}

// Without DialOptions an open has a limit of 20 s, so that an outage is told. With them there is none.
func TestTheDefaultOpenLimit(t *testing.T) {
	t.Parallel()
	hangs := greeting()
	hangs.Resume = func(_ context.Context, r *resumption) error {
		_, err := r.Recv()
		return err
	}
	for name, test := range map[string]struct {
		world func(*testing.T, *feed, ...grpc.DialOption) *world
		opts  []stream.ClientOption
		lost  []time.Duration
	}{
		"without":               {newWorld, nil, []time.Duration{20 * time.Second}},
		"without, switched off": {newWorld, []stream.ClientOption{stream.WithOpenTimeout(0)}, nil},
		"with":                  {dialled, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := test.world(t, &feed{handler: inOrder(lasts(time.Hour, nil))})
				var d diary
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				_, err := w.dial(ctx, hangs, append(test.opts, stream.WithObserver(&d))...)
				require.Error(t, err)
				synctest.Wait()
				var lost []time.Duration
				for _, e := range d.of("detached") {
					if after := e.info.Time.Sub(d.of("opened")[0].info.Time); after < 30*time.Second { // or the server saw the deadline first
						lost = append(lost, after)
					}
				}
				require.Equal(t, test.lost, lost)
			})
		})
	}
}

// The streams of one connection come back one after the other, however many there are: at no time many more than on average.
func TestReconnectsAreSpread(t *testing.T) {
	t.Parallel()
	for name, down := range map[string]time.Duration{"a cut": 0, "an outage": 5 * time.Second} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const streams = 1000
				var opens atomic.Pointer[histogram]
				opens.Store(new(histogram))
				w := dialled(t, &feed{handler: func(s bidi) error {
					opens.Load().add(time.Now())
					return one(s)
				}})
				back := make(chan uint64, streams)
				for range streams {
					s := w.mustDial(greeting())
					mustReceive(t, s, 1)
					go func() { // ends with the second message
						m, _ := s.Recv()
						back <- frameOf(m).seq
					}()
				}
				synctest.Wait()
				opens.Store(new(histogram))
				w.Refuse(down > 0)
				w.Cut(testnet.RST)
				time.Sleep(down)
				w.Refuse(false)
				for range streams {
					require.Equal(t, uint64(2), within(t, back, "the second message of a stream"))
				}
				h := opens.Load()
				most, mean, took := h.windows(20 * time.Millisecond)
				require.Less(t, float64(most), 2*mean, "opens in 20 ms, at most and on average, over %v", took)
				require.Greater(t, took, 400*time.Millisecond)
				require.Less(t, took, 700*time.Millisecond)
			})
		})
	}
}

// WaitForReady is the default with DialOptions, and the application may say otherwise.
func TestFailingFast(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		dial []grpc.DialOption
		opts []stream.ClientOption
		more bool
	}{
		"by default":          {nil, nil, false},
		"call option":         {nil, []stream.ClientOption{stream.WithCallOptions(grpc.WaitForReady(false))}, true},
		"default call option": {[]grpc.DialOption{grpc.WithDefaultCallOptions(grpc.WaitForReady(false))}, nil, true},
		"both": {
			[]grpc.DialOption{grpc.WithDefaultCallOptions(grpc.WaitForReady(false))},
			[]stream.ClientOption{stream.WithCallOptions(grpc.WaitForReady(true))},
			false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := dialled(t, &feed{handler: one}, test.dial...)
				w.Refuse(true)
				time.AfterFunc(time.Minute, func() { w.Refuse(false) })
				s := w.mustDial(greeting(), test.opts...)
				require.Equal(t, test.more, s.Stats().Attempts > 1, "attempts: %d", s.Stats().Attempts)
			})
		})
	}
}

// A stream that ends with its connection, and one that was refused without one, leave nothing behind.
func TestTheConnectionIsClosedWhileAnAttemptWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := dialled(t, &feed{handler: one})
		w.Refuse(true)
		time.AfterFunc(time.Minute, func() { _ = w.conn.Close() })
		_, err := w.dial(t.Context(), greeting())
		require.Error(t, err)
		require.NotErrorIs(t, err, io.EOF)
	})
}
