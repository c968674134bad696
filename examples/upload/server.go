package main

import (
	"context"
	"errors"
	"io"
	"sync"

	"google.golang.org/grpc"

	"github.com/streamsafe/streamsafe/examples/upload/uploadpb"
)

// store keeps the chunks of files. They outlive calls, as they would on a disk.
type store struct {
	uploadpb.UnimplementedStoreServer

	mu    sync.Mutex // guards the field below
	files map[string][]string
}

// Upload takes the chunks that follow those that are there.
func (s *store) Upload(up uploadpb.Store_UploadServer) error {
	for id := ""; ; {
		chunk, err := up.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return up.SendAndClose(&uploadpb.Receipt{Chunks: s.add(id, nil)})
		case err != nil:
			return err
		}
		id = chunk.GetId()
		s.add(id, chunk)
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

// Status implements [uploadpb.StoreServer].
func (s *store) Status(_ context.Context, f *uploadpb.File) (*uploadpb.Receipt, error) {
	return &uploadpb.Receipt{Chunks: s.add(f.GetId(), nil)}, nil
}

func (s *store) register(server *grpc.Server) { uploadpb.RegisterStoreServer(server, s) }
