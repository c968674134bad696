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
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/internal/testnet"
	"github.com/streamsafe/streamsafe/stream"
)

// The calls of gRPC's own interoperability tests, in all four shapes, with a stock client through the interceptor, and the connection
// broken in every way: each ends as it does on a sound one. The server is that of package interop, which needs more modules than
// this one has. (examples/internal/interop has that package itself, its client too, over TCP and beside package unary.) Its protocol
// knows no numbers and no acknowledgements, so the callbacks count.

// interop is the streaming part of gRPC's interoperability test service.
type interop struct {
	testpb.UnimplementedTestServiceServer
}

func zeros(size int32) *testpb.Payload { return &testpb.Payload{Body: make([]byte, size)} }

func (interop) EmptyCall(context.Context, *testpb.Empty) (*testpb.Empty, error) {
	return new(testpb.Empty), nil
}

func (interop) UnaryCall(_ context.Context, in *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	return &testpb.SimpleResponse{Payload: zeros(in.GetResponseSize())}, nil
}

func (interop) StreamingOutputCall(in *request, s downstream) error { return respond(in, s.Send) }

func respond(in *request, send func(*response) error) error {
	for _, p := range in.GetResponseParameters() {
		if err := send(&response{Payload: zeros(p.GetSize())}); err != nil {
			return err
		}
	}
	return nil
}

func (interop) StreamingInputCall(s upstream) error {
	sum := 0
	for {
		m, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return s.SendAndClose(&answer{AggregatedPayloadSize: int32(sum)}) //nolint:gosec // small
		}
		if err != nil {
			return err
		}
		sum += len(m.GetPayload().GetBody())
	}
}

func (interop) FullDuplexCall(s bidi) error {
	if md, ok := metadata.FromIncomingContext(s.Context()); ok {
		if v := md.Get("x-grpc-test-echo-initial"); len(v) > 0 {
			if err := s.SetHeader(metadata.Pairs("x-grpc-test-echo-initial", v[0])); err != nil {
				return err
			}
		}
		if v := md.Get("x-grpc-test-echo-trailing-bin"); len(v) > 0 {
			s.SetTrailer(metadata.Pairs("x-grpc-test-echo-trailing-bin", v[0]))
		}
	}
	for {
		in, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if st := in.GetResponseStatus(); st.GetCode() != 0 {
			return status.Error(codes.Code(st.GetCode()), st.GetMessage()) //nolint:gosec // a status code
		}
		if err := respond(in, s.Send); err != nil {
			return err
		}
	}
}

func (interop) HalfDuplexCall(s bidi) error {
	var all []*request
	for {
		in, err := s.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		all = append(all, in)
	}
	for _, in := range all {
		if err := respond(in, s.Send); err != nil {
			return err
		}
	}
	return nil
}

// interopOptions make the service's streams resilient.
func interopOptions() []stream.InterceptorOption {
	countsRequests := func(context.Context) callbacks { // each is answered once
		var n uint64
		return callbacks{
			Checkpoint: func(*response) (checkpoint.Position, bool) { return at(n), true },
			Acked:      func(*response) (uint64, bool) { n++; return n, true },
		}
	}
	limits := []stream.ClientOption{stream.WithIdleTimeout(5 * time.Second), stream.WithOpenTimeout(5 * time.Second), stream.WithSendTimeout(5 * time.Second)}
	replaying := append(limits[:len(limits):len(limits)], withReplay())
	return []stream.InterceptorOption{
		stream.ForMethodFunc(outputCall, func(context.Context) callbacks {
			var n uint64
			return callbacks{
				Request: func(original *request, from checkpoint.Position) (*request, error) {
					n = from.Seq
					if original.ResponseParameters = original.ResponseParameters[n:]; len(original.ResponseParameters) == 0 {
						return nil, stream.Complete
					}
					return original, nil
				},
				Checkpoint: func(*response) (checkpoint.Position, bool) { n++; return at(n), true },
			}
		}, limits...),
		stream.ForMethod(inputCall, uploads{}, replaying...),
		stream.ForMethodFunc(duplexCall, countsRequests, replaying...),
		stream.ForMethodFunc(testpb.TestService_HalfDuplexCall_FullMethodName, countsRequests, replaying...),
	}
}

var (
	reqSizes  = []int32{27182, 8, 1828, 45904}
	respSizes = []int32{31415, 9, 2653, 58979}
)

func asking(size, response int32) *request {
	return &request{ResponseParameters: []*testpb.ResponseParameters{{Size: response}}, Payload: zeros(size)}
}

func requireSize(t *testing.T, s grpc.ServerStreamingClient[response], size int32) {
	t.Helper()
	m, err := s.Recv()
	require.NoError(t, err)
	require.Len(t, m.GetPayload().GetBody(), int(size))
}

func requireEOF(t *testing.T, s grpc.ServerStreamingClient[response]) {
	t.Helper()
	_, err := s.Recv()
	require.Equal(t, io.EOF, err)
}

// unary makes a unary call, which passes the interceptor untouched: a fault ends it with UNAVAILABLE, at the most once, and nothing
// that streams have done to the connection keeps the next one from passing.
func unary(t *testing.T, call func() error) {
	t.Helper()
	if err := call(); err != nil {
		require.Equal(t, codes.Unavailable, status.Code(err), "%v", err)
		require.NoError(t, call(), "the call after the fault")
	}
}

// interopCalls are the cases of the specification. Those that cancel at once may be over before anything breaks.
func interopCalls() map[string]func(t *testing.T, ctx context.Context, stock testpb.TestServiceClient) {
	return map[string]func(t *testing.T, ctx context.Context, stock testpb.TestServiceClient){
		"empty_unary": func(t *testing.T, ctx context.Context, stock testpb.TestServiceClient) {
			t.Helper()
			unary(t, func() error {
				_, err := stock.EmptyCall(ctx, new(testpb.Empty), grpc.WaitForReady(true))
				return err
			})
		},
		"large_unary": func(t *testing.T, ctx context.Context, stock testpb.TestServiceClient) {
			t.Helper()
			unary(t, func() error {
				m, err := stock.UnaryCall(ctx, &testpb.SimpleRequest{ResponseSize: 314159, Payload: zeros(271828)}, grpc.WaitForReady(true))
				if err == nil {
					require.Len(t, m.GetPayload().GetBody(), 314159)
				}
				return err
			})
		},
		"client_streaming": func(t *testing.T, ctx context.Context, stock testpb.TestServiceClient) {
			t.Helper()
			s, err := stock.StreamingInputCall(ctx)
			require.NoError(t, err)
			for _, size := range reqSizes {
				require.NoError(t, s.Send(&uploadPart{Payload: zeros(size)}))
			}
			m, err := s.CloseAndRecv()
			require.NoError(t, err)
			require.Equal(t, int32(74922), m.GetAggregatedPayloadSize())
		},
		"server_streaming": func(t *testing.T, ctx context.Context, stock testpb.TestServiceClient) {
			t.Helper()
			in := new(request)
			for _, size := range respSizes {
				in.ResponseParameters = append(in.ResponseParameters, &testpb.ResponseParameters{Size: size})
			}
			s, err := stock.StreamingOutputCall(ctx, in)
			require.NoError(t, err)
			for _, size := range respSizes {
				requireSize(t, s, size)
			}
			requireEOF(t, s)
		},
		"ping_pong": func(t *testing.T, ctx context.Context, stock testpb.TestServiceClient) {
			t.Helper()
			s, err := stock.FullDuplexCall(ctx)
			require.NoError(t, err)
			for i, size := range reqSizes {
				require.NoError(t, s.Send(asking(size, respSizes[i])))
				requireSize(t, s, respSizes[i])
			}
			require.NoError(t, s.CloseSend())
			requireEOF(t, s)
		},
		"half_duplex": func(t *testing.T, ctx context.Context, stock testpb.TestServiceClient) {
			t.Helper()
			s, err := stock.HalfDuplexCall(ctx)
			require.NoError(t, err)
			for i, size := range reqSizes {
				require.NoError(t, s.Send(asking(size, respSizes[i])))
			}
			require.NoError(t, s.CloseSend())
			for _, size := range respSizes {
				requireSize(t, s, size)
			}
			requireEOF(t, s)
		},
		"empty_stream": func(t *testing.T, ctx context.Context, stock testpb.TestServiceClient) {
			t.Helper()
			s, err := stock.FullDuplexCall(ctx)
			require.NoError(t, err)
			require.NoError(t, s.CloseSend())
			requireEOF(t, s)
		},
		"custom_metadata": func(t *testing.T, ctx context.Context, stock testpb.TestServiceClient) {
			t.Helper()
			ctx = metadata.AppendToOutgoingContext(ctx,
				"x-grpc-test-echo-initial", "test_initial_metadata_value", "x-grpc-test-echo-trailing-bin", "\x0a\x0b\x0a")
			s, err := stock.FullDuplexCall(ctx)
			require.NoError(t, err)
			require.NoError(t, s.Send(asking(8, 8)))
			requireSize(t, s, 8)
			header, err := s.Header()
			require.NoError(t, err)
			require.Equal(t, []string{"test_initial_metadata_value"}, header.Get("x-grpc-test-echo-initial"))
			require.NoError(t, s.CloseSend())
			requireEOF(t, s)
			require.Equal(t, []string{"\x0a\x0b\x0a"}, s.Trailer().Get("x-grpc-test-echo-trailing-bin"))
		},
		"status_code_and_message": func(t *testing.T, ctx context.Context, stock testpb.TestServiceClient) {
			t.Helper()
			s, err := stock.FullDuplexCall(ctx)
			require.NoError(t, err)
			require.NoError(t, s.Send(&request{ResponseStatus: &testpb.EchoStatus{Code: 2, Message: "test status message"}}))
			require.NoError(t, s.CloseSend())
			_, err = s.Recv()
			require.Equal(t, codes.Unknown, status.Code(err))
			require.Equal(t, "test status message", status.Convert(err).Message())
		},
		"cancel_after_begin": func(t *testing.T, ctx context.Context, stock testpb.TestServiceClient) {
			t.Helper()
			ctx, cancel := context.WithCancel(ctx)
			s, err := stock.StreamingInputCall(ctx)
			require.NoError(t, err)
			cancel()
			_, err = s.CloseAndRecv()
			require.Equal(t, codes.Canceled, status.Code(err))
		},
		"cancel_after_first_response": func(t *testing.T, ctx context.Context, stock testpb.TestServiceClient) {
			t.Helper()
			ctx, cancel := context.WithCancel(ctx)
			s, err := stock.FullDuplexCall(ctx)
			require.NoError(t, err)
			require.NoError(t, s.Send(asking(27182, 31415)))
			requireSize(t, s, 31415)
			cancel()
			_, err = s.Recv()
			require.Equal(t, codes.Canceled, status.Code(err))
		},
		"timeout_on_sleeping_server": func(t *testing.T, ctx context.Context, stock testpb.TestServiceClient) {
			t.Helper()
			ctx, cancel := context.WithTimeout(ctx, time.Minute)
			defer cancel()
			s, err := stock.FullDuplexCall(ctx)
			require.NoError(t, err)
			require.NoError(t, s.Send(&request{Payload: zeros(27182)}))
			_, err = s.Recv()
			require.Equal(t, codes.DeadlineExceeded, status.Code(err))
		},
	}
}

func TestInteropCallsThroughFaults(t *testing.T) {
	t.Parallel()
	for name, call := range interopCalls() {
		for kind := testnet.FIN; kind <= testnet.Truncate; kind++ {
			for _, direction := range []testnet.Direction{testnet.ToServer, testnet.ToClient} {
				t.Run(fmt.Sprintf("%s/%v %v", name, kind, direction), func(t *testing.T) {
					t.Parallel()
					for message := 1; message <= len(reqSizes); message++ {
						synctest.Test(t, func(t *testing.T) {
							w, stock := stocked(t, interop{}, interopOptions()...)
							w.Arm(testnet.Fault{
								Kind: kind, Direction: direction, Message: message, Where: testnet.Inside, Total: true, For: 15 * time.Second,
							})
							for range 2 {
								call(t, w.watch.context(t.Context()), stock)
							}
						})
					}
				})
			}
		}
		t.Run(name+"/no fault", func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w, stock := stocked(t, interop{}, interopOptions()...)
				call(t, w.watch.context(t.Context()), stock)
				require.Equal(t, 1, w.Stats().Connections)
			})
		})
	}
}
