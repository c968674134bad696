package unary_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go/timeout"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/internal/testnet"
	"github.com/streamsafe/streamsafe/unary"
)

// interop is the unary part of gRPC's interoperability test service.
type interop struct {
	testpb.UnimplementedTestServiceServer
}

func (interop) EmptyCall(context.Context, *testpb.Empty) (*testpb.Empty, error) {
	return &testpb.Empty{}, nil
}

func (interop) UnaryCall(ctx context.Context, in *request) (*response, error) {
	if md, ok := metadata.FromIncomingContext(ctx); ok {
		for _, v := range md.Get("x-grpc-test-echo-initial") {
			if err := grpc.SetHeader(ctx, metadata.Pairs("x-grpc-test-echo-initial", v)); err != nil {
				return nil, err
			}
		}
		for _, v := range md.Get("x-grpc-test-echo-trailing-bin") {
			if err := grpc.SetTrailer(ctx, metadata.Pairs("x-grpc-test-echo-trailing-bin", v)); err != nil {
				return nil, err
			}
		}
	}
	if st := in.GetResponseStatus(); st != nil && st.GetCode() != 0 {
		return nil, status.Error(codes.Code(st.GetCode()), st.GetMessage()) //nolint:gosec // a status code
	}
	return &response{Payload: &testpb.Payload{Body: make([]byte, in.GetResponseSize())}}, nil
}

// The unary calls of gRPC's own interoperability tests, with the connection broken in every way at their messages: each
// ends as it does on a sound one.
func TestInteropCallsThroughFaults(t *testing.T) {
	t.Parallel()
	calls := map[string]func(t *testing.T, w *world){
		"empty_unary": func(t *testing.T, w *world) {
			t.Helper()
			reply, err := w.EmptyCall(t.Context(), &testpb.Empty{})
			require.NoError(t, err)
			require.NotNil(t, reply)
		},
		"large_unary": func(t *testing.T, w *world) {
			t.Helper()
			const requestSize, responseSize = 271828, 314159
			reply, err := w.UnaryCall(t.Context(), &request{
				ResponseSize: responseSize, Payload: &testpb.Payload{Body: make([]byte, requestSize)},
			})
			require.NoError(t, err)
			require.Len(t, reply.GetPayload().GetBody(), responseSize)
		},
		"custom_metadata": func(t *testing.T, w *world) {
			t.Helper()
			ctx := metadata.AppendToOutgoingContext(t.Context(),
				"x-grpc-test-echo-initial", "test_initial_metadata_value", "x-grpc-test-echo-trailing-bin", "\x0a\x0b\x0a")
			var header, trailer metadata.MD
			_, err := w.UnaryCall(ctx, &request{}, grpc.Header(&header), grpc.Trailer(&trailer))
			require.NoError(t, err)
			require.Equal(t, []string{"test_initial_metadata_value"}, header.Get("x-grpc-test-echo-initial"))
			require.Equal(t, []string{"\x0a\x0b\x0a"}, trailer.Get("x-grpc-test-echo-trailing-bin"))
		},
		"status_code_and_message": func(t *testing.T, w *world) {
			t.Helper()
			_, err := w.UnaryCall(t.Context(), &request{ResponseStatus: &testpb.EchoStatus{Code: 2, Message: "test status message"}})
			require.Equal(t, codes.Unknown, status.Code(err))
			require.Equal(t, "test status message", status.Convert(err).Message())
		},
		"unimplemented_method": func(t *testing.T, w *world) {
			t.Helper()
			_, err := w.UnimplementedCall(t.Context(), &testpb.Empty{})
			require.Equal(t, codes.Unimplemented, status.Code(err))
		},
	}
	for name, test := range calls {
		for kind := testnet.FIN; kind <= testnet.Truncate; kind++ {
			for _, direction := range []testnet.Direction{testnet.ToServer, testnet.ToClient} {
				t.Run(fmt.Sprintf("%s/%v %v", name, kind, direction), func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) {
						w := start(t, client(
							unary.WithIdempotent("*"),
							unary.WithPolicies(unary.NewRetryPolicyBuilder().Build(), timeout.New[any](10*time.Second)),
						), interop{})
						w.Arm(testnet.Fault{
							Kind: kind, Direction: direction, Message: 1, Where: testnet.Inside, Total: true, For: 15 * time.Second,
						})
						for range 2 {
							test(t, w)
						}
					})
				})
			}
		}
	}
}
