package main

import (
	"strings"

	"github.com/streamsafe/streamsafe/examples/internal/stage"
	"github.com/streamsafe/streamsafe/examples/link/linkpb"
)

type server struct {
	linkpb.UnimplementedLinkServer

	links stage.Sessions[linkpb.Frame] // a Deduplicator and a Window for each client
	got   stage.Journal[string]        // what clients have sent
}

// Talk answers each frame. The interceptor has ended the handler of an older attempt.
func (sv *server) Talk(s linkpb.Link_TalkServer) error {
	link, sent, err := sv.links.Attach(s.Context())
	if err != nil {
		return err
	}
	if err := s.Send(&linkpb.Frame{Ack: link.Received()}); err != nil {
		return err
	}
	for {
		replies, err := link.After(sent)
		if err != nil {
			return err
		}
		for number, reply := range replies {
			reply.Number, reply.Ack = number, link.Received()
			if err := s.Send(reply); err != nil {
				return err
			}
			sent = number
		}
		m, err := s.Recv()
		if err != nil {
			return stage.Ended(err) // after io.EOF the client is done, and has every answer
		}
		err = link.Take(m.GetNumber(), m.GetAck(), func() *linkpb.Frame {
			sv.got.Add(m.GetText())
			return &linkpb.Frame{Text: strings.ToUpper(m.GetText())}
		})
		if err != nil {
			return err
		}
	}
}
