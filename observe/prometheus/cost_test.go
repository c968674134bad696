package prometheus_test

import (
	"io"
	"log/slog"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/observe"
	"github.com/streamsafe/streamsafe/observe/internal/demo"
	streamprom "github.com/streamsafe/streamsafe/observe/prometheus"
	"github.com/streamsafe/streamsafe/stream"
)

// floods opens a stream with each observer alone, and with all together; "none" first.
func floods(tb testing.TB) (names []string, streams []*demo.Stream) {
	tb.Helper()
	metrics := streamprom.NewCollector()
	prometheus.NewRegistry().MustRegister(metrics)
	logs, page := observe.Slog(slog.New(slog.NewTextHandler(io.Discard, nil))), observe.Handler()
	for _, c := range []struct {
		name string
		opts []stream.ClientOption
	}{
		{"none", nil},
		{"slog", []stream.ClientOption{stream.WithObserver(logs)}},
		{"page", []stream.ClientOption{stream.WithObserver(page)}},
		{"prometheus", []stream.ClientOption{stream.WithObserver(metrics)}},
		{"all", []stream.ClientOption{stream.WithObserver(logs), stream.WithObserver(page), stream.WithObserver(metrics)}},
	} {
		s, err := demo.Flood(tb.Context(), c.opts...)
		require.NoError(tb, err)
		tb.Cleanup(func() { _ = s.Close() })
		names, streams = append(names, c.name), append(streams, s)
	}
	return names, streams
}

// An observer allocates nothing for a message.
func TestObserversAllocateNothingForAMessage(t *testing.T) { //nolint:paralleltest // it counts the allocations of the whole process
	names, streams := floods(t)
	for n, s := range streams {
		_, _ = s.Recv()
		require.Zero(t, testing.AllocsPerRun(1000, func() { _, _ = s.Recv() }), names[n])
	}
}

// BenchmarkRecv compares Recv of floods with each observer.
func BenchmarkRecv(b *testing.B) {
	names, streams := floods(b)
	for b.Loop() {
		for n, ratio := range demo.Compare(streams...)[1:] {
			b.ReportMetric(ratio, names[n+1]+"/none")
		}
	}
}
