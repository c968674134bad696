package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream"
)

// Client is a kind of client.
type Client string

// The kinds of clients.
const (
	Bare       Client = "bare"       // what the generated method returns
	Checkpoint Client = "checkpoint" // resilient: each message of the server has a position
	Replay     Client = "replay"     // Checkpoint, and messages are kept until they are acknowledged
	Idle       Client = "idle"       // Checkpoint, and an idle timeout
	Policies   Client = "policies"   // Checkpoint, and a circuit breaker and a rate limiter on each message, both ways
	Executor   Client = "executor"   // Policies, through an executor
)

// Clients returns the kinds of clients, Bare first.
func Clients() []Client { return []Client{Bare, Checkpoint, Replay, Idle, Policies, Executor} }

// Sizes returns the sizes of payloads, in bytes.
func Sizes() []int { return []int{16, 1 << 10, 64 << 10} }

// SizeName returns the size as in "64KiB".
func SizeName(size int) string {
	if size < 1<<10 {
		return fmt.Sprintf("%dB", size)
	}
	return fmt.Sprintf("%dKiB", size>>10)
}

// Workload is something that a session does n times.
type Workload struct {
	Name string
	Run  func(s *Session, n int) error
}

// Workloads returns all of them.
func Workloads() []Workload {
	return []Workload{
		{Name: "Recv", Run: (*Session).Recv},
		{Name: "Send", Run: (*Session).Send},
		{Name: "PingPong", Run: (*Session).PingPong},
	}
}

// Session is one stream on a connection of its own.
type Session struct {
	size   int
	conn   *grpc.ClientConn
	cancel context.CancelFunc
	stream grpc.BidiStreamingClient[request, response]
	open   func(context.Context, ...grpc.CallOption) (grpc.BidiStreamingClient[request, response], error)
	server *Server // nil, or its own
}

// Open opens a session with payloads of size bytes. dial is added to how it connects.
func Open(ctx context.Context, s *Server, c Client, size int, dial ...grpc.DialOption) (*Session, error) {
	dial = append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithInitialWindowSize(window), grpc.WithInitialConnWindowSize(window),
	}, dial...)
	conn, err := grpc.NewClient(s.Addr(), dial...)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	open := testpb.NewTestServiceClient(conn).FullDuplexCall
	session := &Session{size: size, conn: conn, cancel: cancel, open: open}
	if c == Bare {
		session.stream, err = open(ctx)
	} else {
		session.stream, err = stream.Resilient(ctx, open, callbacks(c), options(c)...)
	}
	if err != nil {
		session.Close()
		return nil, err
	}
	return session, nil
}

func callbacks(c Client) stream.Callbacks[request, response] {
	cb := stream.Callbacks[request, response]{
		Resume: func(context.Context, *stream.Resumption[request, response]) error { return nil }, // nothing breaks here
		Checkpoint: func(m *response) (checkpoint.Position, bool) {
			seq := position(m)
			return checkpoint.Position{Lineage: "bench", Seq: seq}, seq > 0
		},
		Control: func(m *response) bool { return position(m) == 0 },
	}
	if c == Replay {
		cb.Acked = func(m *response) (uint64, bool) {
			seq := acked(m)
			return seq, seq > 0
		}
	}
	return cb
}

func options(c Client) []stream.ClientOption {
	switch c {
	case Replay:
		return []stream.ClientOption{stream.WithReplay(stream.ReplayLimits{})}
	case Idle:
		return []stream.ClientOption{stream.WithIdleTimeout(time.Minute)}
	case Policies:
		return []stream.ClientOption{stream.WithSendPolicies(policies()...), stream.WithRecvPolicies(policies()...)}
	case Executor:
		return []stream.ClientOption{
			stream.WithSendExecutor(failsafe.With(policies()...)), stream.WithRecvExecutor(failsafe.With(policies()...)),
		}
	case Bare, Checkpoint, Stored:
	}
	return nil
}

// policies are those of one direction. They deny nothing.
func policies() []failsafe.Policy[any] {
	return []failsafe.Policy[any]{
		stream.NewCircuitBreakerBuilder().Build(),
		ratelimiter.NewSmoothBuilderWithMaxRate[any](time.Nanosecond).WithMaxWaitTime(time.Minute).Build(),
	}
}

// Close ends the session.
func (s *Session) Close() {
	if closer, ok := s.stream.(interface{ Close() error }); ok {
		_ = closer.Close()
	}
	s.cancel()
	_ = s.conn.Close()
	if s.server != nil {
		s.server.Close()
	}
}

// Recv asks for n messages and receives them.
func (s *Session) Recv(n int) error {
	if err := s.stream.Send(newRequest(askFlood, uint64(n), s.size)); err != nil {
		return err
	}
	for range n {
		if _, err := s.stream.Recv(); err != nil {
			return err
		}
	}
	return nil
}

// Send sends n messages and waits until the server has answered the last. Acknowledgements come meanwhile, whoever the
// client is.
func (s *Session) Send(n int) error {
	answered := make(chan error, 1)
	go func() { answered <- s.awaitAnswer() }() // ends with the answer; this function waits for it
	m := newRequest(askNothing, 0, s.size)
	for i := range n {
		if i == n-1 {
			m.Payload.Body[0] = askAnswer
		}
		if err := s.stream.Send(m); err != nil {
			s.cancel()
			<-answered
			return err
		}
	}
	return <-answered
}

// awaitAnswer receives until a message comes that is no acknowledgement. A resilient client skips those by itself.
func (s *Session) awaitAnswer() error {
	for {
		m, err := s.stream.Recv()
		if err != nil || position(m) > 0 {
			return err
		}
	}
}

// PingPong sends a message and receives the answer, n times.
func (s *Session) PingPong(n int) error {
	m := newRequest(askAnswer, 0, s.size)
	for range n {
		if err := s.stream.Send(m); err != nil {
			return err
		}
		if _, err := s.stream.Recv(); err != nil {
			return err
		}
	}
	return nil
}
