package stream_test

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/streamsafe/streamsafe/stream"
	"github.com/streamsafe/streamsafe/stream/streamtest"
)

// journal is what each handler of a feed has received, and what it told the client it had when it began.
type journal struct {
	feed     *feed
	overlaps bool // an attempt that was replaced may bring, and have acknowledged, what the next handler said it had not; set before the first

	mu       sync.Mutex // guards the fields below
	handlers []*entries
}

type entries struct {
	journal  *journal
	told     uint64  // the server's answer to the hello
	received []frame // after the hello
}

// keepJournal makes the handlers of f write one.
func keepJournal(f *feed) *journal {
	j := &journal{feed: f}
	f.handler = func(s bidi) error { return f.serve(j.begin(s)) }
	return j
}

func (j *journal) begin(s bidi) *writingStream {
	j.mu.Lock()
	defer j.mu.Unlock()
	e := &entries{journal: j}
	j.handlers = append(j.handlers, e)
	return &writingStream{bidi: s, entries: e}
}

// writingStream is a server's stream that writes into a journal.
type writingStream struct {
	bidi
	entries *entries
}

func (s *writingStream) Recv() (*request, error) {
	m, err := s.bidi.Recv()
	if err != nil {
		return nil, err
	}
	s.entries.journal.mu.Lock()
	defer s.entries.journal.mu.Unlock()
	if f := frameOf(m); f.kind != hello {
		s.entries.received = append(s.entries.received, f)
	}
	return m, nil
}

func (s *writingStream) Send(m *response) error {
	if f := frameOf(m); f.kind == hello {
		s.entries.journal.mu.Lock()
		s.entries.told = f.seq
		s.entries.journal.mu.Unlock()
	}
	return s.bidi.Send(m)
}

// sizeOf is the padding of a numbered message, so that a message with another's number shows.
func sizeOf(seq uint64) int { return int(seq * 7 % 31) }

// check holds what every handler saw against what was sent: each saw the messages from the first that the server did
// not have, in order and without a hole, and each number always came with the same message.
func (j *journal) check(t *testing.T) {
	t.Helper()
	require.NoError(t, j.wrong())
}

// wrong is what check finds.
func (j *journal) wrong() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	for i, h := range j.handlers {
		if j.overlaps && len(h.received) > 0 {
			h.told = max(h.told, h.received[0].seq-1)
		}
		for k, got := range h.received {
			seq := h.told + uint64(k) + 1
			if want := (frame{kind: data, seq: seq, size: sizeOf(seq)}); got != want {
				return fmt.Errorf("handler %d, which was to get %d first, message %d after the hello is %v in place of %v",
					i+1, h.told+1, k+1, got, want)
			}
		}
	}
	return nil
}

// converse runs an exchange of messages with sizes of their own, and checks both journals.
func converse(t *testing.T, s *client, j *journal, n uint64) {
	t.Helper()
	require.NoError(t, within(t, async(func() error { return conversed(s, j, n) }), "the end of the exchange"))
}

// conversed is converse, with what it finds.
func conversed(s grpc.BidiStreamingClient[request, response], j *journal, n uint64) error {
	sent := async(func() error { return sendSized(s, n) }) // ends with the stream
	got, err := useBidi(s)
	if !errors.Is(err, io.EOF) {
		return err
	}
	if err := <-sent; err != nil {
		return fmt.Errorf("sending: %w", err)
	}
	if err := streamtest.Same(upTo(j.feed.total), got); err != nil {
		return fmt.Errorf("what the application got: %w", err)
	}
	j.feed.mu.Lock()
	err = streamtest.Same(upTo(n), j.feed.stored)
	j.feed.mu.Unlock()
	if err != nil {
		return fmt.Errorf("what the server has: %w", err)
	}
	if own, ok := s.(*client); ok && own.Stats().Unacked > 0 {
		return fmt.Errorf("%d messages are still kept after the end", own.Stats().Unacked)
	}
	return j.wrong()
}

// sendSized sends n messages, reusing one, and closes the sending side.
func sendSized(s grpc.BidiStreamingClient[request, response], n uint64) error {
	m := frame{kind: data}.request()
	for seq := uint64(1); seq <= n; seq++ {
		m.Payload = frame{kind: data, seq: seq, size: sizeOf(seq)}.payload()
		if err := s.Send(m); err != nil {
			return err
		}
	}
	return s.CloseSend()
}

// withReplay is WithReplay with the default limits.
func withReplay() stream.ClientOption { return stream.WithReplay(stream.ReplayLimits{}) }
