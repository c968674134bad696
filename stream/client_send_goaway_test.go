package stream_test

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/streamsafe/streamsafe/internal/testnet"
	"github.com/streamsafe/streamsafe/stream"
)

// grpc's own retry of a stream goes on in the middle of a Send, and fails as if the message were bad. These tests see
// that it is left to this package. Two rules see to it: a stream's context is asked for when it is opened, and UNAVAILABLE on
// a dead attempt is no bad message. With one of them the messages come through; only TestMaxOutageUnderGRPCsRetry needs
// the first alone.

// retrying is a service config that makes grpc retry by itself.
const retrying = `{"methodConfig":[{"name":[{}],"retryPolicy":{"maxAttempts":3,"initialBackoff":"0.01s",
"maxBackoff":"0.01s","backoffMultiplier":1,"retryableStatusCodes":["UNAVAILABLE"]}}]}`

// awayForAMinute breaks all connections, and refuses new ones for a minute.
func awayForAMinute(w *testnet.Memory) {
	w.Refuse(true)
	w.Cut(testnet.RST)
	time.AfterFunc(time.Minute, func() { w.Refuse(false) })
}

func TestABreakUnderGRPCsRetryIsNoBadMessage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var got []uint64
		w := newWorld(t, &feed{handler: reads(&got)}, grpc.WithDefaultServiceConfig(retrying))
		s := w.mustDial(acking(), withReplay())
		mustSend(t, s, 1, 1)
		synctest.Wait()
		awayForAMinute(w.Memory)
		synctest.Wait()
		mustSend(t, s, 2, 2) // finds the break; nobody is in Recv
		rest(10 * time.Minute)
		require.Equal(t, []uint64{1, 1, 2}, got, "messages the server has")
	})
}

// The same in the replay, where a bad message ends the stream.
func TestABreakUnderGRPCsRetryInTheReplay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var got []uint64
		says := func(s bidi) error {
			if err := s.SendHeader(nil); err != nil {
				return err
			}
			return reads(&got)(s)
		}
		w := newWorld(t, &feed{handler: inOrder(says, reads(&got))}, grpc.WithDefaultServiceConfig(retrying))
		cb := acking()
		cb.Resume = func(_ context.Context, r *resumption) error {
			if r.Attempt() == 2 { // breaks again as soon as it is open
				awayForAMinute(w.Memory)
				time.Sleep(time.Second)
			}
			return nil
		}
		s := w.mustDial(cb, withReplay())
		mustSend(t, s, 1, 3)
		synctest.Wait()
		w.Cut(testnet.RST)
		synctest.Wait()
		mustSend(t, s, 4, 4) // finds the break; nobody is in Recv
		rest(10 * time.Minute)
		require.Equal(t, []uint64{1, 2, 3, 1, 2, 3, 4}, got, "messages the server has")
	})
}

// WithMaxOutage ends an outage in which grpc would go on trying by itself, and the stream would look attached.
func TestMaxOutageUnderGRPCsRetry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var got []uint64
		w := newWorld(t, &feed{handler: reads(&got)}, grpc.WithDefaultServiceConfig(retrying))
		s := w.mustDial(acking(), withReplay(), stream.WithMaxOutage(time.Minute), stream.WithOpenTimeout(time.Second),
			stream.WithCallOptions(grpc.WaitForReady(true)))
		rest(time.Minute) // stable
		mustSend(t, s, 1, 1)
		synctest.Wait()
		w.Refuse(true)
		w.Cut(testnet.RST)
		synctest.Wait()
		began := time.Now()
		mustSend(t, s, 2, 2) // finds the break; nobody is in Recv
		requireReason(t, s.Send(frame{kind: data, seq: 3}.request()), stream.ReasonMaxOutage, "a Send that waited")
		require.LessOrEqual(t, time.Since(began), 62*time.Second, "the limit, and the open that was on its way")
	})
}

// leaving speaks HTTP/2 on conn until it closes, and counts DATA frames. With away it answers the first stream with a
// GOAWAY that says that the stream was not processed, as a server that shuts down does, and closes the connection.
func leaving(conn net.Conn, data *atomic.Int32, away func()) error {
	defer func() { _ = conn.Close() }()
	const (
		typeData, typeHeaders, typeSettings, typeGoAway = 0, 1, 4, 7
		preface                                         = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	)
	write := func(kind, flags byte, payload ...byte) error {
		_, err := conn.Write(append([]byte{0, 0, byte(len(payload)), kind, flags, 0, 0, 0, 0}, payload...))
		return err
	}
	if _, err := io.CopyN(io.Discard, conn, int64(len(preface))); err != nil {
		return err
	}
	if err := write(typeSettings, 0); err != nil {
		return err
	}
	for {
		var header [9]byte // RFC 9113, section 4.1
		if _, err := io.ReadFull(conn, header[:]); err != nil {
			return err
		}
		length := binary.BigEndian.Uint32(header[:4]) >> 8
		if _, err := io.CopyN(io.Discard, conn, int64(length)); err != nil {
			return err
		}
		switch kind, flags := header[3], header[4]; {
		case kind == typeSettings && flags == 0:
			if err := write(typeSettings, 1); err != nil {
				return err
			}
		case kind == typeHeaders && away != nil:
			away()
			return write(typeGoAway, 0, make([]byte, 8)...) // last stream 0, NO_ERROR
		case kind == typeData:
			data.Add(1)
		}
	}
}

// A server that shuts down has not processed the newest stream, and grpc retries that without any policy. It does not
// here: neither a Send nor the replay takes the break for a bad message.
func TestAServerThatGoesAwayAsTheAttemptOpens(t *testing.T) {
	t.Parallel()
	for name, which := range map[string]int{"in Send": 1, "in the replay": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				network := testnet.NewMemory()
				listener := network.Listener()
				var data atomic.Int32
				go func() { // ends with the listener
					for number := 1; ; number++ {
						conn, err := listener.Accept()
						if err != nil {
							return
						}
						var away func()
						if number == which {
							away = func() {
								network.Refuse(true)
								time.AfterFunc(time.Minute, func() { network.Refuse(false) })
							}
						}
						go func() { _ = leaving(conn, &data, away) }() // ends with the connection
					}
				}()
				conn, err := network.Client(grpc.WithConnectParams(fastConnect))
				require.NoError(t, err)
				defer func() {
					_, _, _ = conn.Close(), listener.Close(), network.Close()
				}()
				cb := acking()
				cb.Resume = func(context.Context, *resumption) error { time.Sleep(time.Second); return nil }
				s, err := stream.Resilient(newWatchdog(t).context(t.Context()), testpb.NewTestServiceClient(conn).FullDuplexCall, cb, withReplay())
				require.NoError(t, err)
				defer func() { _ = s.Close() }()
				mustSend(t, s, 1, 1)
				rest(10 * time.Minute)
				network.Cut(testnet.RST)
				synctest.Wait()
				mustSend(t, s, 2, 2) // finds the break; nobody is in Recv
				rest(10 * time.Minute)
				require.Equal(t, int32(3), data.Load(), "messages the server has: 1, 1 again, and 2")
				require.Equal(t, 2, s.Stats().Unacked)
			})
		})
	}
}
