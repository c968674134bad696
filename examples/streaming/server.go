package main

import (
	"errors"
	"io"
	"net"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/examples/streaming/countpb"
)

// maxSessions bounds what clients can make the server hold. A server that runs for long would forget old sessions.
const maxSessions = 1024

// counter is the server. Its sessions outlive the handlers, as they would in a database.
type counter struct {
	countpb.UnimplementedCounterServer

	mu       sync.Mutex // guards the field below
	sessions map[string]*session
}

type serverStream = grpc.BidiStreamingServer[countpb.Request, countpb.Response]

// Count is the handler of one attempt.
func (c *counter) Count(s serverStream) error {
	first, err := s.Recv()
	if err != nil {
		return err
	}
	hello := first.GetHello()
	if hello.GetSession() == "" {
		return status.Error(codes.InvalidArgument, "the first message is no hello with a session")
	}
	session, err := c.session(hello)
	if err != nil {
		return err
	}
	owner, received, err := session.attach(hello)
	if err != nil {
		return err
	}
	if err := s.Send(welcome(received)); err != nil {
		return err
	}
	for next := hello.GetPosition() + 1; ; {
		if next, err = sendAnswers(s, session, owner, next); err != nil {
			return err
		}
		m, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil // every line is answered, and there will be no more
		}
		if err != nil {
			return err
		}
		if err := session.store(owner, m.GetLine()); err != nil {
			return err
		}
	}
}

// session returns the session that a hello names. One that nobody knows is new, if the client says so too.
func (c *counter) session(hello *countpb.Hello) (*session, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known, ok := c.sessions[hello.GetSession()]; ok {
		return known, nil
	}
	if hello.GetPosition() > 0 {
		return nil, status.Error(codes.OutOfRange, "the session is gone")
	}
	if len(c.sessions) >= maxSessions {
		return nil, status.Error(codes.ResourceExhausted, "too many sessions")
	}
	if c.sessions == nil {
		c.sessions = make(map[string]*session)
	}
	created := &session{}
	c.sessions[hello.GetSession()] = created
	return created, nil
}

// sendAnswers sends the answers from number next on, and returns the number after the last one.
func sendAnswers(s serverStream, from *session, owner int, next uint64) (uint64, error) {
	answers, err := from.answers(owner, next)
	if err != nil {
		return next, err
	}
	for _, answer := range answers {
		if err := s.Send(&countpb.Response{Kind: &countpb.Response_Answer{Answer: answer}}); err != nil {
			return next, err
		}
		next++
	}
	return next, nil
}

func welcome(received uint64) *countpb.Response {
	return &countpb.Response{Kind: &countpb.Response_Welcome{Welcome: &countpb.Welcome{Received: received}}}
}

// serve starts the server on a listener of its own and returns the function that stops it.
func serve(listener net.Listener, opts ...grpc.ServerOption) (stop func()) {
	server := grpc.NewServer(opts...)
	countpb.RegisterCounterServer(server, &counter{})
	var running sync.WaitGroup
	running.Go(func() { _ = server.Serve(listener) }) // ends with the server; stop waits
	return func() {
		server.Stop()
		running.Wait()
	}
}
