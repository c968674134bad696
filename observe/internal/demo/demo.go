// Package demo is a server of streams that can be broken, and streams to it, for the tests of observers.
package demo

import (
	"context"
	"encoding/binary"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream"
)

type (
	// Request is what a stream sends.
	Request = testpb.StreamingOutputCallRequest
	// Response is what it receives.
	Response = testpb.StreamingOutputCallResponse
	// Stream is a stream to the server.
	Stream = stream.ClientStream[Request, Response]
)

// Method is the name of the method of the streams.
const Method = "/grpc.testing.TestService/FullDuplexCall"

// Server numbers messages, and sends one each millisecond.
type Server struct {
	testpb.UnimplementedTestServiceServer

	server *grpc.Server
	conn   *grpc.ClientConn
	done   sync.WaitGroup // the goroutine that serves

	mu      sync.Mutex // guards the fields below
	refuses bool
	broken  chan struct{} // closed when handlers have to end
}

// Start starts a server.
func Start(ctx context.Context, opts ...stream.ServerOption) (*Server, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &Server{server: grpc.NewServer(grpc.StreamInterceptor(stream.ServerInterceptor(opts...))), broken: make(chan struct{})}
	testpb.RegisterTestServiceServer(s.server, s)
	s.done.Go(func() { _ = s.server.Serve(listener) }) // ends with the server
	s.conn, err = grpc.NewClient(listener.Addr().String(), stream.DialOptions(insecure.NewCredentials())...)
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Close ends the server and the connection to it.
func (s *Server) Close() {
	if s.conn != nil {
		_ = s.conn.Close()
	}
	s.server.Stop()
	s.done.Wait()
}

// Break ends all streams. Until Mend, new attempts fail.
func (s *Server) Break() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.refuses {
		s.refuses = true
		close(s.broken)
	}
}

// Mend lets streams work again.
func (s *Server) Mend() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuses {
		s.refuses, s.broken = false, make(chan struct{})
	}
}

// FullDuplexCall sends a message each millisecond, after the number that the first message has.
func (s *Server) FullDuplexCall(out testpb.TestService_FullDuplexCallServer) error {
	s.mu.Lock()
	refuses, broken := s.refuses, s.broken
	s.mu.Unlock()
	gone := status.Error(codes.Unavailable, "<b>the server is broken</b>")
	if refuses {
		return gone
	}
	first, err := out.Recv()
	if err != nil {
		return err
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for n := binary.LittleEndian.Uint64(first.GetPayload().GetBody()) + 1; ; n++ {
		if err := out.Send(&Response{Payload: number(n)}); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-broken:
			return gone
		case <-out.Context().Done():
			return status.FromContextError(out.Context().Err()).Err()
		}
	}
}

func number(n uint64) *testpb.Payload {
	return &testpb.Payload{Body: binary.LittleEndian.AppendUint64(nil, n)}
}

// Open opens a stream, and receives until it ends.
func (s *Server) Open(ctx context.Context, opts ...stream.ClientOption) (*Stream, error) {
	opened, err := stream.Resilient(ctx, testpb.NewTestServiceClient(s.conn).FullDuplexCall, stream.Callbacks[Request, Response]{
		Resume: func(_ context.Context, r *stream.Resumption[Request, Response]) error {
			return r.Send(&Request{Payload: number(r.Position().Seq)})
		},
		Checkpoint: func(m *Response) (checkpoint.Position, bool) {
			return checkpoint.Position{Lineage: "demo", Seq: binary.LittleEndian.Uint64(m.GetPayload().GetBody())}, true
		},
	}, opts...)
	if err != nil {
		return nil, err
	}
	go func() { // ends with the stream; nobody waits for it
		for err := error(nil); err == nil; {
			_, err = opened.Recv()
		}
	}()
	return opened, nil
}
