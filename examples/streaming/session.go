package main

import (
	"bytes"
	"crypto/sha256"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/examples/streaming/countpb"
)

// maxKept bounds the answers that a session keeps. A client that confirms what it has stays far below.
const maxKept = 4096

// errSuperseded ends the handler of an attempt that a newer one has replaced. The client of such an attempt is gone, or
// comes back: UNAVAILABLE lets it.
var errSuperseded = status.Error(codes.Unavailable, "a newer attempt has the session")

// session is what the server knows of one client, over all its attempts and processes.
type session struct {
	mu       sync.Mutex // guards the fields below
	owner    int        // number of the attempt that may store lines
	received uint64     // lines stored
	words    uint64     // in all of them

	// kept are the answers that the client may ask for again, up to number received. They are what makes it right to
	// acknowledge a line before its answer has arrived.
	kept []*countpb.Answer
}

// attach gives the session to a new attempt and returns its number. From now on no line of an earlier attempt is stored,
// though its handler may still find some in its buffers: the number of lines received that the client is told does not
// change behind its back.
func (s *session) attach(hello *countpb.Hello) (owner int, received uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.confirm(hello.GetConfirmed())
	oldest := s.received - uint64(len(s.kept))
	if p := hello.GetPosition(); p < oldest || p > s.received {
		return 0, 0, status.Errorf(codes.OutOfRange, "position %d is not between %d and %d", p, oldest, s.received)
	}
	s.owner++
	return s.owner, s.received, nil
}

// store takes in a line and computes its answer. A line that came before is dropped: its answer is there.
func (s *session) store(owner int, line *countpb.Line) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if owner != s.owner {
		return errSuperseded
	}
	s.confirm(line.GetConfirmed())
	switch number := line.GetNumber(); {
	case number == 0:
		return status.Error(codes.InvalidArgument, "a message that is no line")
	case number <= s.received:
		return nil
	case number > s.received+1:
		return status.Errorf(codes.FailedPrecondition, "line %d came after line %d", number, s.received)
	case len(s.kept) >= maxKept:
		return status.Error(codes.Unavailable, "too many answers wait to be confirmed; the next hello may do it")
	}
	s.received++
	s.words += uint64(len(bytes.Fields(line.GetText())))
	hash := sha256.Sum256(line.GetText())
	s.kept = append(s.kept, &countpb.Answer{Number: s.received, Hash: hash[:], Words: s.words})
	return nil
}

// answers returns the answers from number next on.
func (s *session) answers(owner int, next uint64) ([]*countpb.Answer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if owner != s.owner {
		return nil, errSuperseded
	}
	oldest := s.received - uint64(len(s.kept)) + 1
	if next < oldest {
		return nil, status.Errorf(codes.InvalidArgument, "answer %d was confirmed before it was sent", next)
	}
	return append([]*countpb.Answer(nil), s.kept[next-oldest:]...), nil
}

// confirm forgets answers up to a number. The caller holds mu.
func (s *session) confirm(number uint64) {
	oldest := s.received - uint64(len(s.kept)) + 1
	if number < oldest || number > s.received {
		return // nothing new, or nonsense
	}
	s.kept = append([]*countpb.Answer(nil), s.kept[number-oldest+1:]...)
}
