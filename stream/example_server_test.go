package stream_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream/streamtest"
)

// The server of the examples. Its messages have a number. A client says in its first message which number it has, and the
// server continues after that.

// errRestart is how a server breaks a stream that restarts.
var errRestart = status.Error(codes.Unavailable, "the server restarts")

// startServer starts a server in memory that runs the first handler for the first attempt, and so on. It returns a client
// and a function that stops both.
func startServer(handlers ...func(bidi) error) (client testpb.TestServiceClient, stop func()) {
	network := streamtest.NewNetwork()
	server := grpc.NewServer()
	testpb.RegisterTestServiceServer(server, &feed{handler: inOrder(handlers...)})
	listener := network.Listener()
	go func() { _ = server.Serve(listener) }() // ends with the server
	conn, err := network.Client()
	if err != nil {
		panic(err) //nolint:forbidigo // an example has no other way to fail
	}
	return testpb.NewTestServiceClient(conn), func() {
		_ = conn.Close()
		server.Stop()
		_ = network.Close()
	}
}

// numbersTo is a handler that sends the numbers after the client's position, up to last. Then it ends with err.
func numbersTo(last uint64, err error) func(bidi) error {
	return func(s bidi) error {
		first, recvErr := s.Recv()
		if recvErr != nil {
			return recvErr
		}
		for n := frameOf(first).seq + 1; n <= last; n++ {
			if sendErr := s.Send(frame{kind: data, seq: n}.response()); sendErr != nil {
				return sendErr
			}
		}
		return err
	}
}

// collects is a handler that receives messages and acknowledges those up to acked. It ends with err after the message with the
// number last, or at the client's CloseSend.
func collects(acked, last uint64, err error) func(bidi) error {
	return func(s bidi) error {
		for {
			m, recvErr := s.Recv()
			if errors.Is(recvErr, io.EOF) {
				return err
			}
			if recvErr != nil {
				return recvErr
			}
			n := frameOf(m).seq
			_, _ = fmt.Fprintln(os.Stdout, "server got", n)
			if n <= acked {
				if sendErr := s.Send(frame{kind: ack, seq: n}.response()); sendErr != nil {
					return sendErr
				}
			}
			if n == last {
				return err
			}
		}
	}
}

// item is a message to the server with this number.
func item(n uint64) *request { return frame{kind: data, seq: n}.request() }

// notice is a message that tells the application that the server has lost everything up to a number.
func notice(n uint64) *response { return frame{kind: bookmark, seq: n}.response() }

// overloaded is a message in which the server says that it is overloaded.
func overloaded() frame { return frame{kind: failure} }

// part is a message of group n without a position. groupEnd is the last message of group n, and has a position.
func part(n uint64) frame     { return frame{kind: fragment, seq: n} }
func groupEnd(n uint64) frame { return frame{kind: data, seq: n} }

// position returns the position of a message that has one.
func position(m *response) (checkpoint.Position, bool) {
	f := frameOf(m)
	return checkpoint.Position{Seq: f.seq}, f.kind == data || f.kind == bookmark
}

// describe says what a message is.
func describe(m *response) string {
	f := frameOf(m)
	switch f.kind { //nolint:exhaustive // the others are not for the application
	case fragment:
		return fmt.Sprint("part of ", f.seq)
	case bookmark:
		return fmt.Sprint("lost: everything up to ", f.seq)
	default:
		return fmt.Sprint("number ", f.seq)
	}
}

// answering is the client's answer to m.
func answering(m *response) *request { return frame{kind: ack, seq: number(m)}.request() }

// subscribe and unsubscribe are messages about a topic.
func subscribe(topic string) *request {
	return &request{Payload: &testpb.Payload{Body: []byte("subscribe " + topic)}}
}

func unsubscribe(topic string) *request {
	return &request{Payload: &testpb.Payload{Body: []byte("unsubscribe " + topic)}}
}

func topic(m *request) string {
	_, name, _ := strings.Cut(string(m.GetPayload().GetBody()), " ")
	return name
}

func isUnsubscribe(m *request) bool { return strings.HasPrefix(string(m.GetPayload().GetBody()), "un") }

// subscribers is a handler that receives so many messages about topics, and ends with err.
func subscribers(messages int, err error) func(bidi) error {
	return func(s bidi) error {
		for range messages {
			m, recvErr := s.Recv()
			if recvErr != nil {
				return recvErr
			}
			_, _ = fmt.Fprintln(os.Stdout, "server got", string(m.GetPayload().GetBody()))
		}
		return err
	}
}
