package main

import (
	"bytes"
	"crypto/sha256"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/examples/streaming/countpb"
	"github.com/streamsafe/streamsafe/stream"
)

// maxKept bounds the answers that a session keeps. A client that confirms what it has stays far below.
const maxKept = 4096

// session is what the server knows of one client, over all its attempts and processes.
type session struct {
	lines   *stream.Deduplicator           // which lines are there
	answers *stream.Window[countpb.Answer] // those that the client may ask for again

	mu    sync.Mutex // lets one line in at a time, and guards the field below
	words uint64     // in all lines
}

func newSession() *session {
	return &session{
		lines:   stream.NewDeduplicator(0),
		answers: stream.NewWindow[countpb.Answer](0, stream.ReplayLimits{Messages: maxKept}),
	}
}

// store takes in a line and computes its answer. A line that came before is dropped: its answer is there.
func (s *session) store(line *countpb.Line) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.answers.Confirm(line.GetConfirmed()); err != nil {
		return err
	}
	if s.answers.IsFull() {
		return status.Error(codes.Unavailable, "too many answers wait to be confirmed; the next hello may do it")
	}
	fresh, err := s.lines.Accept(line.GetNumber())
	if err != nil || !fresh {
		return err
	}
	s.words += uint64(len(bytes.Fields(line.GetText())))
	hash := sha256.Sum256(line.GetText())
	_, err = s.answers.Add(&countpb.Answer{Number: line.GetNumber(), Hash: hash[:], Words: s.words})
	return err
}
