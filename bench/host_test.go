package bench

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/streamsafe/streamsafe/internal/verify"
	"github.com/streamsafe/streamsafe/stream"
)

// The floods of a bare client against each kind of server.
func BenchmarkServerRecv(b *testing.B) { compareHosts(b, (*Session).Send) }
func BenchmarkServerSend(b *testing.B) { compareHosts(b, (*Session).Recv) }

func compareHosts(b *testing.B, run func(*Session, int) error) {
	b.Helper()
	f := hostField()
	for _, size := range Sizes() {
		for _, h := range f.Variants {
			b.Run("size="+SizeName(size)+"/client="+h, func(b *testing.B) {
				s, err := f.Open(b.Context(), h, size)
				require.NoError(b, err)
				b.Cleanup(s.Close)
				b.ReportAllocs()
				b.ResetTimer()
				require.NoError(b, run(s, b.N))
			})
		}
	}
}

// deaf is a stream that does nothing.
type deaf struct {
	grpc.ServerStream
	ctx context.Context
}

func (s deaf) Context() context.Context { return s.ctx }
func (s deaf) SendMsg(any) error        { return nil }
func (s deaf) RecvMsg(any) error        { return nil }

// onDeaf runs f with a stream of a kind of server over a deaf stream.
func onDeaf(tb testing.TB, h Host, f func(grpc.ServerStream)) {
	tb.Helper()
	handler := func(_ any, ss grpc.ServerStream) error {
		f(ss)
		return nil
	}
	ss := deaf{ctx: tb.Context()}
	if h == HostBare {
		require.NoError(tb, handler(nil, ss))
		return
	}
	intercept := stream.ServerInterceptor(serverOptions(h)...)
	require.NoError(tb, intercept(nil, ss, &grpc.StreamServerInfo{FullMethod: "/a.B/C"}, handler))
}

// BenchmarkServerOwn is what a server stream itself costs for each message.
func BenchmarkServerOwn(b *testing.B) {
	for _, h := range Hosts() {
		for name, once := range map[string]func(grpc.ServerStream) error{
			"Recv": func(ss grpc.ServerStream) error { return ss.RecvMsg(nil) },
			"Send": func(ss grpc.ServerStream) error { return ss.SendMsg(nil) },
		} {
			b.Run(name+"/client="+string(h), func(b *testing.B) {
				onDeaf(b, h, func(ss grpc.ServerStream) {
					b.ReportAllocs()
					for b.Loop() {
						_ = once(ss)
					}
				})
			})
		}
	}
}

// A server stream allocates nothing for a message.
func TestServerAllocations(t *testing.T) { //nolint:paralleltest // it counts the allocations of the whole process
	if verify.Enabled {
		t.Skip("the race detector changes what is allocated")
	}
	for _, h := range Hosts() {
		onDeaf(t, h, func(ss grpc.ServerStream) {
			require.Zero(t, testing.AllocsPerRun(1000, func() {
				_, _ = ss.RecvMsg(nil), ss.SendMsg(nil)
			}), string(h))
		})
	}
}
