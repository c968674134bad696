// Command feed reads a log of numbered events while its connection keeps breaking, and shows that each event came once, in
// order. The last line printed is
//
//	messages=1000 cuts=10 lost=0 duplicated=0 reordered=0
package main

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/examples/feed/feedpb"
	"github.com/streamsafe/streamsafe/examples/internal/rig"
	"github.com/streamsafe/streamsafe/stream"
)

const events = 1000

func main() {
	journal := &rig.Journal{Want: events}
	rig.Example{
		Serve: func(s *grpc.Server) {
			feedpb.RegisterFeedServer(s, &server{log: "log 1", began: time.Now(), events: events})
		},
		Run:      func(ctx context.Context, addr string) error { return read(ctx, addr, journal) },
		Journals: []*rig.Journal{journal},
		Cuts:     10, Every: 80,
	}.Main()
}

// read reads the log up to its last event.
func read(ctx context.Context, addr string, journal *rig.Journal) error {
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()

	feed, err := stream.ResilientServerStreaming(ctx, feedpb.NewFeedClient(conn).Read,
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
	defer func() { _ = feed.Close() }()
	for {
		event, err := feed.Recv()
		if err != nil {
			return err
		}
		journal.Saw(event.GetNumber())
		if event.GetNumber() == events {
			return nil
		}
	}
}
