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
	"github.com/streamsafe/streamsafe/stream"
)

// maxSessions bounds what clients can make the server hold. A server that runs for long would forget old sessions.
const maxSessions = 1024

// counter is the service. Its sessions outlive the handlers, as they would in a database.
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
	if err := session.answers.Confirm(hello.GetConfirmed()); err != nil {
		return err
	}
	if err := s.Send(welcome(session.lines.Received())); err != nil {
		return err
	}
	for sent := hello.GetPosition(); ; {
		answers, err := session.answers.After(sent)
		if err != nil {
			return err
		}
		for number, answer := range answers {
			if err := s.Send(&countpb.Response{Kind: &countpb.Response_Answer{Answer: answer}}); err != nil {
				return err
			}
			sent = number
		}
		m, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil // every line is answered, and there will be no more
		}
		if err != nil {
			return err
		}
		if err := session.store(m.GetLine()); err != nil {
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
	created := newSession()
	c.sessions[hello.GetSession()] = created
	return created, nil
}

func welcome(received uint64) *countpb.Response {
	return &countpb.Response{Kind: &countpb.Response_Welcome{Welcome: &countpb.Welcome{Received: received}}}
}

// server is a running one. Its interceptor ends the handler of an attempt when a newer one comes, and its drainer moves clients
// to another server.
type server struct {
	grpc    *grpc.Server    // set at construction, then read only
	drainer *stream.Drainer // set at construction, then read only
	running sync.WaitGroup
}

// serve starts a server on a listener of its own.
func serve(listener net.Listener, c *counter, interceptors ...grpc.StreamServerInterceptor) *server {
	s := &server{drainer: stream.NewDrainer(stream.DrainWindow(drainWindow))}
	interceptors = append([]grpc.StreamServerInterceptor{stream.ServerInterceptor(stream.WithDrainer(s.drainer))}, interceptors...)
	s.grpc = grpc.NewServer(grpc.ChainStreamInterceptor(interceptors...))
	countpb.RegisterCounterServer(s.grpc, c)
	s.running.Go(func() { _ = s.grpc.Serve(listener) }) // ends with the server; stop waits
	return s
}

func (s *server) stop() {
	s.grpc.Stop()
	s.running.Wait()
}
