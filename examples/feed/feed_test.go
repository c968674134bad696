package main

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/streamsafe/streamsafe/examples/feed/feedpb"
	"github.com/streamsafe/streamsafe/stream/streamtest"
)

// Five events of a log that grows, cut everywhere.
func TestFeedSurvives(t *testing.T) {
	t.Parallel()
	want := []uint64{1, 2, 3, 4, 5}
	streamtest.CutEverywhere(t, streamtest.Scenario{
		Serve: func(s *grpc.Server) { feedpb.RegisterFeedServer(s, &server{log: "log 1", began: time.Now()}) },
		Run: func(ctx context.Context, cc grpc.ClientConnInterface) error {
			var got []uint64
			err := read(ctx, feedpb.NewFeedClient(cc), func(e *feedpb.Event) bool {
				got = append(got, e.GetNumber())
				return len(got) == len(want)
			})
			if err != nil {
				return err
			}
			return streamtest.Same(want, got)
		},
	}, streamtest.WithFaultsFor(3*time.Second)) // longer than the idle limit
}
