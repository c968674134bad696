package main

import (
	"errors"
	"io"
	"slices"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/examples/link/linkpb"
	"github.com/streamsafe/streamsafe/stream"
)

type server struct {
	linkpb.UnimplementedLinkServer

	mu    sync.Mutex // guards the fields below
	links map[stream.StreamID]*link
	got   []string // what clients have sent
}

// link is what outlives the attempts of a client.
type link struct {
	received *stream.Deduplicator
	replies  *stream.Window[linkpb.Frame]
}

// Talk answers each frame. The interceptor has ended the handler of an older attempt.
func (sv *server) Talk(s grpc.BidiStreamingServer[linkpb.Frame, linkpb.Frame]) error {
	attempt, _ := stream.AttemptFrom(s.Context())
	from, ok := stream.ResumeFrom(s.Context())
	if !ok {
		return status.Error(codes.InvalidArgument, "the client needs WithResumeMetadata")
	}
	l := sv.link(attempt.Stream)
	if err := s.Send(&linkpb.Frame{Ack: l.received.Received()}); err != nil {
		return err
	}
	for sent := from.Seq; ; {
		replies, err := l.replies.After(sent)
		if err != nil {
			return err
		}
		for number, reply := range replies {
			reply.Number, reply.Ack = number, l.received.Received()
			if err := s.Send(reply); err != nil {
				return err
			}
			sent = number
		}
		m, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil // the client is done, and has every answer
		}
		if err == nil {
			err = sv.take(l, m)
		}
		if err != nil {
			return err
		}
	}
}

func (sv *server) link(id stream.StreamID) *link {
	sv.mu.Lock()
	defer sv.mu.Unlock()
	if sv.links[id] == nil {
		sv.links[id] = &link{stream.NewDeduplicator(0), stream.NewWindow[linkpb.Frame](0, stream.ReplayLimits{})}
	}
	return sv.links[id]
}

// frames returns what clients have sent.
func (sv *server) frames() []string {
	sv.mu.Lock()
	defer sv.mu.Unlock()
	return slices.Clone(sv.got)
}

// take takes a frame in, once.
func (sv *server) take(l *link, m *linkpb.Frame) error {
	sv.mu.Lock()
	defer sv.mu.Unlock()
	if err := l.replies.Confirm(m.GetAck()); err != nil {
		return err
	}
	fresh, err := l.received.Accept(m.GetNumber())
	if err != nil || !fresh {
		return err
	}
	sv.got = append(sv.got, m.GetText())
	_, err = l.replies.Add(&linkpb.Frame{Text: strings.ToUpper(m.GetText())})
	return err
}
