// Command feed reads a log of numbered events while its connection keeps breaking, and shows that each event came once, in
// order. The last line printed is
//
//	events=1000 cuts=10 lost=0 duplicated=0 reordered=0
package main

import (
	"context"
	"time"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/examples/feed/feedpb"
	"github.com/streamsafe/streamsafe/examples/internal/stage"
	"github.com/streamsafe/streamsafe/stream"
	"github.com/streamsafe/streamsafe/stream/streamtest"
)

func main() { stage.Main(run, register, streamtest.ToClient, 80) }

// read hands over each event, until saw says that it was the last one.
func read(ctx context.Context, client feedpb.FeedClient, saw func(*feedpb.Event) (last bool)) error {
	s, err := stream.ResilientServerStreaming(ctx, client.Read,
		func(from checkpoint.Position) (*feedpb.ReadRequest, error) {
			return &feedpb.ReadRequest{Log: from.Lineage, After: from.Seq}, nil
		},
		stream.Callbacks[feedpb.ReadRequest, feedpb.Event]{
			Checkpoint: func(e *feedpb.Event) (checkpoint.Position, bool) {
				return checkpoint.Position{Lineage: e.GetLog(), Seq: e.GetNumber()}, e.GetNumber() > 0
			},
			Control: func(e *feedpb.Event) bool { return e.GetNumber() == 0 }, // heartbeats are not handed over
		},
		stream.WithGapDetection(),             // a missing number is an error
		stream.WithEndless(),                  // the server may close a stream when it likes
		stream.WithIdleTimeout(2*time.Second), // no heartbeat: the connection is dead
	)
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	for {
		event, err := s.Recv()
		if err != nil || saw(event) {
			return err
		}
	}
}

func run(ctx context.Context, s *stage.Stage) error {
	want := make([]uint64, 0, events)
	var got []uint64
	for n := range uint64(events) {
		want = append(want, n+1)
	}
	err := read(ctx, feedpb.NewFeedClient(s), func(e *feedpb.Event) bool {
		got = append(got, e.GetNumber())
		return e.GetNumber() == events
	})
	if err != nil {
		return err
	}
	return stage.Check(s, "events", want, got)
}
