package stream_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/stream"
)

// brokenStream is an attempt on which every Recv fails, and is counted.
type brokenStream struct {
	grpc.ClientStream
	t     *testing.T
	recvs *atomic.Int64
}

func (s brokenStream) Send(*request) error { return nil }

func (s brokenStream) Recv() (*response, error) {
	giveUpAfter(s.t, s.recvs, "Recv")
	return nil, status.Error(codes.Unavailable, "broken")
}

func (s brokenStream) Trailer() metadata.MD { return nil }

func (s brokenStream) Context() context.Context { return context.Background() }

// A Recv that has failed is not repeated on the dead attempt while the stream finds out: it would keep the lock that the
// reconnect waits for.
func TestRecvAsksDeadAttemptOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const attempts = 200
		var opens, recvs atomic.Int64
		open := func(context.Context, ...grpc.CallOption) (brokenStream, error) {
			if opens.Add(1) > attempts {
				return brokenStream{}, status.Error(codes.PermissionDenied, "enough")
			}
			return brokenStream{t: t, recvs: &recvs}, nil
		}
		s, err := stream.Resilient(t.Context(), open, stream.Callbacks[request, response]{})
		require.NoError(t, err)
		_, err = s.Recv()
		require.Equal(t, codes.PermissionDenied, status.Code(err))
		require.Equal(t, int64(attempts), recvs.Load(), "one Recv for each attempt")
	})
}
