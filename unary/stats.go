package unary

import (
	"maps"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// Stats is an observer that counts: give it to [WithObserver], and ask it for a Snapshot. The zero Stats is usable. Any
// number of interceptors may share one.
type Stats struct {
	calls, failedCalls       atomic.Uint64
	attempts, failedAttempts atomic.Uint64
	retries, hedges          atomic.Uint64
	callLatency              histogram
	attemptLatency           histogram

	mu     sync.Mutex // guards the field below
	denied map[string]uint64
}

// Snapshot is what a [Stats] has counted. Its counts are each exact, but taken one after the other.
type Snapshot struct {
	Calls, FailedCalls       uint64
	Attempts, FailedAttempts uint64
	Retries, Hedges          uint64
	// Denied is how many tries policies denied, by policy: see [DeniedObserver].
	Denied map[string]uint64
	// CallLatency is how long calls took, policies and waits included; AttemptLatency, single attempts.
	CallLatency, AttemptLatency Latency
}

// OnCall implements CallObserver.
func (s *Stats) OnCall(_ Info, took time.Duration, err error) {
	s.calls.Add(1)
	if err != nil {
		s.failedCalls.Add(1)
	}
	s.callLatency.add(took)
}

// OnAttempt implements AttemptObserver.
func (s *Stats) OnAttempt(_ Info, took time.Duration, err error) {
	s.attempts.Add(1)
	if err != nil {
		s.failedAttempts.Add(1)
	}
	s.attemptLatency.add(took)
}

// OnRetry implements RetryObserver.
func (s *Stats) OnRetry(Info) { s.retries.Add(1) }

// OnHedge implements HedgeObserver.
func (s *Stats) OnHedge(Info) { s.hedges.Add(1) }

// OnDenied implements DeniedObserver.
func (s *Stats) OnDenied(_ Info, policy string, _ error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.denied == nil {
		s.denied = make(map[string]uint64)
	}
	s.denied[policy]++
}

// Snapshot returns what has been counted so far.
func (s *Stats) Snapshot() Snapshot {
	s.mu.Lock()
	denied := maps.Clone(s.denied)
	s.mu.Unlock()
	return Snapshot{
		Calls: s.calls.Load(), FailedCalls: s.failedCalls.Load(),
		Attempts: s.attempts.Load(), FailedAttempts: s.failedAttempts.Load(),
		Retries: s.retries.Load(), Hedges: s.hedges.Load(),
		Denied:      denied,
		CallLatency: s.callLatency.latency(), AttemptLatency: s.attemptLatency.latency(),
	}
}

// Latency is a distribution of durations, in steps of about a fifth.
type Latency struct{ counts [buckets]uint64 }

// Count is the number of durations.
func (l Latency) Count() uint64 {
	var n uint64
	for _, c := range l.counts {
		n += c
	}
	return n
}

// Quantile returns a duration that a part q of the durations, from 0 to 1, does not exceed; up to a fifth above the
// exact one, and zero if there are none.
func (l Latency) Quantile(q float64) time.Duration {
	total := l.Count()
	if total == 0 {
		return 0
	}
	rank := uint64(min(max(q, 0), 1) * float64(total))
	var seen uint64
	for i, c := range l.counts {
		if seen += c; c > 0 && seen >= max(rank, 1) {
			return upper(i)
		}
	}
	return upper(buckets - 1)
}

// Each power of two of nanoseconds is cut into four buckets.
const (
	parts   = 4
	buckets = 64 * parts
)

// histogram counts durations; any number of goroutines may add.
type histogram struct{ counts [buckets]atomic.Uint64 }

func (h *histogram) add(d time.Duration) { h.counts[bucket(d)].Add(1) }

func (h *histogram) latency() Latency {
	var l Latency
	for i := range h.counts {
		l.counts[i] = h.counts[i].Load()
	}
	return l
}

func bucket(d time.Duration) int {
	n := uint64(max(d, 0))
	if n < parts {
		return int(n)
	}
	power := bits.Len64(n) - 1
	return power*parts + int(n>>(power-2)&(parts-1)) - parts
}

// upper is the greatest duration of a bucket.
func upper(i int) time.Duration {
	if i < parts {
		return time.Duration(i)
	}
	power, part := (i+parts)/parts, (i+parts)%parts
	return time.Duration((uint64(parts+part+1) << (power - 2)) - 1)
}
