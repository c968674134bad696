package bench

import (
	"context"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/streamsafe/streamsafe/stream"
)

// BenchmarkOwn is what the clients themselves cost, over a stream that does nothing: a figure that neither the
// transport nor a busy machine blurs.
func BenchmarkOwn(b *testing.B) {
	for _, c := range Clients() {
		b.Run("Recv/client="+string(c), func(b *testing.B) {
			s := openStub(b, c)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Recv(); err != nil {
					b.Fatal(err)
				}
			}
		})
		if c == Replay {
			continue // nothing is encoded, and nothing acknowledged, without gRPC
		}
		b.Run("Send/client="+string(c), func(b *testing.B) {
			s := openStub(b, c)
			m := newRequest(askNothing, 0, headerSize)
			b.ReportAllocs()
			for b.Loop() {
				if err := s.Send(m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func openStub(b *testing.B, c Client) grpc.BidiStreamingClient[request, response] {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	under := &stub{ctx: ctx, m: newResponse(headerSize)}
	if c == Bare {
		b.Cleanup(cancel)
		return under
	}
	s, err := stream.Resilient(ctx, func(context.Context, ...grpc.CallOption) (*stub, error) { return under, nil }, callbacks(c), options(c)...)
	require.NoError(b, err)
	b.Cleanup(func() {
		cancel()
		_ = s.Close()
	})
	return s
}

// stub is a stream on which every call succeeds at once.
type stub struct {
	grpc.ClientStream
	ctx context.Context
	m   *response
	n   uint64
}

func (s *stub) Send(*request) error { return nil }

func (s *stub) Recv() (*response, error) {
	if s.ctx.Err() != nil {
		return nil, io.EOF
	}
	s.n++
	setPosition(s.m, s.n)
	return s.m, nil
}
