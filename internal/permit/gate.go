package permit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/adaptivelimiter"
	"github.com/failsafe-go/failsafe-go/adaptivethrottler"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/ratelimiter"

	"github.com/streamsafe/streamsafe/internal/policykind"
)

// Outcome is how the work that a permit is for ended.
type Outcome uint8

const (
	// Unrun means that it never began, and says nothing about whoever was to do it.
	Unrun Outcome = iota
	// Served means that it was done, whatever came of it.
	Served
	// Left means that whoever asked for it has gone.
	Left
	// Fault means that it failed.
	Fault
	// Denied means that a policy further inside has denied it.
	Denied
)

// Gate is one policy. It is safe for concurrent use.
type Gate struct {
	mechanism // set at construction, then read only

	kind        policykind.Kind // set at construction, then read only
	denial      error           // set at construction, then read only
	prioritized bool            // set at construction, then read only
	waits       bool            // set at construction, then read only
}

// mechanism is how a kind of policies is used.
type mechanism interface {
	// try takes a permit without waiting. level counts for prioritized policies.
	try(ctx context.Context, level int) (Permit, bool)
	// acquire takes a permit, and waits as long as the policy was built for.
	acquire(ctx context.Context) (Permit, error)
	// end ends a permit.
	end(p Permit, o Outcome, err error)
}

// ErrNil is the error of a nil policy.
var ErrNil = errors.New("a policy is nil")

// NoPermitsError is the error of a policy of a kind that has no permits.
type NoPermitsError struct{ Policy failsafe.Policy[any] }

func (e *NoPermitsError) Error() string { return fmt.Sprintf("%T has no permits", e.Policy) }

// New returns the gate for p. The error is ErrNil or a [NoPermitsError].
func New(p failsafe.Policy[any]) (*Gate, error) {
	most, known := policykind.MaxWait(p)
	switch p := p.(type) {
	case nil:
		return nil, ErrNil
	case ratelimiter.RateLimiter[any]:
		g := &Gate{kind: policykind.RateLimiter, denial: ratelimiter.ErrExceeded, waits: known}
		g.mechanism = &rate{p, most}
		return g, nil
	case circuitbreaker.CircuitBreaker[any]:
		g := &Gate{kind: policykind.CircuitBreaker, denial: circuitbreaker.ErrOpen, waits: true}
		g.mechanism = newBreaker(p)
		return g, nil
	case bulkhead.Bulkhead[any]:
		g := &Gate{kind: policykind.Bulkhead, denial: bulkhead.ErrFull, waits: known}
		g.mechanism = &room{p, most}
		return g, nil
	case adaptivethrottler.AdaptiveThrottler[any]:
		return newThrottler(p, func(int) bool { return p.TryAcquirePermit() }, false), nil
	case adaptivethrottler.PriorityThrottler[any]:
		return newThrottler(p, p.TryAcquirePermitWithLevel, true), nil
	case adaptivelimiter.AdaptiveLimiter[any]:
		g := &Gate{kind: policykind.AdaptiveLimiter, denial: adaptivelimiter.ErrExceeded, waits: known}
		g.mechanism = &limiter{p, most}
		return g, nil
	case adaptivelimiter.PriorityLimiter[any]:
		g := &Gate{kind: policykind.AdaptiveLimiter, denial: adaptivelimiter.ErrExceeded, waits: known, prioritized: true}
		g.mechanism = &priorityLimiter{p, most}
		return g, nil
	default:
		return nil, &NoPermitsError{p}
	}
}

// Kind returns the kind of the policy.
func (g *Gate) Kind() policykind.Kind { return g.kind }

// Denial returns the error by which the policy denies.
func (g *Gate) Denial() error { return g.denial }

// IsPrioritized reports whether the policy asks how important the work is.
func (g *Gate) IsPrioritized() bool { return g.prioritized }

// Occupies reports whether a permit of the policy stands for a place that is free when the work is over.
func (g *Gate) Occupies() bool {
	return g.kind == policykind.Bulkhead || g.kind == policykind.AdaptiveLimiter
}

// Waits reports whether Acquire waits as long as the policy was built for. It does not for a limiter that failsafe-go did not
// make, as nobody can ask it.
func (g *Gate) Waits() bool { return g.waits }

// RetryAfter returns when the policy may let something pass again, if it knows: an open circuit breaker does.
func (g *Gate) RetryAfter() time.Duration {
	if b, ok := g.mechanism.(*breaker); ok {
		return b.policy.RemainingDelay()
	}
	return 0
}

// Try takes a permit without waiting. level is how important the work is, from 0 to 499: see [Level].
func (g *Gate) Try(ctx context.Context, level int) (Permit, bool) { return g.try(ctx, level) }

// Acquire takes a permit. It waits as long as the policy was built to wait, and at most until ctx is done. The error is what
// Denial returns, or that of ctx.
func (g *Gate) Acquire(ctx context.Context) (Permit, error) { return g.acquire(ctx) }

// Permit is the right to do a piece of work. The zero Permit holds nothing.
type Permit struct {
	of      mechanism
	limiter adaptivelimiter.Permit // of adaptive limiters
}

// IsZero reports whether there is nothing to end.
func (p Permit) IsZero() bool { return p.of == nil }

// Occupies reports whether the permit stands for a place that is free when the work is over.
func (p Permit) Occupies() bool {
	if p.limiter != nil {
		return true
	}
	_, ok := p.of.(*room)
	return ok
}

// End ends the permit. It is called once. err is the reason of Fault and of Denied.
func (p Permit) End(o Outcome, err error) {
	if p.of != nil {
		p.of.end(p, o, err)
	}
}
