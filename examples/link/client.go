// Command link exchanges frames over a connection that keeps breaking, and shows that each end got each frame of the other once,
// in order. The last line printed is
//
//	replies=500 cuts=10 lost=0 duplicated=0 reordered=0
package main

import (
	"context"
	"errors"
	"sync/atomic"

	"google.golang.org/grpc"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/examples/internal/stage"
	"github.com/streamsafe/streamsafe/examples/link/linkpb"
	"github.com/streamsafe/streamsafe/stream"
	"github.com/streamsafe/streamsafe/stream/streamtest"
)

func main() {
	var sv server
	stage.Main(sv.run, func(s *grpc.Server) { linkpb.RegisterLinkServer(s, &sv) }, streamtest.ToServer, 40)
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

func open(ctx context.Context, client linkpb.LinkClient) (*stream.ClientStream[linkpb.Frame, linkpb.Frame], error) {
	return stream.Resilient(ctx, client.Talk, callbacks(), stream.LinkOptions(), stream.WithResumeMetadata())
}

// talk sends the texts and returns the replies.
func talk(s *stream.ClientStream[linkpb.Frame, linkpb.Frame], texts []string) (replies []string, err error) {
	defer func() { _ = s.Close() }()
	var received atomic.Uint64
	go func() { // ends with the stream
		for n, text := range texts {
			if s.Send(&linkpb.Frame{Number: uint64(n) + 1, Ack: received.Load(), Text: text}) != nil {
				return // Recv tells why
			}
		}
		_ = s.CloseSend()
	}()
	err = stage.Receive(s.Recv, func(f *linkpb.Frame) {
		received.Store(f.GetNumber())
		replies = append(replies, f.GetText())
	})
	return replies, err
}

func (sv *server) run(ctx context.Context, on *stage.Stage) error {
	s, err := open(ctx, linkpb.NewLinkClient(on))
	if err != nil {
		return err
	}
	replies, err := talk(s, stage.Texts("frame %d", 500))
	return errors.Join(err, stage.Check(on, "frames", stage.Texts("frame %d", 500), sv.got.All()),
		stage.Check(on, "replies", stage.Texts("FRAME %d", 500), replies))
}
