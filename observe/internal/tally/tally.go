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

	mu   sync.Mutex // guards the fields below
	all  map[string]*sum
	live map[*entry]struct{}
}

// Counts are counters.
type Counts struct {
	Started, Attempts, Outages, Resumes, Rotations            uint64
	Sent, Replayed, Acked, Received, Duplicates, CommitFailed uint64
}

// Sum is what the streams of one name come to.
type Sum struct {
	Name string
	Counts
	States             map[stream.State]int // of open streams
	Unacked, Waiting   int
	Held, UnackedBytes int
	// The longest times of any stream: without an attempt, with something unacknowledged and no acknowledgement, and without a
	// message. The last two are known to the interval of Snapshot.
	Away, Unmoved, Silent time.Duration
}

// sum is what the streams of a name that have ended come to, and what is counted by events.
type sum struct{ Counts }

// entry is a stream that is open.
type entry struct {
	streams  *Streams         // set at construction, then read only
	name     string           // the same
	observed *stream.Observed // the same

	// guarded by mu of streams
	away     time.Time // since when there is no attempt that works; zero: there is one
	attached time.Time // when the newest attempt was attached; zero: there is none
	had      uint64    // messages received when the attempt before was lost
	worked   bool      // an attempt has worked
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
		t.all, t.live = make(map[string]*sum), make(map[*entry]struct{})
	}
	name := s.Name
	if _, ok := t.all[name]; !ok {
		if len(t.all) >= t.Limit {
			name = Other
		}
		if _, ok := t.all[name]; !ok {
			t.all[name] = &sum{}
		}
	}
	t.all[name].Started++
	e := &entry{streams: t, name: name, observed: s, away: s.Began, heardAt: s.Began}
	t.live[e] = struct{}{}
	return e
}

// OnAttached implements stream.AttachedObserver.
func (e *entry) OnAttached(i stream.Info, _ checkpoint.Position) {
	e.streams.mu.Lock()
	defer e.streams.mu.Unlock()
	e.attached = i.Time
}

// stable is how long an attempt has to stay attached to count as one that works, if it brings nothing.
const stable = 10 * time.Second

// settles ends an outage if the newest attempt works: gRPC opens an attempt before the server has answered, so one that the
// server refuses is attached for a moment. It returns what is to be told without mu. The caller holds mu.
func (e *entry) settles(now time.Time, received uint64) (tell func()) {
	if e.away.IsZero() || e.attached.IsZero() || received <= e.had && now.Sub(e.attached) < stable {
		return nil
	}
	away, first := e.attached.Sub(e.away), !e.worked
	e.away, e.worked = time.Time{}, true
	if e.streams.Attached == nil {
		return nil
	}
	return func() { e.streams.Attached(e.name, away, first) }
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
	tell := e.settles(i.Time, received)
	if e.away.IsZero() {
		e.away = i.Time
	}
	e.attached, e.had = time.Time{}, received
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
	t.all[e.name].add(&last)
	tell := e.settles(i.Time, last.Received)
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
	if errors.Is(cause, io.EOF) {
		return "ok"
	}
	return stream.ReasonUnknown.String()
}

func (c *Counts) add(s *stream.Stats) {
	c.Attempts += s.Attempts
	c.Outages += s.Outages
	c.Resumes += s.Resumes
	c.Rotations += s.Rotations
	c.Sent += s.Sent
	c.Replayed += s.Replayed
	c.Acked += s.Acked
	c.Received += s.Received
	c.Duplicates += s.Duplicates
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
		s := &Sum{Name: name, Counts: ended.Counts, States: make(map[stream.State]int)}
		sums[name] = s
		all = append(all, s)
	}
	// Stats takes locks of the stream, each for a moment. Nobody who holds them waits for mu.
	for e := range t.live {
		stats := e.observed.Stats()
		s := sums[e.name]
		s.add(&stats)
		s.States[stats.State]++
		s.Unacked += stats.Unacked + stats.Keys
		s.UnackedBytes += stats.UnackedSize + stats.KeysSize
		s.Waiting += stats.Waiting
		s.Held += stats.Held
		if f := e.settles(now, stats.Received); f != nil {
			tell = append(tell, f)
		}
		if !e.away.IsZero() {
			s.Away = max(s.Away, now.Sub(e.away))
		}
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
