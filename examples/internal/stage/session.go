package stage

import (
	"context"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/stream"
)

// Table keeps a value for each key. It is empty at first, and safe for concurrent use. It forgets nothing: a server that runs for
// long has to forget clients that do not come back.
type Table[K comparable, V any] struct {
	mu sync.Mutex // guards the field below
	of map[K]*V
}

// Of returns the value of the key. At first that is the zero value.
func (t *Table[K, V]) Of(key K) *V {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of == nil {
		t.of = make(map[K]*V)
	}
	if t.of[key] == nil {
		t.of[key] = new(V)
	}
	return t.of[key]
}

// Session is what outlives the connections of a client: the number of its last message, and the replies that it may not have.
type Session[M any] struct {
	mu sync.Mutex // held while a message is taken in: the handler of an older connection may still be in Take

	// set by Attach, then read only
	*stream.Deduplicator // of the client's messages
	*stream.Window[M]    // of the replies
}

// Sessions has a session for each stream of a client.
type Sessions[M any] struct {
	Table[stream.StreamID, Session[M]]
}

// Attach returns the session of the client whose attempt has this context, and the number of the last reply that the client has.
func (all *Sessions[M]) Attach(ctx context.Context) (session *Session[M], after uint64, err error) {
	attempt, _ := stream.AttemptFrom(ctx)
	from, ok := stream.ResumeFrom(ctx)
	if !ok {
		return nil, 0, status.Error(codes.InvalidArgument, "the client needs WithResumeMetadata")
	}
	s := all.Of(attempt.Stream)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Deduplicator == nil {
		s.Deduplicator, s.Window = stream.NewDeduplicator(0), stream.NewWindow[M](0, stream.ReplayLimits{})
	}
	return s, from.Seq, nil
}

// Received returns the number of the last message whose reply is in the window.
func (s *Session[M]) Received() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Deduplicator.Received()
}

// Take takes a message in: the client has the replies up to has, and the message with this number gets the reply that answer
// returns. If the message came before, nobody is asked.
func (s *Session[M]) Take(number, has uint64, answer func() *M) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.Confirm(has); err != nil {
		return err
	}
	fresh, err := s.Check(number)
	if err != nil || !fresh {
		return err
	}
	if _, err = s.Add(answer()); err != nil {
		return err
	}
	_, err = s.Accept(number)
	return err
}
