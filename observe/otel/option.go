package otel

import (
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

// Option is an option of [New].
type Option interface{ apply(o *options) }

type options struct {
	meters  metric.MeterProvider
	tracers trace.TracerProvider
	target  string
	names   bool
	grpc    bool
}

type option func(*options)

func (f option) apply(o *options) { f(o) }

// WithMeterProvider sets where instruments come from. Default, and nil: the global provider. With the provider of
// go.opentelemetry.io/otel/metric/noop there are no metrics.
func WithMeterProvider(p metric.MeterProvider) Option {
	return option(func(o *options) { o.meters = p })
}

// WithTracerProvider sets where spans come from. Default, and nil: the global provider. With the provider of
// go.opentelemetry.io/otel/trace/noop there are no spans.
func WithTracerProvider(p trace.TracerProvider) Option {
	return option(func(o *options) { o.tracers = p })
}

// WithTarget sets the attribute grpc.target of the instruments that gRFC A66 and A96 define for clients: the target that the
// connection was made with. An observer does not see it. Default, and "": the attribute is left out. If a process has several
// targets, give each of them an Observer.
func WithTarget(target string) Option {
	return option(func(o *options) { o.target = target })
}

// WithStreamNames adds the attribute streamsafe.stream, which is the name of stream.WithName, to the metrics of client streams.
// Default: it is left out, since a program may put an id into the name. A name that comes after 1,000 others is "other".
func WithStreamNames() Option {
	return option(func(o *options) { o.names = true })
}

// WithGRPCMetrics records the instruments of gRFC A66 for attempts and calls: grpc.client.attempt.started,
// grpc.client.attempt.duration, grpc.client.call.duration, grpc.server.call.started and grpc.server.call.duration. Default: they
// are left out. Do not use it beside grpc's stats/opentelemetry, which records the same.
func WithGRPCMetrics() Option {
	return option(func(o *options) { o.grpc = true })
}

func newOptions(opts []Option) options {
	var o options
	for _, opt := range opts {
		if opt != nil {
			opt.apply(&o)
		}
	}
	if o.meters == nil {
		o.meters = otel.GetMeterProvider()
	}
	if o.tracers == nil {
		o.tracers = otel.GetTracerProvider()
	}
	return o
}
