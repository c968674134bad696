package stream_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream"
	"github.com/streamsafe/streamsafe/stream/streamtest"
)

// docs/protocol.md shows the parts of this file that stand between its markers.

// protocol.md: begin session
// session is what the server knows of a logical stream. It outlives attempts, and so handlers.
type session struct {
	mu      sync.Mutex
	inbound *stream.Deduplicator     // which requests are there
	replies *stream.Window[response] // which replies the client may ask for again
}

// handle is the handler of one attempt.
func (sv *service) handle(s grpc.BidiStreamingServer[request, response]) error {
	attempt, _ := stream.AttemptFrom(s.Context())
	from, ok := stream.ResumeFrom(s.Context()) // hello: no message is needed for it
	if !ok {
		return errNoMetadata
	}
	session := sv.session(attempt.Stream)
	for sent := from.Seq; ; {
		replies, err := session.replies.After(sent) // OUT_OF_RANGE if they are gone
		if err != nil {
			return err
		}
		for number, reply := range replies {
			if err := s.Send(reply); err != nil {
				return err
			}
			sent = number
		}
		m, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil // the client has closed its side, and every request is answered: OK is true
		}
		if err != nil {
			return err
		}
		if err := session.store(m); err != nil {
			return err
		}
	}
}

// store takes in a request, once.
func (se *session) store(m *request) error {
	se.mu.Lock()
	defer se.mu.Unlock()
	if se.replies.IsFull() {
		return errFull // UNAVAILABLE: the client comes again, and confirms
	}
	fresh, err := se.inbound.Accept(sequenceOf(m)) // FAILED_PRECONDITION if one is missing
	if err != nil || !fresh {
		return err // one that came before is dropped: its reply is there
	}
	_, err = se.replies.Add(replyTo(m))
	return err
}

// protocol.md: end session

// service has the sessions.
type service struct {
	testpb.UnimplementedTestServiceServer

	mu       sync.Mutex
	sessions map[stream.StreamID]*session
}

// FullDuplexCall is the method.
func (sv *service) FullDuplexCall(s bidi) error { return sv.handle(s) }

func (sv *service) session(id stream.StreamID) *session {
	sv.mu.Lock()
	defer sv.mu.Unlock()
	if sv.sessions[id] == nil { // a real server bounds how many there are, and forgets old ones
		sv.sessions[id] = &session{
			inbound: stream.NewDeduplicator(0), replies: stream.NewWindow[response](0, stream.ReplayLimits{}),
		}
	}
	return sv.sessions[id]
}

var (
	errNoMetadata = errors.New("the client does not use stream.WithResumeMetadata")
	errFull       = errRestart
)

func sequenceOf(m *request) uint64 { return frameOf(m).seq }

// replyTo is the reply, which acknowledges the request.
func replyTo(m *request) *response { return frame{kind: data, seq: frameOf(m).seq}.response() }

// protocol.md: begin server
// serve starts the server. The function that it returns is for SIGTERM.
func (sv *service) serve(network *streamtest.Network) (drain func(context.Context) error) {
	drainer := stream.NewDrainer(stream.DrainWindow(5 * time.Second))
	server := grpc.NewServer(grpc.StreamInterceptor(stream.ServerInterceptor(
		stream.WithDrainer(drainer),
		stream.WithSendTimeout(30*time.Second), // a client that does not read
	)))
	testpb.RegisterTestServiceServer(server, sv)
	listener := network.Listener()
	go func() { _ = server.Serve(listener) }()
	return func(ctx context.Context) error { return drainer.Drain(ctx, server) }
}

// protocol.md: end server

// askAll sends requests, and receives the replies, through a network that breaks.
func askAll(ctx context.Context, client testpb.TestServiceClient, network *streamtest.Network) error {
	// protocol.md: begin client
	s, err := stream.Resilient(ctx, client.FullDuplexCall, stream.Callbacks[request, response]{
		Checkpoint: func(m *response) (checkpoint.Position, bool) { // a reply is a place to go on from
			return checkpoint.Position{Seq: number(m)}, number(m) > 0
		},
		Acked: func(m *response) (uint64, bool) { // and acknowledges its request
			return number(m), number(m) > 0
		},
	}, stream.WithResumeMetadata(), stream.WithReplay(stream.ReplayLimits{}))
	// protocol.md: end client
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	for n := uint64(1); n <= 5; n++ {
		if n == 3 {
			network.Cut(streamtest.RST)
		}
		if err := s.Send(item(n)); err != nil {
			return err
		}
		m, err := s.Recv()
		if err != nil {
			return err
		}
		fmt.Println("reply", number(m))
	}
	return s.CloseSend()
}

// A protocol that can be resumed, both ends.
func Example_protocol() {
	network := streamtest.NewNetwork()
	drain := (&service{sessions: map[stream.StreamID]*session{}}).serve(network)
	conn, err := network.Client()
	if err != nil {
		panic(err)
	}
	if err := askAll(context.Background(), testpb.NewTestServiceClient(conn), network); err != nil {
		fmt.Println(err)
	}
	_ = conn.Close()
	fmt.Println("drained:", drain(context.Background()))
	_ = network.Close()
	// Output:
	// reply 1
	// reply 2
	// reply 3
	// reply 4
	// reply 5
	// drained: <nil>
}
