package otel_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/streamsafe/streamsafe/observe/internal/demo"
	streamotel "github.com/streamsafe/streamsafe/observe/otel"
	"github.com/streamsafe/streamsafe/stream"
)

// floods opens a stream without the observer, and one with it.
func floods(tb testing.TB) []*demo.Stream {
	tb.Helper()
	o, err := streamotel.New(streamotel.WithGRPCMetrics(), streamotel.WithTracerProvider(sdktrace.NewTracerProvider()),
		streamotel.WithMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))))
	require.NoError(tb, err)
	var streams []*demo.Stream
	for _, opts := range [][]stream.ClientOption{nil, {stream.WithObserver(o)}} {
		s, err := demo.Flood(tb.Context(), opts...)
		require.NoError(tb, err)
		tb.Cleanup(func() { _ = s.Close() })
		streams = append(streams, s)
	}
	return streams
}

// An observer allocates nothing for a message.
func TestTheObserverAllocatesNothingForAMessage(t *testing.T) { //nolint:paralleltest // it counts the allocations of the whole process
	for _, s := range floods(t) {
		_, _ = s.Recv()
		require.Zero(t, testing.AllocsPerRun(1000, func() { _, _ = s.Recv() }))
	}
}

// BenchmarkRecv compares Recv of a flood with and without the observer.
func BenchmarkRecv(b *testing.B) {
	streams := floods(b)
	for b.Loop() {
		b.ReportMetric(demo.Compare(streams...)[1], "otel/none")
	}
}
