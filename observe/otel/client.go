package otel

import (
	"context"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/observe/internal/tally"
	"github.com/streamsafe/streamsafe/stream"
)

// clientStream observes one stream.
type clientStream struct {
	o    *Observer        // set at construction, then read only
	seen *stream.Observed // set at construction, then read only
	span trace.Span       // set at construction, then read only

	mu       sync.Mutex // guards the fields below
	fixed    *labels    // nil until the method is known, or something was counted without it
	live     []*attempt // those whose end was not told of, oldest first
	previous trace.SpanContext
	outage   tally.Outage
	closed   bool
}

// ObserveStream implements [stream.StreamObserver].
func (o *Observer) ObserveStream(ctx context.Context, seen *stream.Observed) stream.Observer { //nolint:ireturn // as the interface has it
	s := &clientStream{o: o, seen: seen, outage: tally.From(seen.Began)}
	s.span = o.startStream(ctx, seen)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.clients[s] = struct{}{}
	return s
}

// labels returns the attributes. If something is counted with them, they stay: a counter that another attribute takes over would
// go down.
func (s *clientStream) labels(counted bool) *labels {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.labelsLocked(counted)
}

func (s *clientStream) labelsLocked(counted bool) *labels {
	if s.fixed != nil {
		return s.fixed
	}
	method := s.seen.Method()
	kvs := []attribute.KeyValue{s.o.method(method)}
	if s.o.options.names {
		kvs = append(kvs, keyStream.String(s.o.streams.bound(s.seen.Name)))
	}
	l := &labels{set: attribute.NewSet(kvs...)}
	if method != "" || counted {
		s.fixed = l
	}
	return l
}

// addTo adds the stream to the sums of those that live.
func (s *clientStream) addTo(sums map[attribute.Distinct]*clientTotals, now time.Time) {
	st := s.seen.Stats()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outageOverLocked(s.outage.Settle(now, st.Received))
	t := clientSum(sums, s.labelsLocked(st.Received > 0 || st.Sent > 0 || st.Attempts > 1))
	if s.fixed != nil {
		t.Counts.Add(&st)
	}
	t.Levels.Add(&st)
}

func clientSum(sums map[attribute.Distinct]*clientTotals, l *labels) *clientTotals {
	t := sums[l.set.Equivalent()]
	if t == nil {
		t = &clientTotals{labels: *l}
		sums[l.set.Equivalent()] = t
	}
	return t
}

// OnAttached implements [stream.AttachedObserver].
func (s *clientStream) OnAttached(info stream.Info, _ checkpoint.Position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pruneLocked(info)
	for _, a := range s.live {
		if a.number == info.Attempt {
			s.countLocked(a)
		}
	}
	s.outage.Attached(info.Time)
}

// OnDetached implements [stream.DetachedObserver].
func (s *clientStream) OnDetached(info stream.Info, cause error) {
	received := s.seen.Stats().Received
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pruneLocked(info)
	s.endLocked(info.Attempt, info.Time, cause)
	s.outageOverLocked(s.outage.Lost(info.Time, received))
	s.o.instruments.detached.Add(context.Background(), 1, s.labelsLocked(true).with(statusOf(cause)))
}

// OnReconnectScheduled implements [stream.ReconnectScheduledObserver].
func (s *clientStream) OnReconnectScheduled(_ stream.Info, delay time.Duration) {
	s.o.instruments.reconnectDelay.Record(context.Background(), delay.Seconds(), s.labels(true).with())
}

// OnRotated implements [stream.RotatedObserver].
func (s *clientStream) OnRotated(info stream.Info, from uint64) {
	s.mu.Lock()
	s.endLocked(from, info.Time, context.Canceled)
	s.mu.Unlock()
	s.event("rotated")
}

// OnRotationPutOff implements [stream.RotationPutOffObserver].
func (s *clientStream) OnRotationPutOff(stream.Info, error) { s.event("rotation_put_off") }

// OnCommitFailed implements [stream.CommitFailedObserver].
func (s *clientStream) OnCommitFailed(stream.Info, checkpoint.Position, error) {
	s.event("commit_failed")
}

// OnFenced implements [stream.FencedObserver].
func (s *clientStream) OnFenced(stream.Info, error) { s.event("fenced") }

// OnGap implements [stream.GapObserver].
func (s *clientStream) OnGap(stream.Info, error) { s.event("gap") }

// OnLost implements [stream.LostObserver].
func (s *clientStream) OnLost(stream.Info, checkpoint.Position, error) { s.event("position_lost") }

// OnClosed implements [stream.ClosedObserver].
func (s *clientStream) OnClosed(info stream.Info, cause error) {
	st := s.seen.Stats()
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.closed = true
	s.endLocked(info.Attempt, info.Time, cause)
	for len(s.live) > 0 {
		s.endLocked(s.live[0].number, info.Time, context.Canceled)
	}
	s.outageOverLocked(s.outage.Settle(info.Time, st.Received))
	if away, first := s.outage.Away(info.Time); away > 0 && !first {
		s.outageLocked(away, false)
	}
	l := s.labelsLocked(true)
	s.mu.Unlock()

	s.o.mu.Lock()
	if _, ok := s.o.clients[s]; ok {
		delete(s.o.clients, s)
		clientSum(s.o.clientDone, l).Counts.Add(&st)
	}
	s.o.mu.Unlock()
	lifetime := info.Time.Sub(s.seen.Began).Seconds()
	s.o.instruments.streamDuration.Record(context.Background(), lifetime, l.with(statusOf(cause), reasonOf(cause)))
	s.endSpan(info, &st, cause)
}

func (s *clientStream) event(word string) {
	s.o.instruments.events.Add(context.Background(), 1, s.labels(true).with(keyEvent.String(word)))
}

// outageOverLocked records an outage that is over. The first open is none.
func (s *clientStream) outageOverLocked(ended tally.Ended, over bool) {
	if over && !ended.First {
		s.outageLocked(ended.Took, true)
	}
}

func (s *clientStream) outageLocked(took time.Duration, recovered bool) {
	s.o.instruments.outageDuration.Record(context.Background(), took.Seconds(), s.labelsLocked(true).with(keyRecovered.Bool(recovered)))
}

// pruneLocked ends attempts that are over and that no event tells of: those that have lost a race of hedged opens.
func (s *clientStream) pruneLocked(info stream.Info) {
	for _, a := range slices.Clone(s.live) {
		if over := a.over.Load(); a.number < info.Attempt && over != nil {
			s.endLocked(a.number, *over, context.Canceled)
		}
	}
}
