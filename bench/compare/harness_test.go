package compare

import (
	"context"
	"testing"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/failsafegrpc"
	"github.com/stretchr/testify/assert"
	"google.golang.org/grpc"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/streamsafe/streamsafe/unary"
)

type (
	request        = testpb.SimpleRequest
	response       = testpb.SimpleResponse
	policy         = failsafe.Policy[any]
	streamRequest  = testpb.StreamingOutputCallRequest
	streamResponse = testpb.StreamingOutputCallResponse
	invoker        func(ctx context.Context, reply *response, opts []grpc.CallOption) error
	handler        func(ctx context.Context) (any, error)
)

const method = "/grpc.testing.TestService/UnaryCall"

// maker makes the interceptors of one package.
type maker struct {
	client         func(...policy) grpc.UnaryClientInterceptor
	server         func(...policy) grpc.UnaryServerInterceptor
	clientExecutor func(failsafe.Executor[any]) grpc.UnaryClientInterceptor
}

func theirs() maker {
	return maker{
		client:         failsafegrpc.NewUnaryClientInterceptor[any],
		server:         failsafegrpc.NewUnaryServerInterceptor[any],
		clientExecutor: failsafegrpc.NewUnaryClientInterceptorWithExecutor[any],
	}
}

func ours() maker {
	return maker{
		client: func(p ...policy) grpc.UnaryClientInterceptor {
			return unary.ClientInterceptor(unary.WithPolicies(p...))
		},
		server: func(p ...policy) grpc.UnaryServerInterceptor {
			return unary.ServerInterceptor(unary.WithPolicies(p...))
		},
		clientExecutor: func(e failsafe.Executor[any]) grpc.UnaryClientInterceptor {
			return unary.ClientInterceptor(unary.WithExecutor(e))
		},
	}
}

// compare runs a scenario against both packages. It reports whether the rule held.
func compare(t *testing.T, holds func(t *testing.T, m maker) bool) {
	t.Helper()
	assert.True(t, holds(t, ours()), "streamsafe breaks the rule")
	assert.False(t, holds(t, theirs()), "failsafegrpc holds the rule now")
}

// call calls through an interceptor.
func call(ctx context.Context, in grpc.UnaryClientInterceptor, invoke invoker, opts ...grpc.CallOption) (*response, error) {
	reply := &response{}
	err := in(ctx, method, &request{}, reply, nil,
		func(ctx context.Context, _ string, _, reply any, _ *grpc.ClientConn, opts ...grpc.CallOption) error {
			typed, ok := reply.(*response)
			if !ok {
				return context.Canceled // no scenario has another type
			}
			return invoke(ctx, typed, opts)
		}, opts...)
	return reply, err
}

// handle calls a handler through an interceptor.
func handle(ctx context.Context, in grpc.UnaryServerInterceptor, h handler) (any, error) {
	return in(ctx, &request{}, &grpc.UnaryServerInfo{FullMethod: method}, func(ctx context.Context, _ any) (any, error) { return h(ctx) })
}

func text(s string) *response { return &response{Payload: &testpb.Payload{Body: []byte(s)}} }

func textOf(r *response) string { return string(r.GetPayload().GetBody()) }
