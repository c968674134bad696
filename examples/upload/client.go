// Command upload sends a file through a network that keeps breaking. After each break Resume asks the server with another call how
// much it has, and only the rest is sent again. The answer comes once, at the end.
//
// The last line compares what the server has with the file:
//
//	chunks=N cuts=C lost=0 duplicated=0 reordered=0
package main

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/streamsafe/streamsafe/examples/internal/stage"
	"github.com/streamsafe/streamsafe/examples/upload/uploadpb"
	"github.com/streamsafe/streamsafe/stream"
	"github.com/streamsafe/streamsafe/stream/streamtest"
)

func main() {
	var server store
	stage.Main(server.check, server.register, streamtest.ToServer, 40)
}

// upload sends the chunks of a file, and returns how many the server has.
func upload(ctx context.Context, client uploadpb.StoreClient, id string, chunks []string) (uint64, error) {
	ctx = metadata.AppendToOutgoingContext(ctx, fileKey, id) // after a break there may be no chunk left to say it with
	s, err := stream.ResilientClientStreaming(ctx, client.Upload, stream.Callbacks[uploadpb.Chunk, uploadpb.Receipt]{
		Resume: func(ctx context.Context, r *stream.Resumption[uploadpb.Chunk, uploadpb.Receipt]) error {
			if r.Attempt() == 1 {
				return nil
			}
			have, err := client.Status(ctx, &uploadpb.File{Id: id}, grpc.WaitForReady(true))
			r.Acknowledge(have.GetChunks())
			return err
		},
	}, stream.WithReplay(stream.ReplayLimits{}))
	if err != nil {
		return 0, err
	}
	defer func() { _ = s.Close() }()
	for n, chunk := range chunks {
		if err := s.Send(&uploadpb.Chunk{Id: id, Number: uint64(n) + 1, Data: []byte(chunk)}); err != nil {
			break // CloseAndRecv tells
		}
	}
	receipt, err := s.CloseAndRecv()
	return receipt.GetChunks(), err
}

// check uploads a file and looks at what the server has.
func (s *store) check(ctx context.Context, on *stage.Stage) error {
	chunks := stage.Texts("%16000d", 500)
	stored, err := upload(ctx, uploadpb.NewStoreClient(on), "1", chunks)
	if err == nil && stored != uint64(len(chunks)) {
		err = fmt.Errorf("the receipt is for %d chunks, not %d", stored, len(chunks))
	}
	return errors.Join(err, stage.Check(on, "chunks", chunks, s.files.Of("1").All()))
}
