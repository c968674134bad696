// Package otel reports streams, calls and admissions to OpenTelemetry: metrics, and traces of streams.
//
//	observer, err := streamotel.New()
//	if err != nil {
//		return err
//	}
//	defer observer.Close()
//	s, err := stream.Resilient(ctx, client.Watch, callbacks, stream.WithObserver(observer))
//
// One [Observer] is enough for a process. Give it to WithObserver of stream (for clients and servers), unary (for clients) and tap.
//
// # Metrics
//
// Names of gRFC A66 and A96 are used if they mean the same. All others begin with streamsafe. README.md has the list. Nothing is
// recorded for a message: counts of messages are read from the streams when metrics are collected. The lifetime of a stream has an
// instrument of its own, and is never mixed with the duration of calls. The number of streams is that of a set of streams, so it
// cannot go down twice.
//
// Attributes are closed sets: the method, the status code, and words of this package. A method that comes after 1,000 others is
// counted as "other". If the method is not known, that is "other" too. See stream.Observed for when it is known.
//
// # Traces
//
// A stream has a span that lasts until its end, and each attempt has one. Each of them is the root of a trace of its own: a trace
// that lasts for weeks can be neither sampled nor shown. Links connect them. The span of the stream links to the span that was
// current when the stream was made. The span of an attempt links to the span of the stream, and to the attempt before it. Nothing
// is added to a span for a message, and nothing to the span of a stream for an attempt.
//
// # Beside otelgrpc and grpc's stats/opentelemetry
//
// The span of an attempt is current in the context of the attempt. So the spans of otelgrpc are its children. Ours are of the kind
// internal, so whoever counts spans of clients counts each attempt once. The instruments of gRFC A66 are made by grpc's
// stats/opentelemetry, too. So they are off unless [WithGRPCMetrics] is given. Do not let otelgrpc record an event for each message
// of a stream (its option WithMessageEvents): they would stay in memory until the attempt ends.
package otel
