package otel

import (
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

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
	states [stream.Rotating + 1]int64

	received, delivered, duplicates, sent, replayed uint64
	attempts, outages, resumes, unseen              uint64
	unacked, unackedSize, waiting                   int64
}

// count adds what a stream has counted.
func (t *clientTotals) count(st *stream.Stats) {
	t.received += st.Received
	t.delivered += st.Deliveries
	t.duplicates += st.Duplicates
	t.sent += st.Sent
	t.replayed += st.Replayed
	t.attempts += st.Attempts
	t.outages += st.Outages
	t.resumes += st.Resumes
	t.unseen += st.EventsDropped
}

// level adds how a stream that has not ended stands.
func (t *clientTotals) level(st *stream.Stats) {
	if int(st.State) < len(t.states) {
		t.states[st.State]++
	}
	t.unacked += int64(st.Unacked)
	t.unackedSize += int64(st.UnackedSize)
	t.waiting += int64(st.Waiting)
}

func (t *clientTotals) tell(i *instruments, to metric.Observer) {
	for state, n := range t.states {
		if state := stream.State(state); state != stream.Closed { //nolint:gosec // there are five
			to.ObserveInt64(i.clientStreams, n, t.labels.with(keyState.String(state.String())))
		}
	}
	for word, n := range map[string]uint64{
		"received": t.received, "delivered": t.delivered, "duplicate": t.duplicates, "sent": t.sent, "replayed": t.replayed,
	} {
		to.ObserveInt64(i.clientMessages, signed(n), t.labels.with(keyMessages.String(word)))
	}
	all := metric.WithAttributeSet(t.labels.set)
	to.ObserveInt64(i.attempts, signed(t.attempts), all)
	to.ObserveInt64(i.outages, signed(t.outages), all)
	to.ObserveInt64(i.resumes, signed(t.resumes), all)
	to.ObserveInt64(i.unseen, signed(t.unseen), all)
	to.ObserveInt64(i.unacked, t.unacked, all)
	to.ObserveInt64(i.unackedSize, t.unackedSize, all)
	to.ObserveInt64(i.waiting, t.waiting, all)
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
