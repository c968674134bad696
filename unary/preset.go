package unary

import (
	"fmt"
	"strings"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/budget"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/failsafe-go/failsafe-go/timeout"
)

// Preset is the numbers of a set of policies for the calls to one service, to be printed and changed before Policies
// makes the policies. A zero number leaves its policy out.
type Preset struct {
	// Name says what the numbers are for.
	Name string
	// CallTimeout limits a call, with all its attempts and waits.
	CallTimeout time.Duration
	// MaxConcurrent is how many calls may run at a time; more are denied at once.
	MaxConcurrent uint
	// MaxRetries is how often a call is retried, after a random wait of up to Backoff, which doubles up to MaxBackoff.
	MaxRetries          int
	Backoff, MaxBackoff time.Duration
	// RetryShare is the greatest part of the attempts at a time that may be retries, from 0 to 1; 3 may be always.
	RetryShare float64
	// FailureShare opens the breaker: the part, from 0 to 1, of the attempts in FailureWindow that failed, of
	// FailureCount at least. It stays open for OpenFor.
	FailureShare  float64
	FailureCount  uint
	FailureWindow time.Duration
	OpenFor       time.Duration
	// HedgeDelay is when an idempotent call that is not done gets another attempt, up to MaxHedges.
	HedgeDelay time.Duration
	MaxHedges  int
	// AttemptTimeout limits one attempt.
	AttemptTimeout time.Duration
}

// Interactive is for calls that somebody waits for: fail early, hedge what is slow, retry once. Call 2 s, attempt 1 s,
// 1 retry after up to 25 ms (at most 100 ms, and a tenth of the attempts), 1 hedge after 200 ms, breaker at half of 20
// attempts in 10 s for 2 s, 256 calls at a time.
func Interactive() Preset {
	return Preset{
		Name: "interactive", CallTimeout: 2 * time.Second, MaxConcurrent: 256,
		MaxRetries: 1, Backoff: 25 * time.Millisecond, MaxBackoff: 100 * time.Millisecond, RetryShare: 0.1,
		FailureShare: 0.5, FailureCount: 20, FailureWindow: 10 * time.Second, OpenFor: 2 * time.Second,
		HedgeDelay: 200 * time.Millisecond, MaxHedges: 1, AttemptTimeout: time.Second,
	}
}

// Background is for work that may take its time: batches, replication, reports. Call 2 min, attempt 30 s, 6 retries
// after up to 500 ms doubling to 20 s (a fifth of the attempts), no hedge, breaker at half of 20 attempts in 30 s for
// 10 s, 32 calls at a time.
func Background() Preset {
	return Preset{
		Name: "background", CallTimeout: 2 * time.Minute, MaxConcurrent: 32,
		MaxRetries: 6, Backoff: 500 * time.Millisecond, MaxBackoff: 20 * time.Second, RetryShare: 0.2,
		FailureShare: 0.5, FailureCount: 20, FailureWindow: 30 * time.Second, OpenFor: 10 * time.Second,
		AttemptTimeout: 30 * time.Second,
	}
}

// CriticalWrite is for writes that matter: they are tried again for long, and never twice at the same time. Call 30 s,
// attempt 10 s, 4 retries after up to 100 ms doubling to 5 s (no budget), no hedge, breaker only at four fifths of 50
// attempts in 30 s, for 5 s, 64 calls at a time. A write may run twice all the same (see the package): give it a key.
func CriticalWrite() Preset {
	return Preset{
		Name: "critical write", CallTimeout: 30 * time.Second, MaxConcurrent: 64,
		MaxRetries: 4, Backoff: 100 * time.Millisecond, MaxBackoff: 5 * time.Second,
		FailureShare: 0.8, FailureCount: 50, FailureWindow: 30 * time.Second, OpenFor: 5 * time.Second,
		AttemptTimeout: 10 * time.Second,
	}
}

// Policies makes the policies, the outermost first: timeout of the call, bulkhead, retry, breaker, hedge, timeout of an
// attempt. Each call makes new ones; what shares them shares the breaker, the bulkhead and the retry budget, so make
// one set for each service.
func (p Preset) Policies() []failsafe.Policy[any] {
	var policies []failsafe.Policy[any]
	if p.CallTimeout > 0 {
		policies = append(policies, timeout.New[any](p.CallTimeout))
	}
	if p.MaxConcurrent > 0 {
		policies = append(policies, bulkhead.New[any](p.MaxConcurrent))
	}
	if p.MaxRetries > 0 {
		policies = append(policies, p.retry())
	}
	if p.FailureShare > 0 {
		policies = append(policies, NewCircuitBreakerBuilder().
			WithFailureRateThreshold(min(p.FailureShare, 1), p.FailureCount, p.FailureWindow).
			WithDelay(p.OpenFor).Build())
	}
	if p.HedgeDelay > 0 && p.MaxHedges > 0 {
		policies = append(policies, NewHedgePolicyBuilder(p.HedgeDelay).WithMaxHedges(p.MaxHedges).Build())
	}
	if p.AttemptTimeout > 0 {
		policies = append(policies, timeout.New[any](p.AttemptTimeout))
	}
	return policies
}

func (p Preset) retry() retrypolicy.RetryPolicy[any] {
	b := NewRetryPolicyBuilder().WithMaxRetries(p.MaxRetries).WithBackoff(p.Backoff, p.MaxBackoff)
	if p.RetryShare > 0 {
		b = b.WithBudget(budget.NewBuilder().WithMaxRate(p.RetryShare).Build())
	}
	return b.Build()
}

// String returns one line for each policy, the outermost first.
func (p Preset) String() string {
	var s strings.Builder
	line := func(is bool, format string, args ...any) {
		if is {
			fmt.Fprintf(&s, "\n  "+format, args...)
		}
	}
	s.WriteString(p.Name)
	line(p.CallTimeout > 0, "timeout of the call: %v", p.CallTimeout)
	line(p.MaxConcurrent > 0, "bulkhead: %d calls at a time", p.MaxConcurrent)
	line(p.MaxRetries > 0, "retry: %d times, after up to %v, doubling to %v", p.MaxRetries, p.Backoff, p.MaxBackoff)
	line(p.MaxRetries > 0 && p.RetryShare > 0, "retry budget: %.0f%% of attempts", 100*p.RetryShare)
	line(p.FailureShare > 0, "breaker: opens for %v at %.0f%% of %d or more attempts in %v", p.OpenFor,
		100*p.FailureShare, p.FailureCount, p.FailureWindow)
	line(p.HedgeDelay > 0 && p.MaxHedges > 0, "hedge: %d, after %v, where the method is idempotent", p.MaxHedges, p.HedgeDelay)
	line(p.AttemptTimeout > 0, "timeout of an attempt: %v", p.AttemptTimeout)
	return s.String()
}
