package streamtest_test

import (
	"context"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/stream/streamtest"
)

// echo answers each request with its payload.
type echo struct {
	testpb.UnimplementedTestServiceServer
}

func (echo) FullDuplexCall(s grpc.BidiStreamingServer[request, response]) error {
	for {
		m, err := s.Recv()
		if err != nil {
			return err
		}
		if err := s.Send(&response{Payload: m.GetPayload()}); err != nil {
			return err
		}
	}
}

// serve starts an echo server on a listener, until the test ends.
func serve(t *testing.T, l net.Listener) {
	t.Helper()
	server := grpc.NewServer()
	testpb.RegisterTestServiceServer(server, echo{})
	go func() { _ = server.Serve(l) }() // ends with the server, which the cleanup stops
	t.Cleanup(server.Stop)
}

// echoes sends and receives until the stream breaks, or n messages were echoed. It returns how many were.
func echoes(t *testing.T, conn *grpc.ClientConn, n int) (int, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, err := testpb.NewTestServiceClient(conn).FullDuplexCall(ctx, grpc.WaitForReady(true))
	require.NoError(t, err)
	for i := range n {
		_ = s.Send(&request{})
		if _, err := s.Recv(); err != nil {
			return i, err
		}
	}
	return n, nil
}

func TestProxy(t *testing.T) {
	t.Parallel()
	p, err := streamtest.NewProxy("", streamtest.WithFault(
		streamtest.Fault{Kind: streamtest.RST, Direction: streamtest.ToClient, Message: 3, Where: streamtest.Before}))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	var cuts, messages atomic.Int64
	p.OnCut(func(streamtest.Cut) { cuts.Add(1) })
	p.OnMessage(func(connection int, d streamtest.Direction, n int) {
		if connection == 2 && d == streamtest.ToServer && n == 4 {
			p.Cut(streamtest.FIN) // by hand
		}
		messages.Add(1)
	})
	l, err := p.Listen()
	require.NoError(t, err)
	serve(t, l)
	conn, err := p.Client()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })

	n, err := echoes(t, conn, 10)
	assert.Equal(t, codes.Unavailable, status.Code(err))
	assert.Equal(t, 2, n)
	n, err = echoes(t, conn, 10)
	assert.Equal(t, codes.Unavailable, status.Code(err))
	assert.LessOrEqual(t, n, 4)
	require.Eventually(t, func() bool { return cuts.Load() == 2 }, time.Minute, time.Millisecond, "the function is called after the fault")
	p.OnCut(nil)
	p.OnMessage(nil)

	p.Refuse(true)
	_, err = net.Dial("tcp", p.Addr()) //nolint:noctx // it is refused
	if err == nil {
		require.Eventually(t, func() bool { return p.Report().Refused > 0 }, time.Minute, time.Millisecond)
	}
	p.Heal()
	p.Delay(time.Millisecond)
	n, err = echoes(t, conn, 10)
	require.NoError(t, err)
	assert.Equal(t, 10, n)

	stop := p.Chaos(streamtest.Chaos{Seed: 1, Messages: 2, Limit: 3})
	for range 100 {
		if len(p.Report().Cuts) == 5 {
			break
		}
		_, _ = echoes(t, conn, 20)
	}
	stop()
	p.Arm(streamtest.Fault{Kind: streamtest.RST, Direction: streamtest.ToClient, Message: 1})
	p.Disarm()
	n, err = echoes(t, conn, 10)
	require.NoError(t, err)
	assert.Equal(t, 10, n)
	r := p.Report()
	require.Len(t, r.Cuts, 5)
	assert.Equal(t, streamtest.RST, r.Cuts[0].Kind)
	assert.EqualValues(t, 2, cuts.Load(), "faults while the function was set")
	assert.Positive(t, messages.Load())
	assert.Regexp(t, `^connections \d+, refused \d+, live \d; to server \d+ messages, \d+ bytes; to client \d+ messages, \d+ bytes; faults 5\n`+
		`\S+: RST before response 3 on connection 1\n\S+: FIN on connection 2\n`, r.String())
}

// The proxy can be started before its server, and the server somewhere else.
func TestProxyOfATarget(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it does not wait
	require.NoError(t, err)
	serve(t, l)
	p, err := streamtest.NewProxy("127.0.0.1:1", streamtest.WithDelay(time.Millisecond),
		streamtest.WithChaos(streamtest.Chaos{Kinds: []streamtest.Kind{streamtest.FIN}, Messages: 1, Limit: 1}))
	require.NoError(t, err)
	p.SetTarget(l.Addr().String())
	conn, err := p.Client()
	require.NoError(t, err)
	_, err = echoes(t, conn, 10)
	require.Error(t, err)
	_, err = echoes(t, conn, 10)
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	require.NoError(t, p.Close())
	require.NoError(t, p.Close(), "twice")
}

func TestNetworkInABubble(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := streamtest.NewNetwork()
		n.ArmInOrder(
			streamtest.Fault{Kind: streamtest.BlackHoleToClient, Time: time.Minute, For: time.Hour},
			streamtest.Fault{Kind: streamtest.Refusal, Direction: streamtest.ToClient, Message: 2, Connection: 2, For: 90 * time.Minute},
		)
		serve(t, n.Listener())
		conn, err := n.Client()
		require.NoError(t, err)
		t.Cleanup(func() {
			_ = conn.Close()
			_ = n.Close()
		})
		_, err = echoes(t, conn, 1)
		require.NoError(t, err)
		time.Sleep(time.Minute + time.Second)
		begun := time.Now()
		_, err = echoes(t, conn, 1)
		require.Error(t, err, "nothing comes back")
		assert.Equal(t, time.Minute, time.Since(begun), "until the caller gives up")
		time.Sleep(time.Hour)
		k, err := echoes(t, conn, 5)
		require.Error(t, err)
		assert.Equal(t, 1, k)
		_, err = n.Dial(t.Context(), "anything")
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
		require.NoError(t, conn.Close())
		require.NoError(t, n.Close())
		assert.Len(t, n.Report().Cuts, 2)
		_, err = n.Dial(t.Context(), "anything")
		require.Error(t, err)
	})
}
