package stream_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream"
	"github.com/streamsafe/streamsafe/stream/streamtest"
)

// download receives a feed until its end, through a network that breaks.
func download(ctx context.Context, client testpb.TestServiceClient) (total int, err error) {
	// README: begin
	s, err := stream.Resilient(ctx, client.FullDuplexCall, stream.Callbacks[request, response]{
		// Resume runs first on every attempt. It tells the server where to continue.
		Resume: func(_ context.Context, r *stream.Resumption[request, response]) error {
			return r.Send(resumeFrom(r.Position()))
		},
		// The position that the stream has reached with m.
		Checkpoint: func(m *response) (checkpoint.Position, bool) {
			return checkpoint.Position{Seq: number(m)}, number(m) > 0
		},
		// The highest of our messages that the server has acknowledged.
		Acked: func(m *response) (uint64, bool) {
			return acknowledged(m), acknowledged(m) > 0
		},
		// Recv does not return acknowledgements.
		Control: func(m *response) bool { return number(m) == 0 },
	}, stream.WithReplay(stream.ReplayLimits{Messages: 1000}), stream.WithIdleTimeout(time.Minute))
	if err != nil {
		return 0, err
	}
	defer func() { _ = s.Close() }()
	// README: end
	if err := s.CloseSend(); err != nil {
		return 0, err
	}
	for {
		_, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return total, nil
		}
		if err != nil {
			return total, err
		}
		total++
	}
}

func resumeFrom(p checkpoint.Position) *request { return frame{kind: hello, seq: p.Seq}.request() }

func number(m *response) uint64 {
	if f := frameOf(m); f.kind == data {
		return f.seq
	}
	return 0
}

func acknowledged(m *response) uint64 {
	if f := frameOf(m); f.kind == ack {
		return f.seq
	}
	return 0
}

func ExampleResilient() {
	network := streamtest.NewNetwork()
	server := grpc.NewServer()
	testpb.RegisterTestServiceServer(server, &feed{total: 100})
	listener := network.Listener()
	go func() { _ = server.Serve(listener) }() // ends with the server
	conn, err := network.Client()
	if err != nil {
		fmt.Println(err)
		return
	}
	network.Arm(streamtest.Fault{Kind: streamtest.RST, Direction: streamtest.ToClient, Message: 42, Where: streamtest.Inside})

	total, err := download(context.Background(), testpb.NewTestServiceClient(conn))
	fmt.Println(total, "messages, error:", err)

	_ = conn.Close()
	server.Stop()
	_ = network.Close()
	// Output: 100 messages, error: <nil>
}
