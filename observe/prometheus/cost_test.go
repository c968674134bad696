package prometheus_test

import (
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/observe"
	"github.com/streamsafe/streamsafe/observe/internal/demo"
	streamprom "github.com/streamsafe/streamsafe/observe/prometheus"
	"github.com/streamsafe/streamsafe/stream"
)

// flood is a stream on which each Recv returns at once: a figure that no transport blurs.
type flood struct {
	grpc.ClientStream
	m *demo.Response
	n uint64
}

func (f *flood) Send(*demo.Request) error { return nil }
func (f *flood) Context() context.Context { return context.Background() }

func (f *flood) Recv() (*demo.Response, error) {
	f.n++
	binary.LittleEndian.PutUint64(f.m.Payload.Body, f.n)
	return f.m, nil
}

func openFlood(tb testing.TB, opts ...stream.ClientOption) *demo.Stream {
	tb.Helper()
	s, err := stream.Resilient(tb.Context(), func(context.Context, ...grpc.CallOption) (*flood, error) {
		return &flood{m: &demo.Response{Payload: &testpb.Payload{Body: make([]byte, 8)}}}, nil
	}, stream.Callbacks[demo.Request, demo.Response]{
		Resume: func(context.Context, *stream.Resumption[demo.Request, demo.Response]) error { return nil },
		Checkpoint: func(m *demo.Response) (checkpoint.Position, bool) {
			return checkpoint.Position{Seq: binary.LittleEndian.Uint64(m.GetPayload().GetBody())}, true
		},
	}, opts...)
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = s.Close() })
	return s
}

// observers returns each observer alone, and all together; "none" first.
func observers() (names []string, opts map[string][]stream.ClientOption) {
	metrics := streamprom.NewCollector()
	prometheus.NewRegistry().MustRegister(metrics)
	logs, page := observe.Slog(slog.New(slog.NewTextHandler(io.Discard, nil))), observe.Handler()
	return []string{"none", "slog", "page", "prometheus", "all"}, map[string][]stream.ClientOption{
		"none": nil, "slog": {stream.WithObserver(logs)}, "page": {stream.WithObserver(page)}, "prometheus": {stream.WithObserver(metrics)},
		"all": {stream.WithObserver(logs), stream.WithObserver(page), stream.WithObserver(metrics)},
	}
}

// An observer allocates nothing for a message.
func TestObserversAllocateNothingForAMessage(t *testing.T) { //nolint:paralleltest // it counts the allocations of the whole process
	names, opts := observers()
	for _, name := range names {
		s := openFlood(t, opts[name]...)
		_, _ = s.Recv()
		require.Zero(t, testing.AllocsPerRun(1000, func() { _, _ = s.Recv() }), name)
	}
}

// BenchmarkRecv compares Recv of floods with each observer. All take turns, and the figures are medians.
func BenchmarkRecv(b *testing.B) {
	names, opts := observers()
	const messages, rounds = 100_000, 51
	took := map[string][]time.Duration{}
	streams := map[string]*demo.Stream{}
	for _, name := range names {
		streams[name] = openFlood(b, opts[name]...)
	}
	for b.Loop() {
		for range rounds {
			for _, name := range names {
				began := time.Now()
				for range messages {
					_, _ = streams[name].Recv()
				}
				took[name] = append(took[name], time.Since(began))
			}
		}
	}
	median := func(name string) float64 {
		slices.Sort(took[name])
		return float64(took[name][len(took[name])/2])
	}
	for _, name := range names[1:] {
		b.ReportMetric(median(name)/median("none"), name+"/none")
	}
}
