package main

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"google.golang.org/grpc"

	"github.com/streamsafe/streamsafe/examples/upload/uploadpb"
	"github.com/streamsafe/streamsafe/stream/streamtest"
)

// A file of five chunks, cut everywhere: in the upload, in the calls with which Resume asks, and in what is sent again.
func TestUploadSurvives(t *testing.T) {
	t.Parallel()
	chunks := []string{"a", "b", "c", "d", "e"}
	var server *store
	streamtest.CutEverywhere(t, streamtest.Scenario{
		Serve: func(s *grpc.Server) {
			server = &store{}
			server.register(s)
		},
		Run: func(ctx context.Context, cc grpc.ClientConnInterface) error {
			stored, err := upload(ctx, uploadpb.NewStoreClient(cc), "1", chunks)
			if err == nil && stored != uint64(len(chunks)) {
				err = fmt.Errorf("the receipt is for %d chunks", stored)
			}
			return errors.Join(err, streamtest.Same(chunks, server.files.Of("1").All()))
		},
	})
}
