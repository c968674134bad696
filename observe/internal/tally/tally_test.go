package tally

import (
	"errors"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream"
)

// A server that refuses each attempt keeps the stream away, though gRPC opens the attempts.
func TestAnAttemptThatIsRefusedEndsNoOutage(t *testing.T) {
	t.Parallel()
	var outages []time.Duration
	s := &Streams{Limit: 10, Attached: func(_ string, away time.Duration, first bool) {
		if !first {
			outages = append(outages, away)
		}
	}}
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	e, ok := s.ObserveStream(t.Context(), &stream.Observed{Name: "a", Began: at(0)}).(*entry)
	require.True(t, ok)
	away := func(now int) time.Duration { return s.Snapshot(at(now))[0].Away }
	require.Equal(t, 5*time.Second, away(5), "the first open")
	e.OnAttached(stream.Info{Time: at(5)}, checkpoint.Position{})
	require.Zero(t, away(20))
	e.OnDetached(stream.Info{Time: at(30)}, io.EOF)
	for n := range 5 {
		e.OnAttached(stream.Info{Time: at(31 + n)}, checkpoint.Position{})
		require.NotZero(t, away(31+n))
		e.OnDetached(stream.Info{Time: at(31 + n)}, io.EOF)
	}
	require.Equal(t, 60*time.Second, away(90))
	e.OnAttached(stream.Info{Time: at(90)}, checkpoint.Position{})
	require.Zero(t, away(100))
	require.Equal(t, []time.Duration{time.Minute}, outages, "one outage, to the attempt that works")
}

// The end of a stream is told once, and moves it from those that are open to those that have ended.
func TestTheEndIsToldOnce(t *testing.T) {
	t.Parallel()
	var reasons []string
	s := &Streams{Limit: 1, Ended: func(_, reason string, _ time.Duration) { reasons = append(reasons, reason) }}
	o := s.ObserveStream(t.Context(), &stream.Observed{Name: "a"})
	e, ok := o.(*entry)
	require.True(t, ok)
	require.Equal(t, 1, s.Snapshot(time.Now())[0].States[stream.Opening])
	for range 3 {
		e.OnClosed(stream.Info{}, &stream.Error{Reason: stream.ReasonPoison})
	}
	require.Equal(t, []string{"poisoned position"}, reasons)
	require.Zero(t, s.Snapshot(time.Now())[0].States)
	require.Equal(t, "ok", ReasonOf(io.EOF))
	require.Equal(t, "unknown reason", ReasonOf(errors.New("x")))
	s.ObserveStream(t.Context(), &stream.Observed{Name: "b"})
	s.ObserveStream(t.Context(), &stream.Observed{Name: "c"})
	var names []string
	for _, sum := range s.Snapshot(time.Now()) {
		names = append(names, sum.Name)
	}
	require.ElementsMatch(t, []string{"a", Other}, names, "names are a closed set")
}
