package bench

import (
	"context"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"

	"github.com/streamsafe/streamsafe/internal/verify"
	"github.com/streamsafe/streamsafe/stream"
)

// BenchmarkOwn is what the clients themselves cost, over a stream that encodes what is sent and does nothing else: a
// figure that neither the transport nor a busy machine blurs.
func BenchmarkOwn(b *testing.B) {
	for _, size := range Sizes() {
		for _, c := range Clients() {
			name := "/size=" + SizeName(size) + "/client=" + string(c)
			b.Run("Recv"+name, func(b *testing.B) { benchmarkOwn(b, c, size, recvOwn) })
			b.Run("Send"+name, func(b *testing.B) { benchmarkOwn(b, c, size, sendOwn) })
		}
	}
}

func benchmarkOwn(b *testing.B, c Client, size int, once func(own) error) {
	b.Helper()
	s := openOwn(b, c, size)
	b.ReportAllocs()
	for b.Loop() {
		if err := once(s); err != nil {
			b.Fatal(err)
		}
	}
}

// What a client itself allocates: for a message received nothing, for a message sent nothing, or one object where a
// copy of it is kept.
func TestOwnAllocations(t *testing.T) { //nolint:paralleltest // both levels: it counts the allocations of the whole process
	if verify.Enabled {
		t.Skip("the race detector changes what is allocated")
	}
	for _, size := range Sizes() { //nolint:paralleltest // as above
		t.Run("size="+SizeName(size), func(t *testing.T) {
			bare := openOwn(t, Bare, size)
			for _, c := range Clients()[1:] {
				if c == Executor {
					continue // failsafe-go's executors allocate
				}
				s := openOwn(t, c, size)
				added := ownAllocations(t, s, recvOwn) - ownAllocations(t, bare, recvOwn)
				require.Zero(t, added, "%s: allocations for a message received", c)

				budget := 0.0
				if c == Replay {
					budget = 1
				}
				added = ownAllocations(t, s, sendOwn) - ownAllocations(t, bare, sendOwn)
				require.LessOrEqual(t, added, budget, "%s: allocations for a message sent", c)
			}
		})
	}
}

func ownAllocations(t *testing.T, s own, once func(own) error) float64 {
	t.Helper()
	return testing.AllocsPerRun(1000, func() {
		if err := once(s); err != nil {
			t.Fatal(err)
		}
	})
}

// own is a client over a stub, and a message to send.
type own struct {
	grpc.BidiStreamingClient[request, response]
	stub *stub
	m    *request
}

func openOwn(tb testing.TB, c Client, size int) own {
	tb.Helper()
	s := own{stub: &stub{m: newResponse(size)}, m: newRequest(askNothing, 0, size)}
	open := func(_ context.Context, opts ...grpc.CallOption) (*stub, error) {
		s.stub.codec = encoding.GetCodecV2(proto.Name)
		for _, opt := range opts {
			if forced, ok := opt.(grpc.ForceCodecV2CallOption); ok {
				s.stub.codec = forced.CodecV2
			}
		}
		return s.stub, nil
	}
	if c == Bare {
		_, err := open(tb.Context())
		require.NoError(tb, err)
		s.BidiStreamingClient = s.stub
		return s
	}
	resilient, err := stream.Resilient(tb.Context(), open, callbacks(c), options(c)...)
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = resilient.Close() })
	s.BidiStreamingClient = resilient
	return s
}

func recvOwn(s own) error {
	_, err := s.Recv()
	return err
}

// sendOwn sends a message, and receives an acknowledgement where one is due.
func sendOwn(s own) error {
	if err := s.Send(s.m); err != nil {
		return err
	}
	if s.stub.sent%ackEvery == 0 {
		_, err := s.Recv()
		return err
	}
	return nil
}

// stub is a stream on which every call succeeds at once.
type stub struct {
	grpc.ClientStream
	codec          encoding.CodecV2
	m              *response // what Recv returns
	sent, received uint64
}

func (s *stub) Send(m *request) error {
	data, err := s.codec.Marshal(m)
	if err != nil {
		return err
	}
	data.Free()
	s.sent++
	return nil
}

func (s *stub) Context() context.Context { return context.Background() }

func (s *stub) Recv() (*response, error) {
	s.received++
	setPosition(s.m, s.received)
	binary.LittleEndian.PutUint64(s.m.Payload.Body[8:], s.sent)
	return s.m, nil
}
