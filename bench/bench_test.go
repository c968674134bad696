package bench

import (
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/internal/verify"
)

func BenchmarkRecv(b *testing.B)     { compare(b, (*Session).Recv) }
func BenchmarkSend(b *testing.B)     { compare(b, (*Session).Send) }
func BenchmarkPingPong(b *testing.B) { compare(b, (*Session).PingPong) }

// BenchmarkDialled is what stream.DialOptions cost.
func BenchmarkDialled(b *testing.B) {
	f := dialField()
	for _, w := range f.Workloads {
		for _, variant := range f.Variants {
			b.Run(w.Name+"/client="+variant, func(b *testing.B) {
				s, err := f.Open(b.Context(), variant, 1<<10)
				require.NoError(b, err)
				b.Cleanup(s.Close)
				b.ReportAllocs()
				b.ResetTimer()
				require.NoError(b, w.Run(s, b.N))
			})
		}
	}
}

// BenchmarkReconnect is the time from a cut to the next message, most of which is the backoff. Beside it stands what is
// left without the backoff.
func BenchmarkReconnect(b *testing.B) {
	for _, c := range []Client{Bare, Checkpoint} {
		b.Run("client="+string(c), func(b *testing.B) {
			outages, err := Reconnect(b.Context(), c, b.N, 1)
			require.NoError(b, err)
			var rest time.Duration
			for _, o := range outages {
				rest += o.Time - o.Delay
			}
			b.ReportMetric(float64(rest)/float64(b.N), "ns-without-backoff/op")
		})
	}
}

// compare runs a workload with all sizes and clients.
func compare(b *testing.B, run func(*Session, int) error) {
	b.Helper()
	for _, size := range Sizes() {
		for _, c := range Clients() {
			b.Run("size="+SizeName(size)+"/client="+string(c), func(b *testing.B) {
				s := open(b, c, size)
				b.ReportAllocs()
				b.ResetTimer()
				require.NoError(b, run(s, b.N))
			})
		}
	}
}

// open opens a session that ends with the test.
func open(tb testing.TB, c Client, size int) *Session {
	tb.Helper()
	server, err := NewServer()
	require.NoError(tb, err)
	tb.Cleanup(server.Close)
	s, err := Open(tb.Context(), server, c, size)
	require.NoError(tb, err)
	tb.Cleanup(s.Close)
	return s
}

// The budget of a message is at most these allocations more than bare gRPC's, server included: whole ones, since what
// grpc allocates itself varies by how many messages it writes at once.
func TestAddedAllocations(t *testing.T) { //nolint:paralleltest // both levels: it counts the allocations of the whole process
	if verify.Enabled {
		t.Skip("the race detector changes what is allocated")
	}
	budgets := map[string]map[Client]float64{
		"Recv":     {Checkpoint: 0, Idle: 0, Policies: 0},
		"Send":     {Checkpoint: 0, Idle: 0, Policies: 0, Replay: 1},
		"PingPong": {Checkpoint: 0, Idle: 0, Policies: 0, Replay: 1},
	}
	for _, w := range Workloads() { //nolint:paralleltest // as above
		for _, size := range Sizes() {
			t.Run(w.Name+"/size="+SizeName(size), func(t *testing.T) {
				sessions := map[Client]*Session{}
				for _, c := range Clients() {
					sessions[c] = open(t, c, size)
				}
				messages := min(1000, 8<<20/size)
				bare := allocations(t, w, sessions[Bare], messages)
				for c, budget := range budgets[w.Name] {
					added := allocations(t, w, sessions[c], messages) - bare
					t.Logf("%s: %.2f more than %.2f", c, added, bare)
					require.Less(t, added, budget+0.95, "%s allocates too much", c)
				}
			})
		}
	}
}

// allocations returns how many allocations the process makes for one message: the median of several rounds.
func allocations(t *testing.T, w Workload, s *Session, messages int) float64 {
	t.Helper()
	const rounds = 7
	require.NoError(t, w.Run(s, messages)) // buffers grow
	counts := make([]float64, 0, rounds)
	var before, after runtime.MemStats
	for range rounds {
		runtime.ReadMemStats(&before)
		require.NoError(t, w.Run(s, messages))
		runtime.ReadMemStats(&after)
		counts = append(counts, float64(after.Mallocs-before.Mallocs)/float64(messages))
	}
	slices.Sort(counts)
	return counts[rounds/2]
}
