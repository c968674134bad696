package permit

import (
	"context"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/adaptivethrottler"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"

	"github.com/streamsafe/streamsafe/internal/policykind"
	"github.com/streamsafe/streamsafe/internal/trial"
)

// recorder is what circuit breakers and throttlers learn outcomes by.
type recorder interface {
	RecordSuccess()
	RecordFailure()
	RecordError(err error)
}

// verdict tells a policy of an outcome, if that is one for it: see the table in doc.go. It reports whether it was.
func verdict(to recorder, isFailure func(any, error) bool, o Outcome, err error) bool {
	switch o {
	case Served:
		to.RecordSuccess()
		return true
	case Fault:
		to.RecordError(err)
		return true
	case Denied:
		if !isFailure(nil, err) {
			return false
		}
		to.RecordFailure()
		return true
	case Unrun, Left:
		return false
	default:
		return false
	}
}

// failureOf returns the conditions of p, which say what is a failure. If p is not failsafe-go's, nothing is known to be one.
func failureOf(p failsafe.Policy[any]) func(result any, err error) bool {
	if judge, ok := p.ToExecutor(nil).(trial.Judge); ok {
		return judge.IsFailure
	}
	return func(any, error) bool { return false }
}

// breaker is a circuit breaker.
type breaker struct {
	policy    circuitbreaker.CircuitBreaker[any]
	isFailure func(any, error) bool
}

func newBreaker(p circuitbreaker.CircuitBreaker[any]) *breaker {
	return &breaker{p, failureOf(trial.Bare(p))}
}

func (b *breaker) try(context.Context, int) (Permit, bool) {
	halfOpen, ok := trial.Acquire(b.policy)
	if halfOpen {
		return Permit{of: (*halfOpenBreaker)(b)}, ok
	}
	return Permit{of: b}, ok
}

func (b *breaker) acquire(ctx context.Context) (Permit, error) {
	p, ok := b.try(ctx, 0)
	if !ok {
		return Permit{}, circuitbreaker.ErrOpen
	}
	return p, nil
}

// end ends a permit of the closed breaker. It says nothing about one that is on trial now, and must not add to the permits of the
// trial.
func (b *breaker) end(_ Permit, o Outcome, err error) {
	if o != Unrun && o != Left && !b.policy.IsHalfOpen() {
		verdict(b.policy, b.isFailure, o, err)
	}
}

// halfOpenBreaker is a circuit breaker that was half-open when it gave the permit.
type halfOpenBreaker breaker

func (b *halfOpenBreaker) try(ctx context.Context, level int) (Permit, bool) {
	return (*breaker)(b).try(ctx, level)
}

func (b *halfOpenBreaker) acquire(ctx context.Context) (Permit, error) {
	return (*breaker)(b).acquire(ctx)
}

// end ends a permit of the trial. If there is no verdict, the next piece of work uses it (invariant 37).
func (b *halfOpenBreaker) end(_ Permit, o Outcome, err error) {
	judged := false
	defer func() { // also if a condition of the breaker panics
		if !judged {
			trial.Return(b.policy)
		}
	}()
	judged = verdict(b.policy, b.isFailure, o, err)
}

// throttler is an adaptive throttler, with or without priorities.
type throttler struct {
	policy    recorder
	isFailure func(any, error) bool
	ask       func(level int) bool
}

func newThrottler(p interface {
	failsafe.Policy[any]
	recorder
}, ask func(level int) bool, prioritized bool,
) *Gate {
	g := &Gate{kind: policykind.AdaptiveThrottler, denial: adaptivethrottler.ErrExceeded, prioritized: prioritized, waits: true}
	g.mechanism = &throttler{p, failureOf(p), ask}
	return g
}

func (t *throttler) try(_ context.Context, level int) (Permit, bool) {
	return Permit{of: t}, t.ask(level)
}

func (t *throttler) acquire(ctx context.Context) (Permit, error) {
	level := 0
	if _, prioritized := t.policy.(adaptivethrottler.PriorityThrottler[any]); prioritized {
		level, _ = Level(ctx)
	}
	if !t.ask(level) {
		return Permit{}, adaptivethrottler.ErrExceeded
	}
	return Permit{of: t}, nil
}

func (t *throttler) end(_ Permit, o Outcome, err error) { verdict(t.policy, t.isFailure, o, err) }
