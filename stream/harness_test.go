package stream_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/internal/testnet"
	"github.com/streamsafe/streamsafe/stream"
)

// The protocol of these tests, in the payload of interop's full-duplex call. The client begins with a hello that has
// the position it wants to go on from; the server answers with the number of client messages it has. Then both number
// their messages, and the server acknowledges the client's.

type (
	request  = testpb.StreamingOutputCallRequest
	response = testpb.StreamingOutputCallResponse
	client   = stream.ClientStream[request, response]
	bidi     = grpc.BidiStreamingServer[request, response]
)

type kind byte

const (
	hello kind = iota
	data
	ack
	bookmark
	fragment // data without a position
	failure  // an error that a message tells of

	empty = kind(98) // what is no message of the protocol
)

// frame is a message of the protocol.
type frame struct {
	kind kind
	seq  uint64
	size int // of a padding that makes the message larger
}

func (f frame) payload() *testpb.Payload {
	body := make([]byte, 9+f.size)
	body[0] = byte(f.kind)
	binary.BigEndian.PutUint64(body[1:], f.seq)
	return &testpb.Payload{Body: body}
}

func (f frame) request() *request { return &request{Payload: f.payload()} }

func (f frame) response() *response { return &response{Payload: f.payload()} }

func frameOf(m interface{ GetPayload() *testpb.Payload }) frame {
	body := m.GetPayload().GetBody()
	if len(body) < 9 {
		return frame{kind: empty}
	}
	return frame{kind: kind(body[0]), seq: binary.BigEndian.Uint64(body[1:9]), size: len(body) - 9}
}

// feed is the server: it has numbered messages for the client, and keeps what the client sends. Its state outlives
// handlers, as a database would.
type feed struct {
	testpb.UnimplementedTestServiceServer

	total   uint64           // messages for the client; the stream ends with OK when both sides are through
	size    int              // padding of each message
	lineage string           // names the history
	handler func(bidi) error // in place of serve
	options []grpc.ServerOption

	mu       sync.Mutex // guards the fields below
	stored   []uint64   // client messages in the order they were first seen
	seen     []uint64   // every client message that a handler has seen
	handlers int
	active   int
}

func (f *feed) FullDuplexCall(s bidi) error {
	f.mu.Lock()
	f.handlers++
	f.active++
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.active--
		f.mu.Unlock()
	}()
	if f.handler != nil {
		return f.handler(s)
	}
	return f.serve(s)
}

// serve is a handler that resumes.
func (f *feed) serve(s bidi) error {
	m, err := s.Recv()
	if err != nil {
		return err
	}
	start := frameOf(m)
	if start.kind != hello {
		return fmt.Errorf("the first message is %v", start)
	}
	if err := s.Send(frame{kind: hello, seq: f.last()}.response()); err != nil {
		return err
	}
	turn := make(chan struct{}, 1) // both goroutines send; a mutex held while one waits would stop the bubble's clock
	received := make(chan error, 1)
	go func() { received <- f.receive(s, turn) }() // ends with the stream; the line below waits for it
	for seq := start.seq + 1; seq <= f.total; seq++ {
		turn <- struct{}{}
		err := s.Send(frame{kind: data, seq: seq, size: f.size}.response())
		<-turn
		if err != nil {
			break // the receiver tells
		}
	}
	return <-received
}

func (f *feed) receive(s bidi, turn chan struct{}) error {
	for {
		m, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		f.store(frameOf(m).seq)
		turn <- struct{}{}
		err = s.Send(frame{kind: ack, seq: f.last()}.response())
		<-turn
		if err != nil {
			return err
		}
	}
}

// store keeps a message once.
func (f *feed) store(seq uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen = append(f.seen, seq)
	if seq == uint64(len(f.stored))+1 {
		f.stored = append(f.stored, seq)
	}
}

func (f *feed) last() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return uint64(len(f.stored))
}

// callbacks are the client's side of the protocol.
func (f *feed) callbacks() stream.Callbacks[request, response] {
	return stream.Callbacks[request, response]{
		Resume: func(_ context.Context, r *stream.Resumption[request, response]) error {
			if err := r.Send(frame{kind: hello, seq: r.Position().Seq}.request()); err != nil {
				return err
			}
			m, err := r.Recv()
			if err != nil {
				return err
			}
			r.Acknowledge(frameOf(m).seq)
			return nil
		},
		Checkpoint: func(m *response) (checkpoint.Position, bool) {
			fr := frameOf(m)
			return checkpoint.Position{Lineage: f.lineage, Seq: fr.seq}, fr.kind == data || fr.kind == bookmark
		},
		Control: func(m *response) bool { k := frameOf(m).kind; return k != data && k != fragment },
		Acked: func(m *response) (uint64, bool) {
			fr := frameOf(m)
			return fr.seq, fr.kind == ack
		},
	}
}

// world is a server, a network that can fail, and a client connection, in memory.
type world struct {
	*testnet.Memory
	t      *testing.T
	feed   *feed
	serves testpb.TestServiceServer // the feed, or what stands in its place
	server *grpc.Server
	conn   *grpc.ClientConn
	watch  *watchdog
}

// newWorld starts one. It belongs in a bubble.
func newWorld(t *testing.T, f *feed, opts ...grpc.DialOption) *world {
	t.Helper()
	return newWorldOf(t, f, f, opts...)
}

// newWorldOf is newWorld with another server.
func newWorldOf(t *testing.T, f *feed, serves testpb.TestServiceServer, opts ...grpc.DialOption) *world {
	t.Helper()
	w := &world{Memory: testnet.NewMemory(), t: t, feed: f, serves: serves, watch: newWatchdog(t)}
	w.start()
	conn, err := w.Client(append([]grpc.DialOption{grpc.WithConnectParams(fastConnect), noSpinning(t)}, opts...)...)
	require.NoError(t, err)
	w.conn = conn
	t.Cleanup(func() {
		_ = conn.Close()
		w.server.Stop()
		_ = w.Close()
	})
	return w
}

// fastConnect makes grpc's own connection backoff short, so that the stream's counts. Without any, a network that
// refuses would be asked again and again in no time, and the clock of a bubble would stand still.
var fastConnect = grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 1.6, MaxDelay: 50 * time.Millisecond},
	MinConnectTimeout: time.Second,
}

// start starts the server, on a new listener.
func (w *world) start() {
	server := grpc.NewServer(w.feed.options...)
	testpb.RegisterTestServiceServer(server, w.serves)
	w.server = server
	listener := w.Listener()
	go func() { _ = server.Serve(listener) }() // ends with the server, which the cleanup stops
}

// open opens a stream with the feed's callbacks.
func (w *world) open(ctx context.Context, opts ...stream.ClientOption) (*client, error) {
	return w.dial(ctx, w.feed.callbacks(), opts...)
}

// mustOpen is open where that has to succeed. The stream is closed with the test.
func (w *world) mustOpen(opts ...stream.ClientOption) *client {
	w.t.Helper()
	s, err := w.open(w.t.Context(), opts...)
	require.NoError(w.t, err)
	closeAtTheEnd(w.t, s)
	return s
}

// upTo returns 1 to n.
func upTo(n uint64) []uint64 {
	var all []uint64
	for seq := uint64(1); seq <= n; seq++ {
		all = append(all, seq)
	}
	return all
}
