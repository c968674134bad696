package otel_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/checkpoint"
	streamotel "github.com/streamsafe/streamsafe/observe/otel"
	"github.com/streamsafe/streamsafe/stream"
	"github.com/streamsafe/streamsafe/stream/streamtest"
)

type (
	request  = testpb.StreamingOutputCallRequest
	response = testpb.StreamingOutputCallResponse
	bidi     = grpc.BidiStreamingServer[request, response]
)

const fullDuplex = "grpc.testing.TestService/FullDuplexCall"

var (
	errGone  = status.Error(codes.Unavailable, "gone")
	errFinal = status.Error(codes.InvalidArgument, "no")
)

// world is a server, a client, and what an observer has reported.
type world struct {
	testpb.UnimplementedTestServiceServer
	t        *testing.T
	observer *streamotel.Observer
	spans    *tracetest.SpanRecorder
	reader   *metric.ManualReader
	conn     *grpc.ClientConn
	network  *streamtest.Network
	server   *grpc.Server
	attempt  int
	handlers []func(bidi) error
}

func (w *world) FullDuplexCall(s bidi) error {
	i := min(w.attempt, len(w.handlers)-1) // there is one call at a time
	w.attempt++
	return w.handlers[i](s)
}

// start starts a server, each call of which runs the next handler. It has to be called in a bubble.
func start(t *testing.T, handlers []func(bidi) error, opts ...streamotel.Option) *world {
	t.Helper()
	return newWorld(t, handlers, nil, opts...)
}

// others returns what else is to observe both ends, with the providers of the world.
type others func(*metric.MeterProvider, *trace.TracerProvider) ([]grpc.ServerOption, []grpc.DialOption)

func newWorld(t *testing.T, handlers []func(bidi) error, others others, opts ...streamotel.Option) *world {
	t.Helper()
	w := &world{t: t, spans: tracetest.NewSpanRecorder(), reader: metric.NewManualReader(), network: streamtest.NewNetwork(), handlers: handlers}
	meters, tracers := metric.NewMeterProvider(metric.WithReader(w.reader)), trace.NewTracerProvider(trace.WithSpanProcessor(w.spans))
	var err error
	w.observer, err = streamotel.New(append([]streamotel.Option{
		streamotel.WithMeterProvider(meters), streamotel.WithTracerProvider(tracers),
	}, opts...)...)
	require.NoError(t, err)
	var serverOpts []grpc.ServerOption
	var dialOpts []grpc.DialOption
	if others != nil {
		serverOpts, dialOpts = others(meters, tracers)
	}
	w.server = grpc.NewServer(append(serverOpts, grpc.StreamInterceptor(stream.ServerInterceptor(stream.WithObserver(w.observer))))...)
	testpb.RegisterTestServiceServer(w.server, w)
	listener := w.network.Listener()
	go func() { _ = w.server.Serve(listener) }() // ends with the server
	w.conn, err = w.network.Client(stream.DialOptions(insecure.NewCredentials(), dialOpts...)...)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, w.conn.Close())
		w.server.Stop()
		require.NoError(t, w.network.Close())
	})
	return w
}

func (w *world) dial(ctx context.Context, opts ...stream.ClientOption) *stream.ClientStream[request, response] {
	w.t.Helper()
	s, err := stream.Resilient(ctx, testpb.NewTestServiceClient(w.conn).FullDuplexCall, stream.Callbacks[request, response]{
		Resume: func(context.Context, *stream.Resumption[request, response]) error { return nil },
		Checkpoint: func(m *response) (checkpoint.Position, bool) {
			return checkpoint.Position{Seq: uint64(m.GetPayload().GetType())}, false
		},
	}, append([]stream.ClientOption{stream.WithName("prices"), stream.WithObserver(w.observer)}, opts...)...)
	require.NoError(w.t, err)
	return s
}

// sends returns a handler that sends n messages and then returns err.
func sends(n int, err error) func(bidi) error {
	return func(s bidi) error {
		for range n {
			if err := s.Send(&response{}); err != nil {
				return err
			}
		}
		return err
	}
}

// stays returns a handler that sends n messages, and waits for the client to leave.
func stays(n int) func(bidi) error {
	return func(s bidi) error {
		if err := sends(n, nil)(s); err != nil {
			return err
		}
		<-s.Context().Done()
		return s.Context().Err()
	}
}

// lasts returns a handler that sends nothing for a time, and ends with OK.
func lasts(d time.Duration) func(bidi) error {
	return func(s bidi) error {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
			return nil
		case <-s.Context().Done():
			return s.Context().Err()
		}
	}
}

// all returns all metrics.
func (w *world) all() (rm metricdata.ResourceMetrics) {
	w.t.Helper()
	require.NoError(w.t, w.reader.Collect(w.t.Context(), &rm))
	return rm
}

// seconds returns the sum of a histogram.
func (w *world) seconds(name string) (sum float64) {
	w.t.Helper()
	for _, scope := range w.all().ScopeMetrics {
		for _, m := range scope.Metrics {
			if data, ok := m.Data.(metricdata.Histogram[float64]); ok && m.Name == name {
				for _, p := range data.DataPoints {
					sum += p.Sum
				}
			}
		}
	}
	return sum
}

// collect returns what a metric of that name has, by the values of its attributes.
func (w *world) collect(name string) map[attribute.Set]float64 {
	w.t.Helper()
	values := make(map[attribute.Set]float64)
	for _, scope := range w.all().ScopeMetrics {
		for _, m := range scope.Metrics {
			if m.Name != name {
				continue
			}
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					values[p.Attributes] = float64(p.Value)
				}
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					values[p.Attributes] = float64(p.Count)
				}
			case metricdata.Histogram[int64]:
				for _, p := range data.DataPoints {
					values[p.Attributes] = float64(p.Sum)
				}
			default:
				require.Fail(w.t, "another kind of data", "%T", data)
			}
		}
	}
	return values
}

func attrs(pairs ...string) attribute.Set {
	kvs := make([]attribute.KeyValue, 0, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		kvs = append(kvs, attribute.String(pairs[i], pairs[i+1]))
	}
	return attribute.NewSet(kvs...)
}
