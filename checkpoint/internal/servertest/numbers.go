package servertest

import (
	"context"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream"
	"github.com/streamsafe/streamsafe/stream/streamtest"
)

// Numbers is a gRPC server that streams the numbers after a position, up to a last one, and then waits.
type Numbers struct {
	testpb.UnimplementedTestServiceServer
	Proxy  *streamtest.Proxy // in front of it
	client testpb.TestServiceClient
	last   uint64
}

// Stream is a stream of numbers.
type Stream = stream.ClientStream[testpb.StreamingOutputCallRequest, testpb.StreamingOutputCallResponse]

// NewNumbers starts a server, which the end of the test stops.
func NewNumbers(tb testing.TB, last uint64) *Numbers {
	tb.Helper()
	proxy, err := streamtest.NewProxy("")
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = proxy.Close() })
	listener, err := proxy.Listen()
	require.NoError(tb, err)
	n := &Numbers{Proxy: proxy, last: last}
	server := grpc.NewServer()
	testpb.RegisterTestServiceServer(server, n)
	go func() { _ = server.Serve(listener) }() // ends with Stop
	tb.Cleanup(server.Stop)
	conn, err := proxy.Client(stream.DialOptions(insecure.NewCredentials())...)
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = conn.Close() })
	n.client = testpb.NewTestServiceClient(conn)
	return n
}

// StreamingOutputCall implements the service.
func (n *Numbers) StreamingOutputCall(r *testpb.StreamingOutputCallRequest, s testpb.TestService_StreamingOutputCallServer) error {
	after := binary.BigEndian.Uint64(r.GetPayload().GetBody())
	for number := after + 1; number <= n.last; number++ {
		err := s.Send(&testpb.StreamingOutputCallResponse{Payload: payload(number)})
		if err != nil {
			return err
		}
	}
	<-s.Context().Done()
	return s.Context().Err()
}

func payload(number uint64) *testpb.Payload {
	return &testpb.Payload{Body: binary.BigEndian.AppendUint64(nil, number)}
}

// Number returns the number in a message.
func Number(m *testpb.StreamingOutputCallResponse) uint64 {
	return binary.BigEndian.Uint64(m.GetPayload().GetBody())
}

// Open opens a stream.
func (n *Numbers) Open(ctx context.Context, opts ...stream.ClientOption) (*Stream, error) {
	return stream.ResilientServerStreaming(ctx, n.client.StreamingOutputCall,
		func(from checkpoint.Position) (*testpb.StreamingOutputCallRequest, error) {
			return &testpb.StreamingOutputCallRequest{Payload: payload(from.Seq)}, nil
		},
		stream.Callbacks[testpb.StreamingOutputCallRequest, testpb.StreamingOutputCallResponse]{
			Checkpoint: func(m *testpb.StreamingOutputCallResponse) (checkpoint.Position, bool) {
				return checkpoint.Position{Seq: Number(m)}, true
			},
		}, opts...)
}
