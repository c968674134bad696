package otel

import (
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/streamsafe/streamsafe/observe/internal/tally"
	"github.com/streamsafe/streamsafe/stream"
)

// labels are the attributes of a stream, and what they look like to instruments.
type labels struct {
	set attribute.Set
}

// with returns an option with the attributes and more.
func (l *labels) with(more ...attribute.KeyValue) metric.MeasurementOption {
	return metric.WithAttributes(append(l.set.ToSlice(), more...)...)
}

// clientTotals are sums over the client streams with the same attributes.
type clientTotals struct {
	labels labels
	tally.Counts
	tally.Levels
}

func (t *clientTotals) tell(i *instruments, to metric.Observer) {
	for state, n := range t.States {
		if state := stream.State(state); state != stream.Closed { //nolint:gosec // there are five
			to.ObserveInt64(i.clientStreams, int64(n), t.labels.with(keyState.String(state.String())))
		}
	}
	for word, n := range map[string]uint64{
		"received": t.Received, "delivered": t.Delivered, "duplicate": t.Duplicates, "sent": t.Sent, "replayed": t.Replayed,
	} {
		to.ObserveInt64(i.clientMessages, signed(n), t.labels.with(keyMessages.String(word)))
	}
	all := metric.WithAttributeSet(t.labels.set)
	to.ObserveInt64(i.attempts, signed(t.Attempts), all)
	to.ObserveInt64(i.outages, signed(t.Outages), all)
	to.ObserveInt64(i.resumes, signed(t.Resumes), all)
	to.ObserveInt64(i.unseen, signed(t.Unseen), all)
	to.ObserveInt64(i.unacked, int64(t.Unacked), all)
	to.ObserveInt64(i.unackedSize, int64(t.UnackedBytes), all)
	to.ObserveInt64(i.waiting, int64(t.Waiting), all)
}

// serverTotals are sums over the server streams with the same attributes.
type serverTotals struct {
	labels         labels
	open           int64
	received, sent uint64
}

func (t *serverTotals) tell(i *instruments, to metric.Observer) {
	to.ObserveInt64(i.serverStreams, t.open, metric.WithAttributeSet(t.labels.set))
	to.ObserveInt64(i.serverMessages, signed(t.received), t.labels.with(keyMessages.String("received")))
	to.ObserveInt64(i.serverMessages, signed(t.sent), t.labels.with(keyMessages.String("sent")))
}

func signed(n uint64) int64 { return int64(n) } //nolint:gosec // nobody counts that far
