package otel_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
)

// beside is a world in which otelgrpc observes the calls on both ends, with the same providers.
func beside(t *testing.T, handlers ...func(bidi) error) *world {
	t.Helper()
	return newWorld(t, handlers, func(meters *metric.MeterProvider, tracers *sdktrace.TracerProvider) ([]grpc.ServerOption, []grpc.DialOption) {
		opts := []otelgrpc.Option{otelgrpc.WithMeterProvider(meters), otelgrpc.WithTracerProvider(tracers)}
		return []grpc.ServerOption{grpc.StatsHandler(otelgrpc.NewServerHandler(opts...))},
			[]grpc.DialOption{grpc.WithStatsHandler(otelgrpc.NewClientHandler(opts...))}
	})
}

// An attempt is a call to otelgrpc. Both in one process count it once each, under names of their own: neither adds to the other's.
func TestNothingIsCountedTwiceBesideOtelgrpc(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := beside(t, sends(3, errGone), sends(0, errGone), sends(2, nil))
		require.Equal(t, 5, drain(t, w.dial(t.Context())))
		synctest.Wait()

		byScope := w.names()
		require.Len(t, byScope, 2, "ours, and otelgrpc's")
		ours, theirs := byScope["github.com/streamsafe/streamsafe/observe/otel"], byScope[otelgrpc.ScopeName]
		require.NotEmpty(t, theirs)
		for _, name := range ours {
			require.NotContains(t, theirs, name)
			require.False(t, strings.HasPrefix(name, "rpc."), name)
			require.False(t, strings.HasPrefix(name, "grpc."), "%s is recorded though it was not asked for", name)
		}
		method := attrs("grpc.method", fullDuplex)
		require.InDelta(t, 3, total(w.collect("rpc.client.call.duration"))+total(w.collect("rpc.client.duration")), 0, "otelgrpc: each attempt once")
		require.InDelta(t, 3, total(w.collect("rpc.server.call.duration"))+total(w.collect("rpc.server.duration")), 0, "otelgrpc: each call once")
		require.Equal(t, map[attribute.Set]float64{method: 3}, w.collect("streamsafe.client.attempts"))
		require.InDelta(t, 1, total(w.collect("streamsafe.client.stream.duration")), 0, "one stream")
		require.InDelta(t, 3, total(w.collect("streamsafe.server.stream.duration")), 0)
		require.InDelta(t, 5, w.collect("streamsafe.client.messages")[attrs("grpc.method", fullDuplex, "streamsafe.messages", "received")], 0)

		kinds := map[trace.SpanKind]int{}
		attempts := map[trace.SpanID]bool{}
		for _, s := range w.spans.Ended() {
			kinds[s.SpanKind()]++
			if s.Name() == "streamsafe.attempt" {
				attempts[s.SpanContext().SpanID()] = true
			}
		}
		require.Equal(t, map[trace.SpanKind]int{trace.SpanKindInternal: 4, trace.SpanKindClient: 3, trace.SpanKindServer: 3}, kinds,
			"a stream and three attempts of ours are no calls")
		parents := map[trace.SpanID]bool{}
		for _, s := range w.spans.Ended() {
			if s.SpanKind() == trace.SpanKindClient {
				parents[s.Parent().SpanID()] = true
				require.Empty(t, s.Events(), "nothing is added for a message")
			}
		}
		require.Equal(t, attempts, parents, "each call is a child of an attempt of its own")
		require.Len(t, w.spans.Started(), len(w.spans.Ended()))
	})
}

func total(values map[attribute.Set]float64) (sum float64) {
	for v := range maps.Values(values) {
		sum += v
	}
	return sum
}

// names returns the names of the metrics that have data, by their scope.
func (w *world) names() map[string][]string {
	w.t.Helper()
	names := make(map[string][]string)
	for _, scope := range w.all().ScopeMetrics {
		for _, m := range scope.Metrics {
			names[scope.Scope.Name] = append(names[scope.Scope.Name], m.Name)
		}
		slices.Sort(names[scope.Scope.Name])
	}
	return names
}
