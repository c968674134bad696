package stream_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/streamsafe/streamsafe/internal/testnet"
	"github.com/streamsafe/streamsafe/stream"
)

// Connections that are dead and look alive.

// A black hole is found by a limit of one stream, whatever it waits for, and all streams on the connection come back (invariants 22
// and 36), those without limits too.
func TestABlackHoleIsClosed(t *testing.T) {
	t.Parallel()
	const limit = time.Second
	hello := func(ctx context.Context, r *resumption) error {
		if err := r.Send(frame{kind: hello, seq: r.Position().Seq}.request()); err != nil {
			return err
		}
		return nil
	}
	acks := acking()
	acks.Resume = hello
	tests := map[string]struct {
		cb   callbacks
		opts []stream.ClientOption
		send bool
	}{
		"idle":            {greeting(), []stream.ClientOption{stream.WithIdleTimeout(limit)}, false},
		"acknowledgement": {acks, []stream.ClientOption{stream.WithAckTimeout(limit), withReplay()}, true},
	}
	for name, test := range tests {
		for at := time.Duration(0); at < limit; at += 23 * time.Millisecond { // the limit's ticks begin at any time
			t.Run(fmt.Sprintf("%s, %v", name, at), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := dialled(t, &feed{handler: func(s bidi) error { _ = s.SendHeader(nil); return one(s) }})
					var d diary
					s := w.mustDial(test.cb, append(test.opts, stream.WithObserver(&d))...)
					others := make(chan time.Time, 50)
					for range cap(others) {
						other := w.mustDial(greeting())
						mustReceive(t, other, 1)
						go func() { // ends with the second message
							_, _ = other.Recv()
							others <- time.Now()
						}()
					}
					mustReceive(t, s, 1)
					time.Sleep(at)
					w.Cut(testnet.BlackHole)
					began := time.Now()
					if test.send {
						mustSend(t, s, 1, 1)
					}
					mustReceive(t, s, 2)
					if !test.send {
						require.GreaterOrEqual(t, time.Since(began), limit, "the limit is not cut short")
					}
					require.LessOrEqual(t, time.Since(began), limit+400*time.Millisecond)
					for range cap(others) {
						require.LessOrEqual(t, (<-others).Sub(began), limit+400*time.Millisecond, "a stream without a limit")
					}
					require.Equal(t, 2, w.Stats().Connections, "one connection was closed, and one made")
					synctest.Wait()
					lost := d.of("detached")
					require.Len(t, lost, 1)
					require.ErrorContains(t, lost[0].cause, "the connection is dead")
				})
			})
		}
	}
}

// A stuck handler costs its stream the attempt, and nobody the connection: if others talk, there is life; if all are quiet, the
// probe is answered. The server may have no health service.
func TestAStuckHandlerDoesNotCostTheConnection(t *testing.T) {
	t.Parallel()
	for name, healthy := range map[string]bool{"health service": true, "none": false} {
		for others, every := range map[string]time.Duration{"talking": 100 * time.Millisecond, "quiet": time.Hour} {
			t.Run(name+", others "+others, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					var probes atomic.Int64
					f := &feed{handler: func(s bidi) error {
						if m, err := s.Recv(); err != nil || frameOf(m).seq == 0 {
							return stays(numbered(1)...)(s)
						}
						for {
							if err := lasts(every, nil, frame{kind: ack})(s); err != nil {
								return err
							}
						}
					}}
					w := dialled(t, f, countsProbes(&probes))
					if healthy {
						w.server.Stop()
						w.server = grpc.NewServer()
						testpb.RegisterTestServiceServer(w.server, f)
						healthpb.RegisterHealthServer(w.server, health.NewServer())
						go func() { _ = w.server.Serve(w.Listener()) }() // ends with the server
					}
					for range 20 {
						talks := greeting()
						talks.Resume = func(_ context.Context, r *resumption) error { return r.Send(frame{kind: hello, seq: 7}.request()) }
						receiving(w.mustDial(talks))
					}
					var d diary
					s := w.mustDial(greeting(), stream.WithIdleTimeout(time.Second), stream.WithObserver(&d))
					mustReceive(t, s, 1)
					receiving(s)
					rest(2 * time.Second)
					lost := d.of("detached")
					require.Len(t, lost, 1)
					require.EqualError(t, lost[0].cause, "no message within 1s")
					require.Equal(t, 1, w.Stats().Connections)
					require.Equal(t, map[string]int64{"talking": 0, "quiet": 1}[others], min(probes.Load(), 1), "probes")
				})
			})
		}
	}
}

// countsProbes is an interceptor that counts what passes through it on the way to the health service.
func countsProbes(n *atomic.Int64) grpc.DialOption {
	return grpc.WithStatsHandler(&probeCounter{n: n})
}

// Two thousand streams that see the limit at once send one probe, and make one connection.
func TestManyStreamsSendOneProbe(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const streams = 2000
		var probes atomic.Int64
		w := dialled(t, &feed{handler: one}, countsProbes(&probes))
		back := make(chan time.Time, streams)
		for range streams {
			s := w.mustDial(greeting(), stream.WithIdleTimeout(time.Second))
			mustReceive(t, s, 1)
			go func() { // ends with the second message
				_, _ = s.Recv()
				back <- time.Now()
			}()
		}
		synctest.Wait()
		w.Cut(testnet.BlackHole)
		began := time.Now()
		for range streams {
			require.LessOrEqual(t, (<-back).Sub(began), 3*time.Second)
		}
		require.Equal(t, int64(1), probes.Load())
		require.Equal(t, 2, w.Stats().Connections)
	})
}

// The probe does not cut a limit short, however long that is.
func TestALongLimitIsNotCutShortByTheProbe(t *testing.T) {
	t.Parallel()
	for _, limit := range []time.Duration{3 * time.Second, 10 * time.Second, time.Minute, time.Hour} {
		t.Run(limit.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := dialled(t, &feed{handler: one})
				var d diary
				s := w.mustDial(greeting(), stream.WithIdleTimeout(limit), stream.WithObserver(&d))
				mustReceive(t, s, 1)
				time.Sleep(100 * time.Millisecond) // an acknowledgement of settings may be on its way
				began := time.Now()
				w.Cut(testnet.BlackHole)
				mustReceive(t, s, 2)
				synctest.Wait()
				lost := d.of("detached")
				require.Len(t, lost, 1)
				took := lost[0].info.Time.Sub(began)
				require.GreaterOrEqual(t, took, limit)
				require.LessOrEqual(t, took, limit+limit/8+2*time.Second)
			})
		})
	}
}
