package demo

import (
	"context"
	"encoding/binary"
	"slices"
	"time"

	"google.golang.org/grpc"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream"
)

// flood is a stream on which each Recv returns at once: a figure that no transport blurs.
type flood struct {
	grpc.ClientStream
	m *Response
	n uint64
}

// Send sends nothing.
func (f *flood) Send(*Request) error { return nil }

// Context is never done.
func (f *flood) Context() context.Context { return context.Background() }

// Recv returns the next number.
func (f *flood) Recv() (*Response, error) {
	f.n++
	binary.LittleEndian.PutUint64(f.m.GetPayload().GetBody(), f.n)
	return f.m, nil
}

// Flood opens a stream without a server, on which each Recv returns at once.
func Flood(ctx context.Context, opts ...stream.ClientOption) (*Stream, error) {
	return stream.Resilient(ctx, func(context.Context, ...grpc.CallOption) (*flood, error) {
		return &flood{m: &Response{Payload: &testpb.Payload{Body: make([]byte, 8)}}}, nil
	}, stream.Callbacks[Request, Response]{
		Resume: func(context.Context, *stream.Resumption[Request, Response]) error { return nil },
		Checkpoint: func(m *Response) (checkpoint.Position, bool) {
			return checkpoint.Position{Seq: binary.LittleEndian.Uint64(m.GetPayload().GetBody())}, true
		},
	}, opts...)
}

// Compare receives from streams in turns, and returns the median of each divided by that of the first one.
func Compare(streams ...*Stream) []float64 {
	const messages, rounds = 100_000, 51
	took := make([][]time.Duration, len(streams))
	for range rounds {
		for n, s := range streams {
			began := time.Now()
			for range messages {
				_, _ = s.Recv()
			}
			took[n] = append(took[n], time.Since(began))
		}
	}
	ratios := make([]float64, len(streams))
	for n := range took {
		slices.Sort(took[n])
		ratios[n] = float64(took[n][rounds/2]) / float64(took[0][rounds/2])
	}
	return ratios
}
