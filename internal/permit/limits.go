package permit

import (
	"context"
	"time"

	"github.com/failsafe-go/failsafe-go/adaptivelimiter"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/priority"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
)

// forever is the longest wait of a policy that waits as long as it takes.
const forever = -1

// rate is a rate limiter. Its permits are spent, and there is nothing to end.
type rate struct {
	policy ratelimiter.RateLimiter[any]
	most   time.Duration // the longest wait
}

func (r *rate) try(context.Context, int) (Permit, bool) { return Permit{}, r.policy.TryAcquirePermit() }

// acquire does not call AcquirePermit: that makes a timer also if there is nothing to wait for.
func (r *rate) acquire(ctx context.Context) (Permit, error) {
	switch wait := r.policy.TryReservePermit(r.most); {
	case wait == 0:
		return Permit{}, nil
	case wait < 0:
		return Permit{}, ratelimiter.ErrExceeded
	default:
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
			return Permit{}, nil
		case <-ctx.Done():
			return Permit{}, ctx.Err()
		}
	}
}

func (*rate) end(Permit, Outcome, error) {}

// room is a bulkhead.
type room struct {
	policy bulkhead.Bulkhead[any]
	most   time.Duration // the longest wait
}

func (r *room) try(context.Context, int) (Permit, bool) {
	if !r.policy.TryAcquirePermit() {
		return Permit{}, false
	}
	return Permit{of: r}, true
}

func (r *room) acquire(ctx context.Context) (Permit, error) {
	if !r.policy.TryAcquirePermit() {
		if r.most == 0 {
			return Permit{}, bulkhead.ErrFull
		}
		if err := r.policy.AcquirePermitWithMaxWait(ctx, r.most); err != nil {
			return Permit{}, err
		}
	}
	return Permit{of: r}, nil
}

func (r *room) end(Permit, Outcome, error) { r.policy.ReleasePermit() }

// limiter is an adaptive limiter. What it gives is its own, and takes memory.
type limiter struct {
	policy adaptivelimiter.AdaptiveLimiter[any]
	most   time.Duration // the longest wait
}

func (l *limiter) try(context.Context, int) (Permit, bool) {
	p, ok := l.policy.TryAcquirePermit()
	return Permit{of: l, limiter: p}, ok
}

func (l *limiter) acquire(ctx context.Context) (Permit, error) {
	p, err := acquireLimiter(ctx, l.policy, l.most)
	return Permit{of: l, limiter: p}, err
}

func (*limiter) end(p Permit, o Outcome, _ error) { endLimiter(p.limiter, o) }

// priorityLimiter is an adaptive limiter with priorities.
type priorityLimiter struct {
	policy adaptivelimiter.PriorityLimiter[any]
	most   time.Duration // the longest wait
}

func (l *priorityLimiter) try(ctx context.Context, level int) (Permit, bool) {
	p, err := l.policy.AcquirePermitWithMaxWait(priority.ContextWithLevel(ctx, level), 0)
	return Permit{of: l, limiter: p}, err == nil
}

func (l *priorityLimiter) acquire(ctx context.Context) (Permit, error) {
	if level := priority.LevelFromContext(ctx); level != unknownLevel && level != within(level) {
		ctx = priority.ContextWithLevel(ctx, within(level)) // or it would be an index out of range
	}
	p, err := acquireLimiter(ctx, l.policy, l.most)
	return Permit{of: l, limiter: p}, err
}

func (*priorityLimiter) end(p Permit, o Outcome, _ error) { endLimiter(p.limiter, o) }

// acquirer is what both kinds of adaptive limiters have.
type acquirer interface {
	AcquirePermit(ctx context.Context) (adaptivelimiter.Permit, error)
	AcquirePermitWithMaxWait(ctx context.Context, maxWaitTime time.Duration) (adaptivelimiter.Permit, error)
}

func acquireLimiter(ctx context.Context, from acquirer, most time.Duration) (adaptivelimiter.Permit, error) {
	if most == forever {
		return from.AcquirePermit(ctx)
	}
	return from.AcquirePermitWithMaxWait(ctx, most)
}

// endLimiter records how long the work took, unless that says nothing about whoever did it.
func endLimiter(p adaptivelimiter.Permit, o Outcome) {
	if o == Unrun || o == Left {
		p.Drop()
		return
	}
	p.Record()
}

// Level returns how important the work of ctx is, from 0 to 499; ok tells whether ctx says it. Policies use it as an index:
// nothing else may pass.
func Level(ctx context.Context) (level int, ok bool) {
	level = priority.LevelFromContext(ctx)
	return within(level), level >= priority.VeryLow.MinLevel()
}

// unknownLevel is what failsafe-go returns if a context has no level.
const unknownLevel = -1

func within(level int) int {
	return min(max(level, priority.VeryLow.MinLevel()), priority.VeryHigh.MaxLevel())
}
