package otel

import (
	"errors"

	"go.opentelemetry.io/otel/metric"
)

// instruments are all that is recorded.
type instruments struct {
	// gRFC A66
	attemptStarted                                    metric.Int64Counter
	attemptDuration, callDuration, serverCallDuration metric.Float64Histogram
	serverCallStarted                                 metric.Int64Counter

	// gRFC A96, of unary calls. Its grpc.client.call.retry_delay is not here: that is the time without an attempt of one call, told at
	// the end of the call. A stream has no end to wait for, each of its attempts is a call to gRPC, and the time without
	// one is outageDuration. Observers of unary calls are not told how long a call has waited.
	retries, hedges metric.Int64Histogram

	// streams of clients
	streamDuration, outageDuration, reconnectDelay metric.Float64Histogram
	detached, events                               metric.Int64Counter

	// streams of servers
	serverDuration     metric.Float64Histogram
	refused, abandoned metric.Int64Counter

	denied, tapRefused metric.Int64Counter

	// read when metrics are collected
	clientStreams, serverStreams       metric.Int64ObservableUpDownCounter
	unacked, unackedSize, waiting      metric.Int64ObservableUpDownCounter
	clientMessages, serverMessages     metric.Int64ObservableCounter
	attempts, outages, resumes, unseen metric.Int64ObservableCounter
}

// latencyBounds are those that gRFC A66 gives for latencies, in seconds.
func latencyBounds() []float64 {
	return []float64{
		0, 0.00001, 0.00005, 0.0001, 0.0003, 0.0006, 0.0008, 0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.008, 0.01, 0.013, 0.016,
		0.02, 0.025, 0.03, 0.04, 0.05, 0.065, 0.08, 0.1, 0.13, 0.16, 0.2, 0.25, 0.3, 0.4, 0.5, 0.65, 0.8, 1, 2, 5, 10, 20, 50, 100,
	}
}

// lifetimeBounds go from a second to a month: streams live longer than calls take.
func lifetimeBounds() []float64 {
	return []float64{0.1, 1, 10, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 24 * 3600, 7 * 24 * 3600, 30 * 24 * 3600}
}

// outageBounds go from what nobody notices to what wakes somebody up.
func outageBounds() []float64 {
	return []float64{0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600}
}

// maker makes instruments and keeps the errors.
type maker struct {
	meter metric.Meter
	errs  []error
}

func made[T any](m *maker, instrument T, err error) T {
	if err != nil {
		m.errs = append(m.errs, err)
	}
	return instrument
}

func (m *maker) counter(name, unit, text string) metric.Int64Counter {
	c, err := m.meter.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(text))
	return made(m, c, err)
}

func (m *maker) seconds(name, text string, bounds []float64) metric.Float64Histogram {
	h, err := m.meter.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(text), metric.WithExplicitBucketBoundaries(bounds...))
	return made(m, h, err)
}

func (m *maker) few(name, unit, text string) metric.Int64Histogram {
	h, err := m.meter.Int64Histogram(name, metric.WithUnit(unit), metric.WithDescription(text), metric.WithExplicitBucketBoundaries(1, 2, 3, 4, 5))
	return made(m, h, err)
}

func (m *maker) observedCounter(name, unit, text string) metric.Int64ObservableCounter {
	c, err := m.meter.Int64ObservableCounter(name, metric.WithUnit(unit), metric.WithDescription(text))
	return made(m, c, err)
}

func (m *maker) observedLevel(name, unit, text string) metric.Int64ObservableUpDownCounter {
	c, err := m.meter.Int64ObservableUpDownCounter(name, metric.WithUnit(unit), metric.WithDescription(text))
	return made(m, c, err)
}

func newInstruments(meter metric.Meter) (*instruments, error) {
	m := &maker{meter: meter}
	i := &instruments{
		attemptStarted:     m.counter("grpc.client.attempt.started", "{attempt}", "Attempts that were begun."),
		attemptDuration:    m.seconds("grpc.client.attempt.duration", "How long attempts have taken.", latencyBounds()),
		callDuration:       m.seconds("grpc.client.call.duration", "How long unary calls have taken, policies included.", latencyBounds()),
		serverCallStarted:  m.counter("grpc.server.call.started", "{call}", "Calls that a server has let in."),
		serverCallDuration: m.seconds("grpc.server.call.duration", "How long calls have taken on a server.", latencyBounds()),

		retries: m.few("grpc.client.call.retries", "{retry}", "Retries of a unary call, if there were any."),
		hedges:  m.few("grpc.client.call.hedges", "{hedge}", "Hedges of a unary call, if there were any."),

		streamDuration: m.seconds("streamsafe.client.stream.duration", "How long streams have lived that have ended.", lifetimeBounds()),
		outageDuration: m.seconds("streamsafe.client.outage.duration",
			"From the loss of an attempt that worked until the next one that works was attached, or the end of the stream.", outageBounds()),
		reconnectDelay: m.seconds("streamsafe.client.reconnect.delay", "How long streams were to wait before an attempt.", outageBounds()),
		detached:       m.counter("streamsafe.client.attempt.lost", "{attempt}", "Attempts that were lost or could not be opened, and were resumable."),
		events:         m.counter("streamsafe.client.events", "{event}", "What an operator has to know of."),

		serverDuration: m.seconds("streamsafe.server.stream.duration", "How long streams of a server have lived that have ended.", lifetimeBounds()),
		refused:        m.counter("streamsafe.server.refused", "{stream}", "Streams that a server has refused."),
		abandoned:      m.counter("streamsafe.server.abandoned", "{handler}", "Handlers that have returned after their stream was ended early."),

		denied:     m.counter("streamsafe.unary.denied", "{call}", "Calls that a policy has denied."),
		tapRefused: m.counter("streamsafe.tap.refused", "{call}", "Calls that a tap has refused."),

		clientStreams:  m.observedLevel("streamsafe.client.streams", "{stream}", "Streams that have not ended, by state."),
		serverStreams:  m.observedLevel("streamsafe.server.streams", "{stream}", "Streams of a server that have not ended."),
		unacked:        m.observedLevel("streamsafe.client.unacknowledged", "{message}", "Messages that are kept until they are acknowledged."),
		unackedSize:    m.observedLevel("streamsafe.client.unacknowledged.size", "By", "Their encoded size."),
		waiting:        m.observedLevel("streamsafe.client.waiting", "{message}", "Messages that have arrived and wait for Recv."),
		clientMessages: m.observedCounter("streamsafe.client.messages", "{message}", "Messages of client streams."),
		serverMessages: m.observedCounter("streamsafe.server.messages", "{message}", "Messages of server streams."),
		attempts:       m.observedCounter("streamsafe.client.attempts", "{attempt}", "Attempts of client streams."),
		outages:        m.observedCounter("streamsafe.client.outages", "{outage}", "Attempts that were lost after they had been attached."),
		resumes:        m.observedCounter("streamsafe.client.resumes", "{attempt}", "Attempts that were attached, without the first."),
		unseen:         m.observedCounter("streamsafe.client.events.dropped", "{event}", "Events that observers were too slow for."),
	}
	return i, errors.Join(m.errs...)
}

func (i *instruments) observable() []metric.Observable {
	return []metric.Observable{
		i.clientStreams, i.serverStreams, i.unacked, i.unackedSize, i.waiting, i.clientMessages, i.serverMessages,
		i.attempts, i.outages, i.resumes, i.unseen,
	}
}
