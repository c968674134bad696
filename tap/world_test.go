package tap_test

import (
	"context"
	"net"
	"testing"

	"github.com/failsafe-go/failsafe-go"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	grpctap "google.golang.org/grpc/tap"
	"google.golang.org/grpc/test/bufconn"

	"github.com/streamsafe/streamsafe/tap"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	unaryCall  = "/grpc.testing.TestService/UnaryCall"
	emptyCall  = "/grpc.testing.TestService/EmptyCall"
	duplexCall = "/grpc.testing.TestService/FullDuplexCall"
)

// service is a server whose methods a test fills in.
type service struct {
	testpb.UnimplementedTestServiceServer
	unary  func(ctx context.Context) error
	duplex func(s grpc.BidiStreamingServer[testpb.StreamingOutputCallRequest, testpb.StreamingOutputCallResponse]) error
}

func (s *service) UnaryCall(ctx context.Context, _ *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	if s.unary != nil {
		if err := s.unary(ctx); err != nil {
			return nil, err
		}
	}
	return &testpb.SimpleResponse{}, nil
}

func (s *service) FullDuplexCall(
	stream grpc.BidiStreamingServer[testpb.StreamingOutputCallRequest, testpb.StreamingOutputCallResponse],
) error {
	return s.duplex(stream)
}

// serve starts a server in memory and returns a connection to it. Both end with the test.
func serve(t *testing.T, s testpb.TestServiceServer, opts ...grpc.ServerOption) *grpc.ClientConn {
	t.Helper()
	listener := bufconn.Listen(1 << 16)
	server := grpc.NewServer(opts...)
	testpb.RegisterTestServiceServer(server, s)
	go func() { _ = server.Serve(listener) }() // ends with server.Stop
	conn, err := grpc.NewClient("passthrough:///memory", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, conn.Close())
		server.Stop()
	})
	return conn
}

// call makes one unary call.
func call(ctx context.Context, conn grpc.ClientConnInterface) error {
	_, err := testpb.NewTestServiceClient(conn).UnaryCall(ctx, &testpb.SimpleRequest{})
	return err
}

type policy = failsafe.Policy[any]

func policies(p ...failsafe.Policy[any]) []failsafe.Policy[any] { return p }

func accountant(t *testing.T, opts ...tap.Option) *tap.Accountant {
	t.Helper()
	a, err := tap.NewAccountant(opts...)
	require.NoError(t, err)
	return a
}

// knock asks a handle about one RPC.
func knock(handle grpctap.ServerInHandle, method string, header ...string) error {
	info := &grpctap.Info{FullMethodName: method, Header: map[string][]string{}}
	for i := 0; i < len(header); i += 2 {
		info.Header[header[i]] = append(info.Header[header[i]], header[i+1])
	}
	_, err := handle(context.Background(), info)
	return err
}
