// Package tally adds up what the streams of a process do, for metrics. It is not on the way of a message: counters are read from the
// streams when somebody asks.
package tally

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream"
)

// Other is what names are called beyond the limit.
const Other = "other"

// Streams adds up streams of clients by name. Names are a closed set: beyond Limit they are Other (invariant 52).
type Streams struct {
	// Limit is the number of names.
	Limit int
	// Ended is told of the end of each stream, once.
	Ended func(name, reason string, lifetime time.Duration)
	// Attached is told how long an outage was, or the first open.
	Attached func(name string, away time.Duration, first bool)

	mu   sync.Mutex         // guards the fields below
	all  map[string]*Counts // what has ended, and what is counted by events
	live map[*entry]struct{}
}

// Sum is what the streams of one name come to.
type Sum struct {
	Name string
	Counts
	Levels
	// The longest times of any stream: without an attempt, with something unacknowledged and no acknowledgement, and without a
	// message. The last two are known to the interval of Snapshot.
	Away, Unmoved, Silent time.Duration
}

// entry is a stream that is open.
type entry struct {
	streams  *Streams         // set at construction, then read only
	name     string           // the same
	observed *stream.Observed // the same

	// guarded by mu of streams
	outage   Outage
	acked    uint64    // at the last snapshot
	ackedAt  time.Time // when that was first seen, with something unacknowledged; zero: nothing is
	received uint64    // at the last snapshot
	heardAt  time.Time // when that was first seen
}

// ObserveStream implements stream.StreamObserver.
func (t *Streams) ObserveStream(_ context.Context, s *stream.Observed) stream.Observer { //nolint:ireturn // as the interface has it
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all == nil {
		t.all, t.live = make(map[string]*Counts), make(map[*entry]struct{})
	}
	name := s.Name
	if _, ok := t.all[name]; !ok {
		if len(t.all) >= t.Limit {
			name = Other
		}
		if _, ok := t.all[name]; !ok {
			t.all[name] = &Counts{}
		}
	}
	t.all[name].Started++
	e := &entry{streams: t, name: name, observed: s, outage: From(s.Began), heardAt: s.Began}
	t.live[e] = struct{}{}
	return e
}

// OnAttached implements stream.AttachedObserver.
func (e *entry) OnAttached(i stream.Info, _ checkpoint.Position) {
	e.streams.mu.Lock()
	defer e.streams.mu.Unlock()
	e.outage.Attached(i.Time)
}

// telling returns what is to be told of an outage that is over, without mu.
func (e *entry) telling(ended Ended, ok bool) (tell func()) {
	if !ok || e.streams.Attached == nil {
		return nil
	}
	return func() { e.streams.Attached(e.name, ended.Took, ended.First) }
}

func call(tell func()) {
	if tell != nil {
		tell()
	}
}

// OnDetached implements stream.DetachedObserver.
func (e *entry) OnDetached(i stream.Info, _ error) {
	received := e.observed.Stats().Received
	e.streams.mu.Lock()
	tell := e.telling(e.outage.Lost(i.Time, received))
	e.streams.mu.Unlock()
	call(tell)
}

// OnCommitFailed implements stream.CommitFailedObserver.
func (e *entry) OnCommitFailed(stream.Info, checkpoint.Position, error) {
	e.streams.mu.Lock()
	defer e.streams.mu.Unlock()
	e.streams.all[e.name].CommitFailed++
}

// OnClosed implements stream.ClosedObserver. The stream moves from those that are open to those that have ended in one step, so
// that nothing is counted twice, or goes back.
func (e *entry) OnClosed(i stream.Info, cause error) {
	t := e.streams
	last := e.observed.Stats()
	t.mu.Lock()
	if _, ok := t.live[e]; !ok {
		t.mu.Unlock()
		return
	}
	delete(t.live, e)
	t.all[e.name].Add(&last)
	tell := e.telling(e.outage.Settle(i.Time, last.Received))
	t.mu.Unlock()
	call(tell)
	if t.Ended != nil {
		t.Ended(e.name, ReasonOf(cause), i.Time.Sub(e.observed.Began))
	}
}

// ReasonOf returns why a stream has ended, as a label: "ok", or the text of a Reason.
func ReasonOf(cause error) string {
	if e, ok := errors.AsType[*stream.Error](cause); ok {
		return e.Reason.String()
	}
	if cause == nil || errors.Is(cause, io.EOF) {
		return "ok"
	}
	return stream.ReasonUnknown.String()
}

// Snapshot returns the sums of all names.
func (t *Streams) Snapshot(now time.Time) []*Sum {
	var tell []func()
	defer func() {
		for _, f := range tell {
			f()
		}
	}()
	t.mu.Lock()
	defer t.mu.Unlock()
	sums := make(map[string]*Sum, len(t.all))
	all := make([]*Sum, 0, len(t.all))
	for name, ended := range t.all {
		s := &Sum{Name: name, Counts: *ended}
		sums[name] = s
		all = append(all, s)
	}
	// Stats takes locks of the stream, each for a moment. Nobody who holds them waits for mu.
	for e := range t.live {
		stats := e.observed.Stats()
		s := sums[e.name]
		s.Counts.Add(&stats)
		s.Levels.Add(&stats)
		if f := e.telling(e.outage.Settle(now, stats.Received)); f != nil {
			tell = append(tell, f)
		}
		away, _ := e.outage.Away(now)
		s.Away = max(s.Away, away)
		if stats.Received != e.received {
			e.received, e.heardAt = stats.Received, now
		}
		s.Silent = max(s.Silent, now.Sub(e.heardAt))
		switch {
		case stats.Unacked == 0:
			e.ackedAt = time.Time{}
		case stats.Acked != e.acked || e.ackedAt.IsZero():
			e.ackedAt = now
		default:
			s.Unmoved = max(s.Unmoved, now.Sub(e.ackedAt))
		}
		e.acked = stats.Acked
	}
	return all
}
