package stream

import (
	"context"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// deafStream is a stream of an attempt that does nothing.
type deafStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s deafStream) Context() context.Context { return s.ctx }

func (s deafStream) SetTrailer(metadata.MD) {}

// Ids that somebody makes up leave nothing behind, and neither do streams that a drain refuses.
func TestMadeUpStreamIDs(t *testing.T) { //nolint:paralleltest // it measures the heap
	if testing.Short() {
		t.Skip("it opens 100,000 streams")
	}
	d := NewDrainer()
	v := newServer([]ServerOption{WithDrainer(d)})
	require.NoError(t, v.wrong)
	attempts := func(n int) {
		for range n {
			ss := deafStream{ctx: incoming(streamKey, newStreamID().Hex(), attemptKey, "1", positionKey, "\x01\x00token")}
			_ = v.intercept(nil, ss, &grpc.StreamServerInfo{FullMethod: "/a.B/C"}, func(any, grpc.ServerStream) error { return nil })
		}
	}
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	attempts(1000)
	before := heap()
	attempts(100_000)
	require.Empty(t, v.fence.streams)
	require.Empty(t, d.streams)
	require.Less(t, heap(), before+1<<20, "the heap is as large as before")
	require.NoError(t, d.Drain(t.Context()))
	attempts(1000)
	require.Empty(t, v.fence.streams)
	require.Empty(t, d.streams)
}

func TestEndNames(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for end := EndReturned; end <= EndRefused; end++ {
		require.NotEmpty(t, end.String())
		require.False(t, seen[end.String()], "a name of its own: it is a label and a trailer")
		seen[end.String()] = true
	}
	require.Equal(t, "end(11)", End(11).String())
}

// Who the transport has authenticated owns a stream.
func TestAnOwnerIsAuthenticated(t *testing.T) {
	t.Parallel()
	require.Empty(t, authenticated(nil))
	require.NotEmpty(t, authenticated(altsInfo{}))
}

type altsInfo struct{}

func (altsInfo) AuthType() string           { return "alts" }
func (altsInfo) PeerServiceAccount() string { return "somebody" }
