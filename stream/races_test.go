package stream_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/streamsafe/streamsafe/internal/testnet"
	"github.com/streamsafe/streamsafe/stream"
)

// burst is a size of messages that lets few of them travel at once, so that there is time for many breaks.
const burst = 8 << 10

// Send and Recv race with breaks, thousands of times.
func TestExchangeRacingWithBreaks(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		t.Run(fmt.Sprintf("seed %d", seed+1), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const messages = 3000
				f := &feed{total: messages, size: burst}
				j := keepJournal(f)
				w := newWorld(t, f)
				w.Chaos(testnet.Chaos{
					Seed: seed + 1, Kinds: []testnet.Kind{testnet.FIN, testnet.RST, testnet.Truncate}, Messages: 12,
				})
				s := w.mustOpen(stream.WithReplay(stream.ReplayLimits{Messages: 8}))
				converse(t, s, j, messages)
				require.GreaterOrEqual(t, len(w.Cuts()), 100, "breaks")
				require.Equal(t, s.Stats().Outages, s.Stats().Resumes, "each outage was got over")
			})
		})
	}
}

// The same over real sockets. Nothing is left over in the end (invariant 23).
func TestExchangeRacingWithBreaksOverTCP(t *testing.T) { //nolint:paralleltest // goleak sees the goroutines of all tests
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	const messages = 2000
	f := &feed{total: messages, size: burst}
	j := keepJournal(f)
	proxy, err := testnet.NewTCP("")
	require.NoError(t, err)
	listener, err := proxy.Listen()
	require.NoError(t, err)
	server := grpc.NewServer()
	testpb.RegisterTestServiceServer(server, f)
	go func() { _ = server.Serve(listener) }() // ends with the server, which the end of the test stops
	conn, err := proxy.Client(grpc.WithConnectParams(fastConnect))
	require.NoError(t, err)
	defer func() {
		_ = conn.Close()
		server.Stop()
		require.NoError(t, proxy.Close())
	}()
	proxy.Chaos(testnet.Chaos{Seed: 2, Kinds: []testnet.Kind{testnet.FIN, testnet.RST, testnet.Truncate}, Messages: 20})
	s, err := stream.Resilient(t.Context(), testpb.NewTestServiceClient(conn).FullDuplexCall, f.callbacks(),
		stream.WithReplay(stream.ReplayLimits{Messages: 8}),
		stream.WithStreamPolicies(stream.NewRetryPolicyBuilder().WithBackoff(time.Millisecond, 2*time.Millisecond).Build()))
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	converse(t, s, j, messages)
	require.GreaterOrEqual(t, len(proxy.Cuts()), 20, "breaks, of a hundred or so on a machine that does nothing else")
}
