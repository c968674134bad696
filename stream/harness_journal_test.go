package stream_test

import (
	"io"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/stream"
)

// journal is what each handler of a feed has received, and what it told the client it had when it began.
type journal struct {
	feed *feed

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
	j.mu.Lock()
	defer j.mu.Unlock()
	for i, h := range j.handlers {
		for k, got := range h.received {
			seq := h.told + uint64(k) + 1
			require.Equal(t, frame{kind: data, seq: seq, size: sizeOf(seq)}, got,
				"handler %d, which was to get %d first, message %d after the hello", i+1, h.told+1, k+1)
		}
	}
}

// converse runs an exchange of messages with sizes of their own, and checks both journals.
func converse(t *testing.T, s *client, j *journal, n uint64) {
	t.Helper()
	sent := make(chan error, 1)
	go func() { sent <- sendSized(s, n) }() // ends with the stream; the lines below wait for it
	var got []uint64
	m, err := s.Recv()
	for ; err == nil; m, err = s.Recv() {
		got = append(got, frameOf(m).seq)
	}
	require.NoError(t, within(t, sent, "the end of sending"), "sending")
	require.ErrorIs(t, err, io.EOF, "the end")
	require.Equal(t, upTo(j.feed.total), got, "what the application got: in order, no loss, no duplicate")
	require.Equal(t, upTo(n), j.feed.stored, "what the server has: in order, no loss, no duplicate")
	j.check(t)
	require.Zero(t, s.Stats().Unacked, "messages still kept after the end")
}

// sendSized sends n messages, reusing one, and closes the sending side.
func sendSized(s *client, n uint64) error {
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
