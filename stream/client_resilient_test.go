package stream_test

import (
	"context"
	"io"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/streamsafe/streamsafe/stream"
)

// chatClient is a client and a stream as protoc-gen-go-grpc made them before it had generic types: each method with a
// stream interface of its own.
type (
	chatClient interface {
		Chat(ctx context.Context, opts ...grpc.CallOption) (chatStream, error)
	}
	chatStream interface {
		Send(*request) error
		Recv() (*response, error)
		grpc.ClientStream
	}
	oldChatClient struct{ conn grpc.ClientConnInterface }
	oldChatStream struct{ grpc.ClientStream }
)

func (c *oldChatClient) Chat(ctx context.Context, opts ...grpc.CallOption) (chatStream, error) {
	s, err := c.conn.NewStream(ctx, &testpb.TestService_ServiceDesc.Streams[2], testpb.TestService_FullDuplexCall_FullMethodName, opts...)
	if err != nil {
		return nil, err
	}
	return &oldChatStream{s}, nil
}

func (s *oldChatStream) Send(m *request) error { return s.SendMsg(m) }

func (s *oldChatStream) Recv() (*response, error) {
	m := new(response)
	if err := s.RecvMsg(m); err != nil {
		return nil, err
	}
	return m, nil
}

// useBidi is a helper that takes what generated code takes.
func useBidi(s grpc.BidiStreamingClient[request, response]) ([]uint64, error) {
	var got []uint64
	for {
		m, err := s.Recv()
		if err != nil {
			return got, err
		}
		got = append(got, frameOf(m).seq)
	}
}

// All type parameters are inferred from the method value and from nothing else.
func TestTypesAreInferredFromTheMethod(t *testing.T) {
	t.Parallel()
	require.Equal(t, "FullDuplexCall", testpb.TestService_ServiceDesc.Streams[2].StreamName)
	t.Run("from generic generated code", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := scripted(t, sends(nil, numbered(1, 2)...))
			client := testpb.NewTestServiceClient(w.conn)
			s, err := stream.Resilient(w.watch.context(t.Context()), client.FullDuplexCall, positions())
			require.NoError(t, err)
			got, err := useBidi(s)
			require.ErrorIs(t, err, io.EOF)
			require.Equal(t, upTo(2), got)
		})
	})
	t.Run("from older generated code", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := scripted(t, sends(errGone, numbered(1)...), sends(nil, numbered(2)...))
			var client chatClient = &oldChatClient{w.conn}
			s, err := stream.Resilient(w.watch.context(t.Context()), client.Chat, positions())
			require.NoError(t, err)
			got, err := useBidi(s)
			require.ErrorIs(t, err, io.EOF)
			require.Equal(t, upTo(2), got)
			require.Equal(t, uint64(1), s.Stats().Resumes)
		})
	})
	t.Run("without callbacks", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := scripted(t, sends(nil, numbered(1)...))
			client := testpb.NewTestServiceClient(w.conn)
			s, err := stream.Resilient(w.watch.context(t.Context()), client.FullDuplexCall, stream.Callbacks[request, response]{})
			require.NoError(t, err)
			got, err := useBidi(s)
			require.ErrorIs(t, err, io.EOF)
			require.Equal(t, upTo(1), got)
		})
	})
}
