package main

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/examples/upload/uploadpb"
)

// store keeps the chunks of files. They outlive calls, as they would on a disk.
type store struct {
	uploadpb.UnimplementedStoreServer

	mu    sync.Mutex // guards the field below
	files map[string][]string
}

// fileKey is the metadata that names the file of an upload.
const fileKey = "file"

// Upload takes the chunks that follow those that are there. If only the receipt was lost, no chunk comes.
func (s *store) Upload(up uploadpb.Store_UploadServer) error {
	ids := metadata.ValueFromIncomingContext(up.Context(), fileKey)
	if len(ids) != 1 {
		return status.Error(codes.InvalidArgument, "the metadata has to name one file")
	}
	for {
		chunk, err := up.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return up.SendAndClose(&uploadpb.Receipt{Chunks: s.add(ids[0], nil)})
		case err != nil:
			return err
		}
		s.add(ids[0], chunk)
	}
}

// add adds the chunk, unless it came before, and returns how many there are.
func (s *store) add(id string, chunk *uploadpb.Chunk) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if chunk.GetNumber() == uint64(len(s.files[id]))+1 {
		s.files[id] = append(s.files[id], string(chunk.GetData()))
	}
	return uint64(len(s.files[id]))
}

// chunks returns what there is of a file.
func (s *store) chunks(id string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.files[id])
}

// Status implements [uploadpb.StoreServer].
func (s *store) Status(_ context.Context, f *uploadpb.File) (*uploadpb.Receipt, error) {
	return &uploadpb.Receipt{Chunks: s.add(f.GetId(), nil)}, nil
}

func (s *store) register(server *grpc.Server) { uploadpb.RegisterStoreServer(server, s) }
