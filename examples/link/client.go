// Command link exchanges frames over a connection that keeps breaking, and shows that each end got each frame of the other once,
// in order. The last line printed is
//
//	replies=500 cuts=10 lost=0 duplicated=0 reordered=0
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"

	"google.golang.org/grpc"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/examples/internal/stage"
	"github.com/streamsafe/streamsafe/examples/link/linkpb"
	"github.com/streamsafe/streamsafe/stream"
	"github.com/streamsafe/streamsafe/stream/streamtest"
)

func main() {
	sv := &server{links: make(map[stream.StreamID]*link)}
	stage.Main(sv.run, func(s *grpc.Server) { linkpb.RegisterLinkServer(s, sv) }, streamtest.ToServer, 40)
}

// callbacks tell the stream what it has to know of frames.
func callbacks() stream.Callbacks[linkpb.Frame, linkpb.Frame] {
	return stream.Callbacks[linkpb.Frame, linkpb.Frame]{
		Checkpoint: func(f *linkpb.Frame) (checkpoint.Position, bool) {
			return checkpoint.Position{Seq: f.GetNumber()}, f.GetNumber() > 0
		},
		Sequence: (*linkpb.Frame).GetNumber,
		Acked:    func(f *linkpb.Frame) (uint64, bool) { return f.GetAck(), f.GetAck() > 0 },
		Control:  func(f *linkpb.Frame) bool { return f.GetNumber() == 0 },
	}
}

// talk sends the texts and returns the replies.
func talk(ctx context.Context, client linkpb.LinkClient, texts []string) (replies []string, err error) {
	return talkBy(ctx, client, callbacks(), texts, stream.LinkOptions(), stream.WithResumeMetadata())
}

// talkBy is talk with other callbacks and options.
func talkBy(
	ctx context.Context, client linkpb.LinkClient, cb stream.Callbacks[linkpb.Frame, linkpb.Frame], texts []string,
	opts ...stream.ClientOption,
) (replies []string, err error) {
	s, err := stream.Resilient(ctx, client.Talk, cb, opts...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.Close() }()

	var received atomic.Uint64
	go func() { // ends with the stream
		for i, text := range texts {
			if s.Send(&linkpb.Frame{Number: uint64(i) + 1, Ack: received.Load(), Text: text}) != nil { //nolint:gosec // small
				return // Recv tells why
			}
		}
		_ = s.CloseSend()
	}()
	for {
		f, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return replies, nil
		}
		if err != nil {
			return replies, err
		}
		received.Store(f.GetNumber())
		replies = append(replies, f.GetText())
	}
}

func (sv *server) run(ctx context.Context, on *stage.Stage) error {
	const frames = 500
	texts, want := make([]string, 0, frames), make([]string, 0, frames)
	for n := range frames {
		texts = append(texts, fmt.Sprintf("frame %d", n))
		want = append(want, strings.ToUpper(texts[n]))
	}
	replies, err := talk(ctx, linkpb.NewLinkClient(on), texts)
	if err != nil {
		return err
	}
	return errors.Join(stage.Check(on, "frames", texts, sv.frames()), stage.Check(on, "replies", want, replies))
}
