package interop_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/interop"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream"
	"github.com/streamsafe/streamsafe/stream/streamtest"
	"github.com/streamsafe/streamsafe/unary"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

type (
	request   = testpb.StreamingOutputCallRequest
	response  = testpb.StreamingOutputCallResponse
	callbacks = stream.Callbacks[request, response]
)

// The sizes of the specification.
var (
	reqSizes  = []int{27182, 8, 1828, 45904}
	respSizes = []int32{31415, 9, 2653, 58979}
)

// resilient makes a stock client's calls survive, the streams and the unary ones.
func resilient() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithUnaryInterceptor(unary.ClientInterceptor(
			unary.WithPolicies(unary.NewRetryPolicyBuilder().WithBackoff(time.Millisecond, 20*time.Millisecond).Build()))),
		grpc.WithStreamInterceptor(stream.ClientInterceptor(
			stream.ForMethodFunc(testpb.TestService_StreamingOutputCall_FullMethodName, downloads, backs()),
			stream.ForMethod(testpb.TestService_StreamingInputCall_FullMethodName,
				stream.Callbacks[testpb.StreamingInputCallRequest, testpb.StreamingInputCallResponse]{},
				stream.WithReplay(stream.ReplayLimits{}), backs()),
			stream.ForMethodFunc(testpb.TestService_FullDuplexCall_FullMethodName, answers, stream.WithReplay(stream.ReplayLimits{}), backs()),
		)),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: time.Millisecond, Multiplier: 1.6, MaxDelay: 20 * time.Millisecond},
			MinConnectTimeout: 5 * time.Second,
		}),
	}
}

func backs() stream.ClientOption {
	return stream.WithStreamPolicies(stream.NewRetryPolicyBuilder().WithBackoff(time.Millisecond, 20*time.Millisecond).Build())
}

// downloads ask for the responses that have not come.
func downloads(context.Context) callbacks {
	var got uint64
	return callbacks{
		Request: func(original *request, from checkpoint.Position) (*request, error) {
			got = from.Seq
			if original.ResponseParameters = original.ResponseParameters[got:]; len(original.ResponseParameters) == 0 {
				return nil, stream.Complete
			}
			return original, nil
		},
		Checkpoint: func(*response) (checkpoint.Position, bool) {
			got++
			return checkpoint.Position{Seq: got}, true
		},
	}
}

// answers count: the server answers each request once.
func answers(context.Context) callbacks {
	var got uint64
	return callbacks{
		Checkpoint: func(*response) (checkpoint.Position, bool) { return checkpoint.Position{Seq: got}, true },
		Acked:      func(*response) (uint64, bool) { got++; return got, true },
	}
}

// allShapes makes a call of each of the four shapes, as the specification has them.
func allShapes(ctx context.Context, stock testpb.TestServiceClient) error {
	for name, call := range map[string]func(context.Context, testpb.TestServiceClient) error{
		"UnaryCall": unaryCall, "StreamingInputCall": streamingInputCall, "StreamingOutputCall": streamingOutputCall,
		"FullDuplexCall": fullDuplexCall,
	} {
		if err := call(ctx, stock); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func payload(size int) *testpb.Payload {
	return interop.ClientNewPayload(testpb.PayloadType_COMPRESSABLE, size)
}

func unaryCall(ctx context.Context, stock testpb.TestServiceClient) error {
	m, err := stock.UnaryCall(ctx, &testpb.SimpleRequest{ResponseSize: 314159, Payload: payload(271828)})
	if err == nil && len(m.GetPayload().GetBody()) != 314159 {
		return fmt.Errorf("the response has %d bytes", len(m.GetPayload().GetBody()))
	}
	return err
}

func streamingInputCall(ctx context.Context, stock testpb.TestServiceClient) error {
	s, err := stock.StreamingInputCall(ctx)
	if err != nil {
		return err
	}
	for _, size := range reqSizes {
		if err := s.Send(&testpb.StreamingInputCallRequest{Payload: payload(size)}); err != nil {
			return err
		}
	}
	m, err := s.CloseAndRecv()
	if err == nil && m.GetAggregatedPayloadSize() != 74922 {
		return fmt.Errorf("the server got %d bytes", m.GetAggregatedPayloadSize())
	}
	return err
}

func streamingOutputCall(ctx context.Context, stock testpb.TestServiceClient) error {
	in := new(request)
	for _, size := range respSizes {
		in.ResponseParameters = append(in.ResponseParameters, &testpb.ResponseParameters{Size: size})
	}
	s, err := stock.StreamingOutputCall(ctx, in)
	if err != nil {
		return err
	}
	for _, size := range respSizes {
		if err := receive(s, size); err != nil {
			return err
		}
	}
	return ends(s)
}

func fullDuplexCall(ctx context.Context, stock testpb.TestServiceClient) error {
	s, err := stock.FullDuplexCall(ctx)
	if err != nil {
		return err
	}
	for i, size := range reqSizes {
		in := &request{ResponseParameters: []*testpb.ResponseParameters{{Size: respSizes[i]}}, Payload: payload(size)}
		if err := s.Send(in); err != nil {
			return err
		}
		if err := receive(s, respSizes[i]); err != nil {
			return err
		}
	}
	if err := s.CloseSend(); err != nil {
		return err
	}
	return ends(s)
}

func receive(s grpc.ServerStreamingClient[response], size int32) error {
	m, err := s.Recv()
	if err == nil && len(m.GetPayload().GetBody()) != int(size) {
		return fmt.Errorf("a response has %d bytes, not %d", len(m.GetPayload().GetBody()), size)
	}
	return err
}

func ends(s grpc.ServerStreamingClient[response]) error {
	m, err := s.Recv()
	if !errors.Is(err, io.EOF) {
		return fmt.Errorf("no end, but %v (%w)", m, err)
	}
	return nil
}

// serve returns a connection of a stock client through a proxy to grpc's own service.
func serve(t *testing.T) (*streamtest.Proxy, testpb.TestServiceClient) {
	t.Helper()
	proxy, err := streamtest.NewProxy("")
	if err != nil {
		t.Fatal(err)
	}
	listener, err := proxy.Listen()
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	testpb.RegisterTestServiceServer(server, interop.NewTestServer())
	go func() { _ = server.Serve(listener) }() // ends with the server, which the cleanup stops
	conn, err := proxy.Client(resilient()...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
		_ = proxy.Close()
	})
	return proxy, testpb.NewTestServiceClient(conn)
}

// The proxy breaks the connection before, in and after each message of the four calls, each way.
func TestAllShapesThroughTheProxy(t *testing.T) {
	t.Parallel()
	const messages = 10 // each way
	for _, kind := range []streamtest.Kind{streamtest.FIN, streamtest.RST, streamtest.Truncate} {
		for _, direction := range []streamtest.Direction{streamtest.ToServer, streamtest.ToClient} {
			t.Run(fmt.Sprint(kind, " ", direction), func(t *testing.T) {
				t.Parallel()
				for n := 1; n <= messages; n++ {
					for _, where := range []streamtest.Where{streamtest.Before, streamtest.Inside, streamtest.After} {
						fault := streamtest.Fault{Kind: kind, Direction: direction, Message: n, Where: where, Total: true}
						proxy, stock := serve(t)
						cut := make(chan struct{})
						proxy.OnCut(func(streamtest.Cut) { close(cut) }) // it happens once
						proxy.Arm(fault)
						ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
						err := allShapes(ctx, stock)
						select {
						case <-cut:
						case <-ctx.Done():
							err = errors.Join(err, errors.New("there was no cut"))
						}
						cancel()
						if err != nil {
							t.Fatalf("%v: %v", fault, err)
						}
					}
				}
			})
		}
	}
}

// grpc's own test client, as it is. Its functions end the process if something is wrong. Left out is DoStatusCodeAndMessage, which
// compares the whole text of an error: ours begins with what the stream did before.
func TestTheirOwnClientThroughTheProxy(t *testing.T) {
	t.Parallel()
	proxy, stock := serve(t)
	proxy.Chaos(streamtest.Chaos{Seed: 1, Messages: 12})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for range 20 {
		interop.DoEmptyUnaryCall(ctx, stock)
		interop.DoLargeUnaryCall(ctx, stock)
		interop.DoClientStreaming(ctx, stock)
		interop.DoServerStreaming(ctx, stock)
		interop.DoPingPong(ctx, stock)
		interop.DoEmptyStream(ctx, stock)
		interop.DoCancelAfterBegin(ctx, stock)
		interop.DoCancelAfterFirstResponse(ctx, stock)
		interop.DoCustomMetadata(ctx, stock)
		interop.DoSpecialStatusMessage(ctx, stock)
	}
	if cuts := len(proxy.Report().Cuts); cuts < 10 {
		t.Errorf("%d cuts", cuts)
	}
}
