package unary_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/failsafe-go/failsafe-go"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/streamsafe/streamsafe/internal/testnet"
	"github.com/streamsafe/streamsafe/unary"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type (
	request  = testpb.SimpleRequest
	response = testpb.SimpleResponse
	policies = []failsafe.Policy[any]
	handler  func(context.Context, *request) (*response, error)
	// stub is an invoker that needs no connection.
	stub func(ctx context.Context, reply *response, opts []grpc.CallOption) error
)

const method = "/grpc.testing.TestService/UnaryCall"

// server serves UnaryCall.
type server struct {
	testpb.UnimplementedTestServiceServer
	handle handler
}

func (s server) UnaryCall(ctx context.Context, in *request) (*response, error) {
	return s.handle(ctx, in)
}

// world is a server and a client on a network in memory.
type world struct {
	testpb.TestServiceClient
	*testnet.Memory
}

// options are the options of both sides.
type options struct{ client, server []unary.Option }

func client(opts ...unary.Option) options   { return options{client: opts} }
func onServer(opts ...unary.Option) options { return options{server: opts} }

// start starts a world that ends with the test.
func start(t *testing.T, o options, service testpb.TestServiceServer) *world {
	t.Helper()
	w := &world{Memory: testnet.NewMemory()}
	s := grpc.NewServer(grpc.UnaryInterceptor(unary.ServerInterceptor(o.server...)))
	testpb.RegisterTestServiceServer(s, service)
	listener, served := w.Listener(), make(chan error, 1)
	go func() { served <- s.Serve(listener) }() // ends with Stop; the cleanup waits
	conn, err := w.Client(grpc.WithUnaryInterceptor(unary.ClientInterceptor(o.client...)),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	require.NoError(t, err)
	w.TestServiceClient = testpb.NewTestServiceClient(conn)
	t.Cleanup(func() {
		require.NoError(t, conn.Close())
		require.NoError(t, w.Close())
		s.Stop()
		require.NoError(t, <-served)
	})
	return w
}

// call calls an interceptor with a stub.
func call(ctx context.Context, in grpc.UnaryClientInterceptor, invoke stub, opts ...grpc.CallOption) (*response, error) {
	reply := &response{}
	err := in(ctx, method, &request{}, reply, nil,
		func(ctx context.Context, _ string, _, reply any, _ *grpc.ClientConn, opts ...grpc.CallOption) error {
			return invoke(ctx, as[*response](reply), opts)
		}, opts...)
	return reply, err
}

// handle calls a server's interceptor.
func handle(ctx context.Context, in grpc.UnaryServerInterceptor, h func(context.Context) (any, error)) (any, error) {
	return in(ctx, &request{}, &grpc.UnaryServerInfo{FullMethod: method},
		func(ctx context.Context, _ any) (any, error) { return h(ctx) })
}

func text(s string) *response { return &response{Payload: &testpb.Payload{Body: []byte(s)}} }

func textOf(r *response) string { return string(r.GetPayload().GetBody()) }

// as asserts a type.
func as[T any](v any) T {
	t, ok := v.(T)
	if !ok {
		panic(fmt.Sprintf("%T is no %T", v, t)) //nolint:forbidigo // in predicates there is no other way out
	}
	return t
}

// boom is a handler that panics.
func boom(context.Context) (any, error) {
	panic(errBoom) //nolint:forbidigo // what it is for
}

var errBoom = errors.New("boom")
