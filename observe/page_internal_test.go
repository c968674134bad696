package observe

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream"
)

// What the page keeps of a stream does not grow, whatever happens, and however long the texts are (invariant 40).
func TestWhatThePageKeepsIsBounded(t *testing.T) {
	t.Parallel()
	p := Handler()
	var entries []clientEntry
	for range 2 * maxEnded {
		e := clientEntry{&entry{page: p}}
		p.add(e.entry)
		entries = append(entries, e)
	}
	long := strings.Repeat("ä", 100_000)
	for i := range 1000 {
		entries[0].OnCommitFailed(stream.Info{Attempt: 1}, checkpoint.Position{}, fmt.Errorf("%d %s", i, long))
	}
	e := entries[0].entry
	require.Len(t, e.events, maxEvents)
	require.Contains(t, e.events[maxEvents-1].Text, "999 ", "the newest are kept")
	for _, event := range e.events {
		require.LessOrEqual(t, len(event.Text), maxText)
	}
	for range 1000 {
		entries[1].OnWindowFull(stream.Info{Attempt: 1}, 1, 1)
	}
	require.Len(t, entries[1].events, 1, "the same in a row is one event")
	require.Equal(t, 1000, entries[1].events[0].Times)
	for _, e := range entries {
		e.OnClosed(stream.Info{}, io.EOF)
		e.OnClosed(stream.Info{}, io.EOF)
	}
	require.Empty(t, p.open)
	require.Len(t, p.ended, maxEnded)
	require.Same(t, entries[2*maxEnded-1].entry, p.ended[maxEnded-1], "the newest are kept")
}

// An outage has begun when an attempt that worked was lost, however often the server refuses the next one.
func TestSinceIsTheBeginningOfTheOutage(t *testing.T) {
	t.Parallel()
	e := clientEntry{&entry{page: Handler()}}
	at := func(s int) stream.Info { return stream.Info{Time: time.Unix(int64(s), 0)} }
	gone := errors.New("gone")
	e.OnAttached(at(1), checkpoint.Position{})
	require.Equal(t, time.Unix(1, 0), e.row(time.Unix(2, 0)).Since)
	e.OnDetached(at(20), gone)
	for s := range 5 {
		e.OnAttached(at(21+s), checkpoint.Position{})
		e.OnDetached(at(21+s), gone)
	}
	require.Equal(t, time.Unix(20, 0), e.row(time.Unix(30, 0)).Since)
	require.Len(t, e.events, 2, "attached, and lost")
	require.Equal(t, 6, e.events[1].Times)
	e.OnAttached(at(40), checkpoint.Position{})
	require.Equal(t, time.Unix(40, 0), e.row(time.Unix(50, 0)).Since)
	e.OnDetached(at(60), gone)
	require.Equal(t, time.Unix(60, 0), e.row(time.Unix(61, 0)).Since, "an attempt that lived for long is one that worked")
}

func TestRates(t *testing.T) {
	t.Parallel()
	e := &entry{}
	now := time.Unix(1000, 0)
	require.Zero(t, e.sample(500, now), "the first look begins to count")
	require.Zero(t, e.sample(600, now.Add(100*time.Millisecond)), "too early")
	require.InDelta(t, 100, e.sample(600, now.Add(time.Second)), 0.1)
	require.InDelta(t, 100, e.sample(700, now.Add(1100*time.Millisecond)), 0.1, "the last figure stays")
	for i := range 100 {
		e.sample(uint64(700+i), now.Add(time.Duration(i+2)*time.Second))
	}
	require.Len(t, e.rates, maxRates)
	require.Zero(t, e.sample(10_000, now.Add(time.Hour)), "nobody has looked for a while: it begins again")
	require.Empty(t, e.rates)
	require.Equal(t, "58,15.0 59,1.0 ", line([]float32{0, 5}))
}

func TestPositionsAndTimes(t *testing.T) {
	t.Parallel()
	require.Equal(t, "log 7", positionText(checkpoint.Position{Lineage: "log", Seq: 7}))
	require.Equal(t, "6162", positionText(checkpoint.Position{Token: "ab"}))
	require.Equal(t, "3 6161616161616161… (1000 bytes)", positionText(checkpoint.Position{Seq: 3, Token: strings.Repeat("a", 1000)}))
	now := time.Unix(1e9, 0)
	for want, ago := range map[string]time.Duration{"0 s": -time.Hour, "59 s": 59 * time.Second, "2 min": 2 * time.Minute, "47 h": 47 * time.Hour, "3 d": 72 * time.Hour} {
		require.Equal(t, want, since(now, now.Add(-ago)))
	}
}
