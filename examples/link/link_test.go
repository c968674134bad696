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
	cutEverywhere(t, open, func(sv *server) linkpb.LinkServer { return sv })
}

// cutEverywhere cuts a link before, inside and after each frame, in each way.
func cutEverywhere(t *testing.T, open opener, served func(*server) linkpb.LinkServer) {
	t.Helper()
	texts, want := []string{"a", "b", "c", "d", "e"}, []string{"A", "B", "C", "D", "E"}
	var sv *server
	streamtest.CutEverywhere(t, streamtest.Scenario{
		Serve: func(s *grpc.Server) {
			sv = &server{}
			linkpb.RegisterLinkServer(s, served(sv))
		},
		Run: func(ctx context.Context, cc grpc.ClientConnInterface) error {
			s, err := open(ctx, linkpb.NewLinkClient(cc))
			if err != nil {
				return err
			}
			replies, err := talk(s, texts)
			return errors.Join(err, streamtest.Same(texts, sv.got.All()), streamtest.Same(want, replies))
		},
	}, streamtest.WithServerOptions(grpc.StreamInterceptor(stream.ServerInterceptor())))
}
