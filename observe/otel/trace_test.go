package otel_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/streamsafe/streamsafe/stream"
)

func linked(span sdktrace.ReadOnlySpan) (to []trace.SpanID) {
	for _, l := range span.Links() {
		to = append(to, l.SpanContext.SpanID())
	}
	return to
}

// The stream and each attempt are traces of their own, and links connect them (invariant 53).
func TestEachAttemptHasATraceOfItsOwn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const messages = 2000
		w := start(t, []func(bidi) error{sends(messages, errGone), sends(messages, errGone), sends(messages, nil)})
		ctx, caller := sdktrace.NewTracerProvider().Tracer("caller").Start(t.Context(), "caller")
		require.Equal(t, 3*messages, drain(t, w.dial(ctx)))
		caller.End()
		synctest.Wait()
		spans := w.spans.Ended()
		require.Len(t, spans, 4)
		require.Len(t, w.spans.Started(), 4)
		ids := map[trace.TraceID]bool{caller.SpanContext().TraceID(): true}
		for _, s := range spans {
			require.False(t, ids[s.SpanContext().TraceID()], "%s is in a trace of another", s.Name())
			ids[s.SpanContext().TraceID()] = true
			require.False(t, s.Parent().IsValid())
			require.Equal(t, trace.SpanKindInternal, s.SpanKind(), "otelgrpc counts the attempt")
			require.Empty(t, s.Events(), "nothing is added for a message")
			require.Less(t, len(s.Attributes()), 12)
		}
		attempts, whole := spans[:3], spans[3]
		require.Equal(t, "streamsafe.stream", whole.Name())
		require.Equal(t, []trace.SpanID{caller.SpanContext().SpanID()}, linked(whole))
		require.Equal(t, codes.Unset, whole.Status().Code)
		require.Equal(t, []trace.SpanID{whole.SpanContext().SpanID()}, linked(attempts[0]))
		for i := 1; i < 3; i++ {
			require.Equal(t, []trace.SpanID{whole.SpanContext().SpanID(), attempts[i-1].SpanContext().SpanID()}, linked(attempts[i]))
		}
		require.Equal(t, codes.Error, attempts[0].Status().Code)
		require.Contains(t, attempts[0].Status().Description, "gone")
		require.Equal(t, codes.Unset, attempts[2].Status().Code)
		require.False(t, attempts[1].StartTime().Before(attempts[0].EndTime()))
	})
}

// Spans of interceptors and stats handlers are children of the attempt.
func TestTheSpanOfAnAttemptIsInItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := start(t, []func(bidi) error{func(s bidi) error { return sends(1, nil)(s) }})
		var seen []trace.SpanID
		s := w.dial(t.Context(), stream.WithObserver(attempts(func(ctx context.Context) {
			seen = append(seen, trace.SpanContextFromContext(ctx).SpanID())
		})))
		drain(t, s)
		synctest.Wait()
		i := slices.IndexFunc(w.spans.Ended(), func(s sdktrace.ReadOnlySpan) bool { return s.Name() == "streamsafe.attempt" })
		require.Equal(t, []trace.SpanID{w.spans.Ended()[i].SpanContext().SpanID()}, seen)
	})
}

// attempts is called with the context of each attempt, after the observers before it.
type attempts func(context.Context)

func (f attempts) ObserveAttempt(ctx context.Context, _ stream.Info) context.Context {
	f(ctx)
	return ctx
}

// Attempts that nobody tells of, and an end that is told twice.
func TestEachSpanEndsOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := start(t, []func(bidi) error{stays(1)})
		var own stream.Observer
		s := w.dial(t.Context(), stream.WithObserver(taker{func(ctx context.Context, o *stream.Observed) {
			own = w.observer.ObserveStream(ctx, o)
		}}))
		_, err := s.Recv()
		require.NoError(t, err)
		o := own.(interface {
			stream.AttemptObserver
			stream.AttachedObserver
			stream.DetachedObserver
			stream.ClosedObserver
		})
		ended := func() int { synctest.Wait(); return len(w.spans.Ended()) }
		begun := func(n uint64) context.CancelFunc {
			ctx, cancel := context.WithCancel(t.Context())
			t.Cleanup(cancel)
			o.ObserveAttempt(ctx, stream.Info{Attempt: n})
			return cancel
		}
		begun(1)
		loser := begun(2)
		loser()
		o.OnAttached(stream.Info{Attempt: 1}, s.Stats().Delivered)
		require.Zero(t, ended())
		o.OnDetached(stream.Info{Attempt: 1}, errGone)
		o.OnDetached(stream.Info{Attempt: 1}, errGone)
		require.Equal(t, 1, ended())
		begun(3)
		o.OnAttached(stream.Info{Attempt: 3}, s.Stats().Delivered)
		require.Equal(t, 2, ended(), "the loser ends with the next event")
		for n := range uint64(100) {
			begun(4 + n)
		}
		require.Equal(t, 87, ended(), "16 are followed at most")
		o.OnClosed(stream.Info{Attempt: 103}, errGone)
		o.OnClosed(stream.Info{Attempt: 103}, errGone)
		require.Equal(t, 104, ended())
		begun(200)
		require.Equal(t, 104, ended())
		require.NoError(t, s.Close())
		require.Equal(t, 106, ended())
		require.Len(t, w.spans.Started(), 106)
		ends := 0.0
		for _, n := range w.collect("streamsafe.client.stream.duration") {
			ends += n
		}
		require.InDelta(t, 2, ends, 0, "each end counts once")
	})
}

// taker takes each stream.
type taker struct {
	take func(context.Context, *stream.Observed)
}

func (t taker) ObserveStream(ctx context.Context, o *stream.Observed) stream.Observer {
	t.take(ctx, o)
	return nil
}
