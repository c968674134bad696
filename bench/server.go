package bench

import (
	"encoding/binary"
	"errors"
	"io"
	"net"

	"google.golang.org/grpc"
	testpb "google.golang.org/grpc/interop/grpc_testing"
)

type (
	request  = testpb.StreamingOutputCallRequest
	response = testpb.StreamingOutputCallResponse
)

// ackEvery is the number of messages after which the server acknowledges a flood.
const ackEvery = 64

// headerSize is the size of what the server and the clients read of a message; the rest is padding.
const headerSize = 16

// window is the flow-control window of both sides, in bytes. Without it gRPC guesses one for each connection, and the
// same client would differ from connection to connection.
const window = 1 << 20

// What a request asks for, in the first byte of its payload.
const (
	askNothing = iota // an acknowledgement, every ackEvery messages
	askAnswer         // one message of the request's size
	askFlood          // as many messages of the request's size as its number says
)

// newRequest returns a request whose payload has size bytes.
func newRequest(ask byte, number uint64, size int) *request {
	body := make([]byte, size)
	body[0] = ask
	binary.LittleEndian.PutUint64(body[8:], number)
	return &request{Payload: &testpb.Payload{Body: body}}
}

// newResponse returns a response whose payload has size bytes.
func newResponse(size int) *response {
	return &response{Payload: &testpb.Payload{Body: make([]byte, size)}}
}

// position is the number of a message of the server, zero for an acknowledgement.
func position(m *response) uint64 { return binary.LittleEndian.Uint64(m.GetPayload().GetBody()) }

func setPosition(m *response, seq uint64) { binary.LittleEndian.PutUint64(m.Payload.Body, seq) }

// acked is the number of requests that the server has received, zero where the message does not tell.
func acked(m *response) uint64 { return binary.LittleEndian.Uint64(m.GetPayload().GetBody()[8:]) }

// Server is what both kinds of clients talk to.
type Server struct {
	testpb.UnimplementedTestServiceServer

	grpc     *grpc.Server
	listener net.Listener
}

// NewServer starts a server on a free port of the loopback interface. opts are added to what it takes.
func NewServer(opts ...grpc.ServerOption) (*Server, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // listening on the loopback interface does not wait
	if err != nil {
		return nil, err
	}
	s := &Server{
		grpc:     grpc.NewServer(append(opts, grpc.InitialWindowSize(window), grpc.InitialConnWindowSize(window))...),
		listener: listener,
	}
	testpb.RegisterTestServiceServer(s.grpc, s)
	go func() { _ = s.grpc.Serve(listener) }() // ends with Close, which waits for it
	return s, nil
}

// Close ends the server and its handlers.
func (s *Server) Close() { s.grpc.Stop() }

// Addr is the server's address, "host:port".
func (s *Server) Addr() string { return s.listener.Addr().String() }

// FullDuplexCall does what the requests ask for.
func (s *Server) FullDuplexCall(stream grpc.BidiStreamingServer[request, response]) error {
	var received, sent uint64
	ack := newResponse(headerSize)
	var answer *response
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		received++
		body := m.GetPayload().GetBody()
		count := uint64(1)
		switch body[0] {
		case askNothing:
			if received%ackEvery == 0 {
				binary.LittleEndian.PutUint64(ack.Payload.Body[8:], received)
				if err := stream.Send(ack); err != nil {
					return err
				}
			}
			continue
		case askFlood:
			count = binary.LittleEndian.Uint64(body[8:])
		}
		if answer == nil || len(answer.Payload.Body) != len(body) {
			answer = newResponse(len(body))
		}
		binary.LittleEndian.PutUint64(answer.Payload.Body[8:], received)
		for range count {
			sent++
			setPosition(answer, sent)
			if err := stream.Send(answer); err != nil {
				return err
			}
		}
	}
}
