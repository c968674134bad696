package stream_test

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream"
	"github.com/streamsafe/streamsafe/stream/streamtest"
)

// The server breaks the download after number 2. The next request asks for what follows.
func ExampleResilientServerStreaming() {
	client, stop := startWarehouse(&warehouse{download: inParts(2, 4)})
	defer stop()

	s, err := stream.ResilientServerStreaming(context.Background(), client.StreamingOutputCall,
		func(from checkpoint.Position) (*request, error) {
			fmt.Println("asking for what follows", from.Seq)
			return resumeFrom(from), nil
		},
		stream.Callbacks[request, response]{Checkpoint: position})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = s.Close() }()
	for m, err := s.Recv(); err == nil; m, err = s.Recv() {
		fmt.Println(describe(m))
	}
	// Output:
	// asking for what follows 0
	// number 1
	// number 2
	// asking for what follows 2
	// number 3
	// number 4
}

// The server breaks the upload when it has message 2. Resume asks it in another call how much it has, so only message 3 is sent
// again.
func ExampleResilientClientStreaming() {
	server := breaksAfter(2)
	client, stop := startWarehouse(server)
	defer stop()

	s, err := stream.ResilientClientStreaming(context.Background(), client.StreamingInputCall,
		stream.Callbacks[uploadPart, answer]{
			Resume: func(_ context.Context, r *stream.Resumption[uploadPart, answer]) error {
				if r.Attempt() > 1 {
					stored := server.has() // with another call of the client
					fmt.Println("the server has", stored)
					r.Acknowledge(stored)
				}
				return nil
			},
		}, stream.WithReplay(stream.ReplayLimits{}))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = s.Close() }()
	for n := range uint64(3) {
		if err := s.Send(piece(n + 1)); err != nil {
			fmt.Println(err)
		}
	}
	m, err := s.CloseAndRecv()
	fmt.Println("stored:", m.GetAggregatedPayloadSize(), err)
	// Output:
	// the server has 2
	// stored: 3 <nil>
}

// A generated client becomes resilient, and its call sites stay as they are.
func ExampleClientInterceptor() {
	network, stop := serveWarehouse(&warehouse{download: inParts(2, 4)})
	defer stop()

	download := stream.ForMethod(testpb.TestService_StreamingOutputCall_FullMethodName, stream.Callbacks[request, response]{
		// original is what the application has sent. Request makes of it what asks for the rest.
		Request: func(original *request, from checkpoint.Position) (*request, error) {
			if from.Seq > 0 {
				original.Payload = resumeFrom(from).GetPayload()
			}
			return original, nil
		},
		Checkpoint: position,
	})
	if err := stream.ValidateClient(download); err != nil {
		fmt.Println(err)
		return
	}
	conn, err := network.Client(grpc.WithStreamInterceptor(stream.ClientInterceptor(download)))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = conn.Close() }()

	s, err := testpb.NewTestServiceClient(conn).StreamingOutputCall(context.Background(), resumeFrom(checkpoint.Position{}))
	if err != nil {
		fmt.Println(err)
		return
	}
	for {
		m, err := s.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(describe(m))
	}
	// Output:
	// number 1
	// number 2
	// number 3
	// number 4
}

// The messages have no numbers, but the server can skip what the client has. So the callbacks count, for each stream.
func ExampleForMethodFunc() {
	counting := stream.ForMethodFunc("/grpc.testing.TestService/StreamingOutputCall", func(context.Context) stream.Callbacks[request, response] {
		var received uint64
		return stream.Callbacks[request, response]{
			Request: func(original *request, from checkpoint.Position) (*request, error) {
				received = from.Seq
				original.ResponseParameters = original.ResponseParameters[received:]
				return original, nil
			},
			Checkpoint: func(*response) (checkpoint.Position, bool) {
				received++
				return checkpoint.Position{Seq: received}, true
			},
		}
	})
	fmt.Println(stream.ValidateClient(counting))
	// Output:
	// <nil>
}

// inParts is a download of the numbers up to last that breaks after the number first.
func inParts(first, last uint64) func(*request, downstream) error {
	return func(r *request, s downstream) error {
		for n := frameOf(r).seq + 1; n <= last; n++ {
			if err := s.Send(frame{kind: data, seq: n}.response()); err != nil {
				return err
			}
			if n == first {
				return errRestart
			}
		}
		return nil
	}
}

// breaksAfter is a server that breaks the first upload when it has so many messages.
func breaksAfter(messages uint64) *warehouse {
	h := &warehouse{}
	h.upload = func(s upstream, n int) error {
		for n > 0 || h.has() < messages {
			m, err := s.Recv()
			if errors.Is(err, io.EOF) {
				return s.SendAndClose(h.answer())
			}
			if err != nil {
				return err
			}
			h.store(n, frameOf(m).seq)
		}
		return errRestart
	}
	return h
}

// startWarehouse starts a server in memory. It returns a client and a function that stops both.
func startWarehouse(h *warehouse) (client testpb.TestServiceClient, stop func()) {
	network, stopServer := serveWarehouse(h)
	conn, err := network.Client()
	if err != nil {
		panic(err) //nolint:forbidigo // an example has no other way to fail
	}
	return testpb.NewTestServiceClient(conn), func() {
		_ = conn.Close()
		stopServer()
	}
}

func serveWarehouse(h *warehouse) (network *streamtest.Network, stop func()) {
	network = streamtest.NewNetwork()
	server := grpc.NewServer()
	testpb.RegisterTestServiceServer(server, h)
	listener := network.Listener()
	go func() { _ = server.Serve(listener) }() // ends with the server
	return network, func() {
		server.Stop()
		_ = network.Close()
	}
}
