// Package backoff builds retry policies that wait: exponentially, with full jitter, and never less than a server asked.
package backoff

import (
	"errors"
	"math/rand/v2"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
)

// Settle has the last word on the delay before a retry: it is given what the builder came to, and returns what is
// waited for. It is where a server's hint becomes a floor.
type Settle func(exec failsafe.ExecutionAttempt[any], delay time.Duration) time.Duration

// NewBuilder returns a builder whose policies wait, before each retry, the first included, for a random time between
// nothing and a backoff that starts at first and doubles up to most (full jitter).
//
// WithBackoff, WithBackoffFactor, WithDelay, WithRandomDelay and WithDelayFunc change the delay, and WithJitter and
// WithJitterFactor replace the full jitter; settle sees the delay in every case. The other methods are those of
// [retrypolicy.Builder].
func NewBuilder(first, most time.Duration, settle Settle) retrypolicy.Builder[any] {
	return &builder{
		Builder:  retrypolicy.NewBuilder[any](),
		schedule: schedule{first: first, most: most, factor: 2, settle: settle},
	}
}

// schedule computes the delay before a retry.
type schedule struct {
	first, most time.Duration
	factor      float64
	random      [2]time.Duration // drawn from, where the second is not zero
	custom      failsafe.DelayFunc[any]
	jitter      func(time.Duration) time.Duration // nil: full jitter, but for what is random already
	settle      Settle
}

// delay returns how long to wait after exec's last failure (invariant 20: cap, then jitter).
func (s *schedule) delay(exec failsafe.ExecutionAttempt[any]) time.Duration {
	delay, jitter := s.unjittered(exec)
	switch {
	case s.jitter != nil:
		delay = s.jitter(delay)
	case jitter:
		delay = UpTo(delay)
	}
	return s.settle(exec, delay)
}

// unjittered returns the delay without jitter, and whether it needs any.
func (s *schedule) unjittered(exec failsafe.ExecutionAttempt[any]) (delay time.Duration, jitter bool) {
	if s.custom != nil {
		if delay := s.custom(exec); delay >= 0 {
			return delay, true
		}
	}
	if s.random[1] > 0 {
		return s.random[0] + UpTo(s.random[1]-s.random[0]), false
	}
	most := s.most
	if failure, ok := errors.AsType[Capped](exec.LastError()); ok && failure.MaxBackoff() > 0 {
		most = min(most, max(s.first, failure.MaxBackoff()))
	}
	next := float64(s.first)
	for range exec.Retries() {
		if next *= s.factor; next >= float64(most) {
			return most, true
		}
	}
	return min(time.Duration(next), most), true
}

// Capped is an error after which the backoff grows no further than to a limit. Zero: no limit.
type Capped interface {
	error
	MaxBackoff() time.Duration
}

// UpTo returns a random duration above zero and up to d; d where it is not above zero.
func UpTo(d time.Duration) time.Duration {
	if d <= 0 {
		return d
	}
	return 1 + rand.N(d)
}
