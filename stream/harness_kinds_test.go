package stream_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream"
	"github.com/streamsafe/streamsafe/stream/streamtest"
)

// The protocol of the other two kinds of methods. A server-streaming call begins with a request that has the position. A
// client-streaming one has numbered messages, and its answer is how many the server has.

type (
	uploadPart = testpb.StreamingInputCallRequest
	answer     = testpb.StreamingInputCallResponse
	downstream = grpc.ServerStreamingServer[response]
	upstream   = grpc.ClientStreamingServer[uploadPart, answer]
	uploads    = stream.Callbacks[uploadPart, answer]
	uploader   = stream.ClientStream[uploadPart, answer]
)

// warehouse is the server: it has numbered messages for the client, and keeps what the client sends. Its state outlives
// handlers.
type warehouse struct {
	testpb.UnimplementedTestServiceServer

	total    uint64                           // messages for the client
	units    bool                             // each message is the last of a unit of three; the others have no position
	download func(*request, downstream) error // in place of send
	upload   func(upstream, int) error        // in place of receive; handlers are numbered from 0

	mu       sync.Mutex // guards the fields below
	requests []uint64   // the position of each request
	attempts [][]uint64 // what each handler of an upload has seen
	stored   []uint64   // client messages in the order they were first seen
}

func (h *warehouse) StreamingOutputCall(r *request, s downstream) error {
	h.mu.Lock()
	h.requests = append(h.requests, frameOf(r).seq)
	h.mu.Unlock()
	if h.download != nil {
		return h.download(r, s)
	}
	return h.send(r, s)
}

func (h *warehouse) send(r *request, s downstream) error {
	for seq := frameOf(r).seq + 1; seq <= h.total; seq++ {
		unit := []frame{{kind: data, seq: seq}}
		if h.units {
			unit = []frame{{kind: fragment, seq: 100*seq + 1}, {kind: fragment, seq: 100*seq + 2}, {kind: data, seq: seq}}
		}
		for _, f := range unit {
			if err := s.Send(f.response()); err != nil {
				return err
			}
		}
	}
	return nil
}

func (h *warehouse) StreamingInputCall(s upstream) error {
	h.mu.Lock()
	n := len(h.attempts)
	h.attempts = append(h.attempts, nil)
	h.mu.Unlock()
	if h.upload != nil {
		return h.upload(s, n)
	}
	if err := h.receive(s, n); err != nil {
		return err
	}
	return s.SendAndClose(h.answer())
}

// receive receives until the half-close, in handler n.
func (h *warehouse) receive(s upstream, n int) error {
	for {
		m, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		h.store(n, frameOf(m).seq)
	}
}

// store keeps a message once, and notes it in the journal of its handler.
func (h *warehouse) store(n int, seq uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.attempts[n] = append(h.attempts[n], seq)
	if seq == uint64(len(h.stored))+1 {
		h.stored = append(h.stored, seq)
	}
}

// seen returns what each handler of an upload has seen, and what the server has.
func (h *warehouse) seen() (attempts [][]uint64, stored []uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, a := range h.attempts {
		attempts = append(attempts, slices.Clone(a))
	}
	return attempts, slices.Clone(h.stored)
}

// has returns how many messages the server has.
func (h *warehouse) has() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return uint64(len(h.stored))
}

func (h *warehouse) answer() *answer {
	return &answer{AggregatedPayloadSize: int32(h.has())} //nolint:gosec // small
}

// handlersOf returns how many handlers of uploads have begun.
func (h *warehouse) handlersOf() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.attempts)
}

// newShop starts a world whose server is h.
func newShop(t *testing.T, h *warehouse, opts ...grpc.DialOption) *world {
	t.Helper()
	return newWorldOf(t, &feed{}, h, opts...)
}

// ask makes a request of a position.
func ask(from checkpoint.Position) (*request, error) {
	return frame{kind: hello, seq: from.Seq}.request(), nil
}

// downloads are callbacks that know positions.
func downloads() callbacks { return callbacks{Checkpoint: (&feed{}).callbacks().Checkpoint} }

// watching opens a server-streaming call. The stream is closed with the test.
func (w *world) watching(cb callbacks, opts ...stream.ClientOption) *client {
	w.t.Helper()
	s, err := stream.ResilientServerStreaming(
		w.watch.context(w.t.Context()), testpb.NewTestServiceClient(w.conn).StreamingOutputCall, ask, cb, opts...)
	require.NoError(w.t, err)
	closeAtTheEnd(w.t, s)
	return s
}

// uploading opens a client-streaming call. The stream is closed with the test.
func (w *world) uploading(cb uploads, opts ...stream.ClientOption) *uploader {
	w.t.Helper()
	s, err := stream.ResilientClientStreaming(
		w.watch.context(w.t.Context()), testpb.NewTestServiceClient(w.conn).StreamingInputCall, cb, opts...)
	require.NoError(w.t, err)
	w.t.Cleanup(func() { _ = s.Close() })
	return s
}

// piece is message seq of an upload.
func piece(seq uint64) *uploadPart {
	return &uploadPart{Payload: frame{kind: data, seq: seq, size: sizeOf(seq)}.payload()}
}

// sender is what sends pieces: a resilient stream, or a generated one.
type sender interface {
	Send(*uploadPart) error
	CloseAndRecv() (*answer, error)
}

// upload sends n pieces, and returns the answer. As generated code has it, io.EOF from Send means that CloseAndRecv tells.
func upload(s sender, n uint64) (uint64, error) {
	for seq := uint64(1); seq <= n; seq++ {
		if err := s.Send(piece(seq)); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return 0, err
		}
	}
	m, err := s.CloseAndRecv()
	return uint64(m.GetAggregatedPayloadSize()), err //nolint:gosec // not negative
}

// checkUploads holds what each handler saw against what was sent: numbers in order, without a hole.
func (h *warehouse) checkUploads(t *testing.T, n uint64) {
	t.Helper()
	require.NoError(t, h.wrongUploads(n))
}

// wrongUploads is what checkUploads finds.
func (h *warehouse) wrongUploads(n uint64) error {
	attempts, stored := h.seen()
	if err := streamtest.Same(upTo(n), stored); err != nil {
		return fmt.Errorf("what the server has: %w", err)
	}
	for i, seen := range attempts {
		for k := 1; k < len(seen); k++ {
			if seen[k] != seen[k-1]+1 {
				return fmt.Errorf("handler %d saw %v", i+1, seen)
			}
		}
	}
	return nil
}

// rising sees that each request asks for what comes after the ones before it.
func (h *warehouse) rising(t *testing.T) {
	t.Helper()
	require.NoError(t, h.notRising())
}

// notRising is what rising finds.
func (h *warehouse) notRising() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !slices.IsSorted(h.requests) {
		return fmt.Errorf("the positions of requests: %v", h.requests)
	}
	return nil
}

// asks returns how much the server has, as another call of the client would, and tells the stream.
func (h *warehouse) asks(_ context.Context, r *stream.Resumption[uploadPart, answer]) error {
	if r.Attempt() > 1 {
		r.Acknowledge(h.has())
	}
	return nil
}
