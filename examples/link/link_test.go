package main

import (
	"context"
	"errors"
	"testing"

	"google.golang.org/grpc"

	"github.com/streamsafe/streamsafe/examples/link/linkpb"
	"github.com/streamsafe/streamsafe/stream"
	"github.com/streamsafe/streamsafe/stream/streamtest"
)

func TestLinkSurvives(t *testing.T) {
	t.Parallel()
	cutEverywhere(t, talk, func(sv *server) linkpb.LinkServer { return sv })
}

// cutEverywhere cuts a link before, inside and after each frame, in each way.
func cutEverywhere(t *testing.T, talk talker, served func(*server) linkpb.LinkServer) {
	t.Helper()
	texts, want := []string{"a", "b", "c", "d", "e"}, []string{"A", "B", "C", "D", "E"}
	var sv *server
	streamtest.CutEverywhere(t, streamtest.Scenario{
		Serve: func(s *grpc.Server) {
			sv = &server{links: make(map[stream.StreamID]*link)}
			linkpb.RegisterLinkServer(s, served(sv))
		},
		Run: func(ctx context.Context, cc grpc.ClientConnInterface) error {
			replies, err := talk(ctx, linkpb.NewLinkClient(cc), texts)
			return errors.Join(err, streamtest.Same(texts, sv.frames()), streamtest.Same(want, replies))
		},
	}, streamtest.WithServerOptions(grpc.StreamInterceptor(stream.ServerInterceptor())))
}
