package main

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/examples/internal/stage"
	"github.com/streamsafe/streamsafe/examples/upload/uploadpb"
)

// store keeps the chunks of files. They outlive calls, as they would on a disk.
type store struct {
	uploadpb.UnimplementedStoreServer

	files stage.Table[string, stage.Journal[string]]
}

// fileKey is the metadata that names the file of an upload.
const fileKey = "file"

func (s *store) register(server *grpc.Server) { uploadpb.RegisterStoreServer(server, s) }

// Upload takes the chunks that follow those that are there. If only the receipt was lost, no chunk comes.
func (s *store) Upload(up uploadpb.Store_UploadServer) error {
	ids := metadata.ValueFromIncomingContext(up.Context(), fileKey)
	if len(ids) != 1 {
		return status.Error(codes.InvalidArgument, "the metadata has to name one file")
	}
	file := s.files.Of(ids[0])
	for {
		chunk, err := up.Recv()
		if errors.Is(err, io.EOF) {
			return up.SendAndClose(&uploadpb.Receipt{Chunks: file.Len()})
		}
		if err != nil {
			return err
		}
		file.AddNext(chunk.GetNumber(), string(chunk.GetData())) // a chunk that came before comes again after a break
	}
}

// Status tells how much of a file is there.
func (s *store) Status(_ context.Context, f *uploadpb.File) (*uploadpb.Receipt, error) {
	return &uploadpb.Receipt{Chunks: s.files.Of(f.GetId()).Len()}, nil
}
