package stream_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/streamsafe/streamsafe/internal/testnet"
	"github.com/streamsafe/streamsafe/stream"
)

// Invariant 35: a Send that waits does not depend on the application receiving, while there is room.

// network is what tests ask of a network, in memory or over TCP.
type network interface {
	Cut(kind testnet.Kind, connections ...int)
	OnMessage(f func(connection int, d testnet.Direction, n int))
}

// smallWindows are the least that grpc takes, on both ends, without its estimate of what would be better.
func smallWindows() ([]grpc.ServerOption, []grpc.DialOption) {
	const least = 64 << 10
	return []grpc.ServerOption{grpc.InitialWindowSize(least), grpc.InitialConnWindowSize(least)},
		[]grpc.DialOption{grpc.WithInitialWindowSize(least), grpc.WithInitialConnWindowSize(least)}
}

// inBothWorlds runs a test in memory, in a bubble, and over real sockets, with small windows. What takes longer than limit is a
// hang: the stream's context ends then.
func inBothWorlds(t *testing.T, f func() *feed, test func(t *testing.T, dial dialer, n network)) {
	t.Helper()
	server, dial := smallWindows()
	t.Run("in memory", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			served := f()
			served.options = server
			w := newWorld(t, served, dial...)
			test(t, dialing(t, w.conn, 24*time.Hour), w.Memory)
		})
	})
	t.Run("over TCP", func(t *testing.T) {
		t.Parallel()
		served := f()
		served.options = server
		proxy, conn := newTCPWorld(t, served, dial...)
		test(t, dialing(t, conn, 90*time.Second), proxy)
	})
}

// newTCPWorld starts a server behind a proxy, over real sockets.
func newTCPWorld(t *testing.T, f *feed, opts ...grpc.DialOption) (*testnet.TCP, *grpc.ClientConn) {
	t.Helper()
	proxy, err := testnet.NewTCP("")
	require.NoError(t, err)
	listener, err := proxy.Listen()
	require.NoError(t, err)
	server := grpc.NewServer(f.options...)
	testpb.RegisterTestServiceServer(server, f)
	go func() { _ = server.Serve(listener) }() // ends with the server, which the cleanup stops
	conn, err := proxy.Client(append([]grpc.DialOption{grpc.WithConnectParams(fastConnect)}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
		_ = proxy.Close()
	})
	return proxy, conn
}

// dialer opens a stream, whose context ends when a test has taken too long.
type dialer func(cb callbacks, opts ...stream.ClientOption) *client

func dialing(t *testing.T, conn *grpc.ClientConn, limit time.Duration) dialer {
	t.Helper()
	return func(cb callbacks, opts ...stream.ClientOption) *client {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		t.Cleanup(cancel)
		s, err := stream.Resilient(ctx, testpb.NewTestServiceClient(conn).FullDuplexCall, cb, opts...)
		require.NoError(t, err)
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
}

const chunk = 16 << 10

func chunky(seq uint64) *request { return frame{kind: data, seq: seq, size: chunk}.request() }

// echoes is a server that sends back what it receives, and acknowledges it if it is asked to.
func echoes(acks bool) func() *feed {
	return func() *feed {
		return &feed{handler: func(s bidi) error {
			for {
				m, err := s.Recv()
				if errors.Is(err, io.EOF) {
					return nil
				}
				if err != nil {
					return err
				}
				fr := frameOf(m)
				if err := s.Send(fr.response()); err != nil {
					return err
				}
				if !acks {
					continue
				}
				if err := s.Send(frame{kind: ack, seq: fr.seq}.response()); err != nil {
					return err
				}
			}
		}}
	}
}

// One goroutine sends and receives in turn. Nothing is acknowledged; then a break, and Sends in a row: the replay fills all
// windows, as the server waits for its echoes to be received. The Sends wait for the replay, and go on.
func TestTwoSendsAfterABreak(t *testing.T) {
	t.Parallel()
	for _, n := range []uint64{16, 24, 64, 200} {
		for name, cb := range map[string]callbacks{"duplicates dropped": acking(), "started over": {Acked: acking().Acked}} {
			t.Run(fmt.Sprintf("%d, %s", n, name), func(t *testing.T) {
				t.Parallel()
				inBothWorlds(t, echoes(false), func(t *testing.T, dial dialer, net network) {
					t.Helper()
					s := dial(cb, withReplay(), stream.WithRestart())
					for seq := uint64(1); seq <= n; seq++ {
						require.NoError(t, s.Send(chunky(seq)))
						mustReceive(t, s, seq)
					}
					net.Cut(testnet.RST)
					for seq := n + 1; seq <= n+4; seq++ { // the first of them find the break
						require.NoError(t, s.Send(chunky(seq)), "Send %d after the break", seq-n)
					}
					if cb.Checkpoint == nil {
						mustReceive(t, s, upTo(n)...)
					}
					mustReceive(t, s, upTo(n + 4)[n:]...)
					require.GreaterOrEqual(t, s.Stats().Replayed, n)
				})
			})
		}
	}
}

// An application sends everything, more than all windows and what may be unacknowledged, and then receives.
func TestSendingAllAndThenReceiving(t *testing.T) {
	t.Parallel()
	const n = 700 // 11 MiB
	tests := map[string]struct {
		acks bool
		opts []stream.ClientOption
	}{
		"at most once":               {false, []stream.ClientOption{stream.WithAtMostOnceSends()}},
		"with replay":                {false, []stream.ClientOption{withReplay()}},
		"with a window of 8":         {true, []stream.ClientOption{stream.WithReplay(stream.ReplayLimits{Messages: 8})}},
		"with a window of one":       {true, []stream.ClientOption{stream.WithReplay(stream.ReplayLimits{Messages: 1})}},
		"with a window of 100 KiB":   {true, []stream.ClientOption{stream.WithReplay(stream.ReplayLimits{Bytes: 100 << 10})}},
		"and holding, with a window": {true, []stream.ClientOption{stream.WithReplay(stream.ReplayLimits{Messages: 8}), stream.HoldUntilCheckpoint(1<<20, stream.OverflowFail)}},
	}
	for name, test := range tests {
		for _, cuts := range []bool{false, true} {
			if cuts && name == "at most once" {
				continue // a break loses echoes
			}
			t.Run(fmt.Sprintf("%s, cuts %v", name, cuts), func(t *testing.T) {
				t.Parallel()
				inBothWorlds(t, echoes(test.acks), func(t *testing.T, dial dialer, net network) {
					t.Helper()
					s := dial(acking(), append(test.opts, stream.WithStreamPolicies(
						stream.NewRetryPolicyBuilder().WithDelay(time.Millisecond).Build()))...)
					for seq := uint64(1); seq <= n; seq++ {
						require.NoError(t, s.Send(chunky(seq)), "message %d", seq)
						if cuts && seq%200 == 0 {
							net.Cut(testnet.RST)
						}
					}
					if test.acks {
						require.NoError(t, s.Flush(t.Context()))
						require.Equal(t, uint64(n), s.Stats().Acked)
					}
					require.NoError(t, s.CloseSend())
					got, _ := receiveAll(s)
					require.Equal(t, upTo(n), got, "everything, in order")
				})
			})
		}
	}
}

// The room is bounded, in messages and in bytes. Then a Send waits, until the application receives (invariant 8).
func TestTheStandInStopsAtTheBounds(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		total   uint64
		size    int
		waiting int
	}{
		"in messages": {70_000, 0, 1 << 16},
		"in bytes":    {40, 1 << 20, 16},
		"small ones":  {200, 100 << 10, 164},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				f := &feed{handler: func(s bidi) error {
					for seq := uint64(1); seq <= test.total; seq++ {
						if err := s.Send((frame{kind: data, seq: seq, size: test.size}).response()); err != nil {
							return err
						}
					}
					<-release
					var got []uint64
					return reads(&got)(s)
				}}
				var dial []grpc.DialOption
				f.options, dial = smallWindows()
				s := newWorld(t, f, dial...).mustDial(acking(), stream.WithAtMostOnceSends())
				sent := make(chan error, 1)
				go func() { // ends with the stream, or when the server reads
					for seq := uint64(1); seq <= 20; seq++ {
						if err := s.Send(chunky(seq)); err != nil {
							sent <- err
							return
						}
					}
					sent <- nil
				}()
				rest(time.Hour)
				require.Empty(t, sent, "a Send waits: the server does not read")
				st := s.Stats()
				require.InDelta(t, test.waiting, st.Waiting, 1, "messages that wait for Recv")
				rest(time.Hour)
				require.Equal(t, st.Waiting, s.Stats().Waiting, "an hour later")

				mustReceive(t, s, 1, 2, 3)
				rest(time.Minute)
				require.InDelta(t, test.waiting, s.Stats().Waiting, 1, "as many came after those taken")
				mustReceive(t, s, upTo(test.total)[3:]...)
				close(release)
				rest(time.Minute)
				require.NoError(t, <-sent)
			})
		})
	}
}

// silent is a server that reads nothing and says these frames, each after a time.
func silent(after time.Duration, frames ...frame) func(bidi) error {
	return func(s bidi) error {
		for _, f := range frames {
			if err := lasts(after, nil)(s); err != nil {
				return err
			}
			if err := s.Send(f.response()); err != nil {
				return err
			}
		}
		<-s.Context().Done()
		return s.Context().Err()
	}
}

// The stand-in waits for messages, and the application does not: no limit on that wait runs. When the application waits, the
// limit runs from then on, though the stand-in has been in the call for hours.
func TestTheStandInAndTheLimitsOfRecv(t *testing.T) {
	t.Parallel()
	for name, limit := range map[string]stream.ClientOption{
		"idle": stream.WithIdleTimeout(time.Minute), "first message": stream.WithFirstMessageTimeout(time.Minute),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := &feed{handler: inOrder(silent(0), stays(numbered(1)...))}
				var dial []grpc.DialOption
				f.options, dial = smallWindows()
				s := newWorld(t, f, dial...).mustDial(acking(), withReplay(), limit)
				sent := make(chan error, 1)
				go func() { sent <- sendChunks(s, 20) }() // ends with the stream
				rest(5 * time.Hour)
				require.Equal(t, uint64(1), s.Stats().Attempts, "attempts while nobody receives")
				began := time.Now()
				mustReceive(t, s, 1) // from the second attempt
				require.Equal(t, uint64(2), s.Stats().Attempts)
				took := time.Since(began)
				require.GreaterOrEqual(t, took, time.Minute, "the limit is not cut short")
				require.Less(t, took, time.Minute+time.Minute/8+time.Second)
			})
		})
	}
}

func sendChunks(s *client, n uint64) error {
	for seq := uint64(1); seq <= n; seq++ {
		if err := s.Send(chunky(seq)); err != nil {
			return err
		}
	}
	return nil
}

// What the stand-in receives while the application waits is the application's at once, and in order.
func TestTheStandInHandsOverAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &feed{handler: silent(time.Hour, numbered(1, 2, 3)...)}
		var dial []grpc.DialOption
		f.options, dial = smallWindows()
		s := newWorld(t, f, dial...).mustDial(acking(), stream.WithAtMostOnceSends())
		go func() { _ = sendChunks(s, 20) }() // ends with the stream
		rest(30 * time.Minute)
		began := time.Now()
		mustReceive(t, s, 1)
		require.Equal(t, 30*time.Minute, time.Since(began))
		rest(5 * time.Hour)
		into := &response{Payload: &testpb.Payload{Type: testpb.PayloadType_COMPRESSABLE, Body: []byte("what was here before")}}
		require.NoError(t, s.RecvMsg(into))
		require.Equal(t, frame{kind: data, seq: 2}, frameOf(into), "RecvMsg of what waits")
		mustReceive(t, s, 3)
	})
}

// Close, and the end of the context, end a Send that waits and the stand-in with it.
func TestClosingDuringTheStandIn(t *testing.T) {
	t.Parallel()
	for name, reason := range map[string]stream.Reason{"Close": stream.ReasonClosed, "cancel": stream.ReasonContext} {
		for _, replay := range []stream.ClientOption{withReplay(), stream.WithAtMostOnceSends()} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					f := &feed{handler: silent(time.Second, numbered(upTo(1000)...)...)}
					var dial []grpc.DialOption
					f.options, dial = smallWindows()
					w := newWorld(t, f, dial...)
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					s, err := w.dial(ctx, acking(), replay)
					require.NoError(t, err)
					sent := make(chan error, 1)
					go func() { sent <- sendChunks(s, 20) }() // ends with the stream
					rest(time.Minute)
					require.Greater(t, s.Stats().Waiting, 50, "messages that the stand-in has received")
					if name == "Close" {
						require.NoError(t, s.Close())
					} else {
						cancel()
					}
					synctest.Wait()
					require.Len(t, sent, 1, "the Send has returned")
					err = <-sent
					requireReason(t, err, reason, "the Send")
					_, err = s.Recv()
					requireReason(t, err, reason, "Recv, at once: what waits is let go")
				})
			})
		}
	}
}
