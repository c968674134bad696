package testnet

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	testpb "google.golang.org/grpc/interop/grpc_testing"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type (
	request      = testpb.StreamingOutputCallRequest
	response     = testpb.StreamingOutputCallResponse
	serverStream = grpc.BidiStreamingServer[request, response]
	clientStream = grpc.BidiStreamingClient[request, response]
)

// world is one of the two worlds, with what tests need of both.
type world struct {
	*Network
	name     string
	listener net.Listener
	client   func(...grpc.DialOption) (*grpc.ClientConn, error)
	dial     func(ctx context.Context) (net.Conn, error)
	close    func() error
}

func (w *world) memory() bool { return w.name == "memory" }

// inBoth runs a test in memory, in a bubble, and over TCP.
func inBoth(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			m := NewMemory()
			w := &world{Network: m.Network, name: "memory", listener: m.Listener(), client: m.Client, close: m.Close}
			w.dial = func(ctx context.Context) (net.Conn, error) { return m.Dial(ctx, "memory") }
			t.Cleanup(func() { require.NoError(t, w.close()) })
			test(t, w)
		})
	})
	t.Run("tcp", func(t *testing.T) {
		t.Parallel()
		p, err := NewTCP("")
		require.NoError(t, err)
		w := &world{Network: p.Network, name: "tcp", client: p.Client, close: p.Close}
		w.listener, err = p.Listen()
		require.NoError(t, err)
		w.dial = func(ctx context.Context) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", p.Addr())
		}
		t.Cleanup(func() { require.NoError(t, w.close()) })
		test(t, w)
	})
}

// handler serves FullDuplexCall.
type handler struct {
	testpb.UnimplementedTestServiceServer
	handle func(serverStream) error
}

func (h handler) FullDuplexCall(s serverStream) error { return h.handle(s) }

// echo answers each message with its payload.
func echo(s serverStream) error {
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

// serve starts a gRPC server and a client, and stops them when the test ends.
func (w *world) serve(t *testing.T, handle func(serverStream) error) testpb.TestServiceClient {
	t.Helper()
	server := grpc.NewServer()
	testpb.RegisterTestServiceServer(server, handler{handle: handle})
	served := make(chan error, 1)
	go func() { served <- server.Serve(w.listener) }() // ends with Stop; the cleanup waits
	conn, err := w.client()
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, conn.Close())
		require.NoError(t, w.close(), "nothing can be under way when the server stops")
		server.Stop()
		require.NoError(t, <-served)
	})
	return testpb.NewTestServiceClient(conn)
}

func sized(n int) *testpb.Payload { return &testpb.Payload{Body: make([]byte, n)} }

// timeless is cuts without the time at which they happened.
func timeless(cuts []Cut) []Cut {
	for i := range cuts {
		cuts[i].At = time.Time{}
	}
	return cuts
}
