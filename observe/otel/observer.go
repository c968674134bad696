package otel

import (
	"context"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/streamsafe/streamsafe/stream"
	"github.com/streamsafe/streamsafe/tap"
	"github.com/streamsafe/streamsafe/unary"
)

const scope = "github.com/streamsafe/streamsafe/observe/otel"

// Observer reports to OpenTelemetry. Make it with [New]. Its methods are called by stream, unary and tap; an application calls
// Close and UnaryServer only. It is safe for concurrent use.
type Observer struct {
	options      options             // set at construction, then read only
	tracer       trace.Tracer        // set at construction, then read only
	instruments  *instruments        // set at construction, then read only
	registration metric.Registration // set at construction, then read only

	methods, streams names

	mu         sync.Mutex // guards the fields below
	clients    map[*clientStream]struct{}
	servers    map[*serverStream]struct{}
	clientDone map[attribute.Distinct]*clientTotals // of streams that have ended
	serverDone map[attribute.Distinct]*serverTotals
}

// What is observed. The compiler looks for misspelt names.
var (
	_ stream.StreamObserver        = (*Observer)(nil)
	_ stream.ServerStreamObserver  = (*Observer)(nil)
	_ stream.ServerRefusedObserver = (*Observer)(nil)
	_ unary.AttemptObserver        = (*Observer)(nil)
	_ unary.CallObserver           = (*Observer)(nil)
	_ unary.DeniedObserver         = (*Observer)(nil)
	_ tap.RefusedObserver          = (*Observer)(nil)
)

// New returns an observer. The error is one of the meter provider: it could not make an instrument.
func New(opts ...Option) (*Observer, error) {
	o := &Observer{
		options:    newOptions(opts),
		clients:    make(map[*clientStream]struct{}),
		servers:    make(map[*serverStream]struct{}),
		clientDone: make(map[attribute.Distinct]*clientTotals),
		serverDone: make(map[attribute.Distinct]*serverTotals),
	}
	o.tracer = o.options.tracers.Tracer(scope)
	meter := o.options.meters.Meter(scope)
	var err error
	if o.instruments, err = newInstruments(meter); err != nil {
		return nil, err
	}
	o.registration, err = meter.RegisterCallback(o.collect, o.instruments.observable()...)
	return o, err
}

// Close makes the meter provider forget the observer, and what it counts is no longer collected. Spans that are open end with
// their streams.
func (o *Observer) Close() error { return o.registration.Unregister() }

// collect reads the streams. It is called when metrics are collected.
func (o *Observer) collect(_ context.Context, to metric.Observer) error {
	o.mu.Lock()
	clients, servers := make([]*clientStream, 0, len(o.clients)), make([]*serverStream, 0, len(o.servers))
	for s := range o.clients {
		clients = append(clients, s)
	}
	for s := range o.servers {
		servers = append(servers, s)
	}
	// A stream that ends from here on is among those that live, and its counts are not among those that are done.
	client, server := copied(o.clientDone), copied(o.serverDone)
	o.mu.Unlock()

	now := time.Now()
	for _, s := range clients {
		s.addTo(client, now) //nolint:contextcheck // an outage that is over belongs to no request
	}
	for _, s := range servers {
		s.addTo(server)
	}
	for _, t := range client {
		t.tell(o.instruments, to)
	}
	for _, t := range server {
		t.tell(o.instruments, to)
	}
	return nil
}

func copied[T any](totals map[attribute.Distinct]*T) map[attribute.Distinct]*T {
	c := make(map[attribute.Distinct]*T, len(totals))
	for k, v := range totals {
		own := *v
		c[k] = &own
	}
	return c
}
