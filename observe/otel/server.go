package otel

import (
	"context"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"github.com/streamsafe/streamsafe/stream"
)

// serverStream observes one stream of a server.
type serverStream struct {
	o      *Observer              // set at construction, then read only
	seen   *stream.ServerObserved // set at construction, then read only
	labels labels                 // set at construction, then read only
	ended  atomic.Bool
}

// ObserveServerStream implements [stream.ServerStreamObserver].
func (o *Observer) ObserveServerStream(seen *stream.ServerObserved) stream.Observer { //nolint:ireturn // as the interface has it
	s := &serverStream{o: o, seen: seen, labels: labels{set: attribute.NewSet(o.method(seen.Method))}}
	o.mu.Lock()
	o.servers[s] = struct{}{}
	o.mu.Unlock()
	if o.options.grpc {
		o.instruments.serverCallStarted.Add(context.Background(), 1, s.labels.with())
	}
	return s
}

// OnServerEnded implements [stream.ServerEndedObserver].
func (s *serverStream) OnServerEnded(_ stream.ServerInfo, summary stream.ServerSummary) {
	if s.ended.Swap(true) {
		return
	}
	s.o.mu.Lock()
	delete(s.o.servers, s)
	t := serverSum(s.o.serverDone, &s.labels)
	t.received += summary.Received
	t.sent += summary.Sent
	s.o.mu.Unlock()
	status := statusOf(summary.Err)
	ctx := context.Background()
	s.o.instruments.serverDuration.Record(ctx, summary.Duration.Seconds(), s.labels.with(status, keyEnd.String(summary.End.String())))
	if s.o.options.grpc {
		s.o.instruments.serverCallDuration.Record(ctx, summary.Duration.Seconds(), s.labels.with(status))
	}
}

// OnServerAbandoned implements [stream.ServerAbandonedObserver].
func (s *serverStream) OnServerAbandoned(stream.ServerInfo, time.Duration, *stream.PanicError) {
	s.o.instruments.abandoned.Add(context.Background(), 1, s.labels.with())
}

// OnServerRefused implements [stream.ServerRefusedObserver]. Anybody can be refused with any method, so it is not counted by that.
func (o *Observer) OnServerRefused(_ stream.ServerInfo, cause error) {
	l := labels{}
	o.instruments.refused.Add(context.Background(), 1, l.with(statusOf(cause)))
}

func (s *serverStream) addTo(sums map[attribute.Distinct]*serverTotals) {
	t := serverSum(sums, &s.labels)
	received, sent := s.seen.Messages()
	t.received += received
	t.sent += sent
	t.open++
}

func serverSum(sums map[attribute.Distinct]*serverTotals, l *labels) *serverTotals {
	t := sums[l.set.Equivalent()]
	if t == nil {
		t = &serverTotals{labels: *l}
		sums[l.set.Equivalent()] = t
	}
	return t
}
