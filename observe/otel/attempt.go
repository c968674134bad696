package otel

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/streamsafe/streamsafe/stream"
)

// maxLive is how many attempts of a stream are followed at a time.
const maxLive = 16

// attempt is one attempt of a stream, until its end is told of.
type attempt struct {
	number uint64
	began  time.Time
	span   trace.Span
	over   atomic.Pointer[time.Time] // when its context was done
	stop   func() bool

	counted bool // as begun
}

// startStream begins the span of a stream, in a trace of its own (invariant 53).
func (o *Observer) startStream(ctx context.Context, seen *stream.Observed) trace.Span {
	attrs := []attribute.KeyValue{attribute.String("streamsafe.id", seen.ID.String()), attribute.String("streamsafe.stream", clipped(seen.Name))}
	_, span := o.tracer.Start(ctx, "streamsafe.stream", trace.WithNewRoot(), trace.WithTimestamp(seen.Began), //nolint:spancheck // endSpan ends it
		trace.WithLinks(linksTo(trace.SpanContextFromContext(ctx))...), trace.WithAttributes(attrs...))
	return span //nolint:spancheck // endSpan ends it
}

// ObserveAttempt implements [stream.AttemptObserver].
func (s *clientStream) ObserveAttempt(ctx context.Context, info stream.Info) context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ctx
	}
	if len(s.live) >= maxLive {
		s.endLocked(s.live[0].number, info.Time, context.Canceled)
	}
	a := &attempt{number: info.Attempt, began: info.Time}
	a.stop = context.AfterFunc(ctx, func() { // nobody waits for it
		now := time.Now()
		a.over.Store(&now)
	})
	attrs := []attribute.KeyValue{attribute.String("streamsafe.id", s.seen.ID.String()), attempted(info.Attempt)}
	if info.Name != "" {
		attrs = append(attrs, attribute.String("streamsafe.stream", clipped(info.Name)))
	}
	ctx, a.span = s.o.tracer.Start(ctx, "streamsafe.attempt", trace.WithNewRoot(), trace.WithTimestamp(info.Time), //nolint:spancheck // endLocked ends it
		trace.WithLinks(linksTo(s.span.SpanContext(), s.previous)...), trace.WithAttributes(attrs...))
	s.previous = a.span.SpanContext()
	s.live = append(s.live, a)
	return ctx
}

// countLocked counts an attempt as begun, if that was not done. It comes later than the attempt: the method is known by then.
func (s *clientStream) countLocked(a *attempt) {
	if s.o.options.grpc && !a.counted {
		a.counted = true
		s.o.instruments.attemptStarted.Add(context.Background(), 1, s.labelsLocked(true).with(s.o.target()...))
	}
}

// endLocked ends an attempt if it has not ended.
func (s *clientStream) endLocked(number uint64, at time.Time, cause error) {
	i := slices.IndexFunc(s.live, func(a *attempt) bool { return a.number == number })
	if i < 0 {
		return
	}
	a := s.live[i]
	s.live = slices.Delete(s.live, i, i+1)
	a.stop()
	s.countLocked(a)
	l := s.labelsLocked(true)
	status := statusOf(cause)
	if method, ok := l.set.Value(keyMethod); ok {
		a.span.SetAttributes(keyMethod.String(method.AsString()))
	}
	a.span.SetAttributes(status)
	if status.Value.AsString() != "OK" && cause != context.Canceled { //nolint:errorlint // that very one: somebody else has won
		a.span.SetStatus(codes.Error, clipped(cause.Error()))
	}
	a.span.End(trace.WithTimestamp(at))
	if s.o.options.grpc {
		s.o.instruments.attemptDuration.Record(context.Background(), at.Sub(a.began).Seconds(), l.with(append(s.o.target(), status)...))
	}
}

// endSpan ends the span of the stream.
func (s *clientStream) endSpan(info stream.Info, st *stream.Stats, cause error) {
	if method := s.seen.Method(); method != "" {
		s.span.SetAttributes(s.o.method(method))
	}
	s.span.SetAttributes(attempted(st.Attempts), statusOf(cause), reasonOf(cause),
		attribute.Int64("streamsafe.outages", signed(st.Outages)), attribute.Int64("streamsafe.received", signed(st.Received)),
		attribute.Int64("streamsafe.sent", signed(st.Sent)), attribute.Int("streamsafe.unacknowledged", st.Unacked))
	if endedBadly(cause) {
		s.span.SetStatus(codes.Error, clipped(cause.Error()))
	}
	s.span.End(trace.WithTimestamp(info.Time))
}

func attempted(n uint64) attribute.KeyValue { return attribute.Int64("streamsafe.attempt", signed(n)) }

// linksTo returns links to those spans that there are.
func linksTo(spans ...trace.SpanContext) []trace.Link {
	var links []trace.Link
	for _, sc := range spans {
		if sc.IsValid() {
			links = append(links, trace.Link{SpanContext: sc})
		}
	}
	return links
}

// maxText bounds what a peer puts into a span.
const maxText = 1024

func clipped(text string) string {
	if len(text) <= maxText {
		return text
	}
	return text[:maxText] + "…"
}
