package tap

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
	"github.com/failsafe-go/failsafe-go/priority"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
	"google.golang.org/grpc/metadata"
)

// gate is one policy as the tap uses it.
type gate interface {
	// pass lets an RPC pass, or says why not. It does not block. An accountant hands in the admission, which holds what the
	// RPC takes until it ends; nobody else does, and then there is nothing to be given back.
	pass(ctx context.Context, header metadata.MD, adm *admission) *refusal
}

// permit is what an RPC holds until it ends.
type permit interface {
	// end is called once. err is set if the outcome is a fault.
	end(o outcome, err error)
}

// occupancy is a permit that stands for a place in the server: it is free when the handler has returned.
type occupancy interface {
	permit
	occupies()
}

// outcome is how an RPC ended.
type outcome uint8

const (
	unrun  outcome = iota // it never began
	served                // the server has done its part, whatever the status
	left                  // the client cancelled it
	fault                 // the server failed
)

// gateMaker makes gates of policies.
type gateMaker struct {
	accounts bool          // somebody tells how RPCs end
	levels   levelReader   // for prioritized policies
	delay    time.Duration // what refusals tell clients to wait
}

// gatesOf returns the gates for policies. Permits that have to be given back need an accountant.
func (m gateMaker) gatesOf(policies []failsafe.Policy[any]) ([]gate, error) {
	var gates []gate
	var errs []error
	for _, p := range policies {
		holds := false
		switch p := p.(type) {
		case ratelimiter.RateLimiter[any]:
			gates = append(gates, &rateGate{p, refuse(ReasonRateLimiter, ratelimiter.ErrExceeded, m.delay)})
		case circuitbreaker.CircuitBreaker[any]:
			gates = append(gates, newBreakerGate(p, m.delay))
		case adaptivethrottler.AdaptiveThrottler[any]:
			gates = append(gates, m.throttlerGate(func(int) bool { return p.TryAcquirePermit() }, false, p))
		case adaptivethrottler.PriorityThrottler[any]:
			gates = append(gates, m.throttlerGate(p.TryAcquirePermitWithLevel, true, p))
		case bulkhead.Bulkhead[any]:
			holds = true
			gates = append(gates, &bulkheadGate{p, refuse(ReasonBulkhead, bulkhead.ErrFull, m.delay)})
		case adaptivelimiter.AdaptiveLimiter[any]:
			holds = true
			gates = append(gates, m.limiterGate(func(context.Context, int) (adaptivelimiter.Permit, bool) {
				return p.TryAcquirePermit()
			}, false))
		case adaptivelimiter.PriorityLimiter[any]:
			holds = true
			gates = append(gates, m.limiterGate(func(ctx context.Context, level int) (adaptivelimiter.Permit, bool) {
				permit, err := p.AcquirePermitWithMaxWait(priority.ContextWithLevel(ctx, level), 0)
				return permit, err == nil
			}, true))
		case nil:
			errs = append(errs, errors.New("a policy is nil"))
		default:
			errs = append(errs, fmt.Errorf("%T has no place in a tap", p))
		}
		if holds && !m.accounts {
			errs = append(errs, fmt.Errorf("%T holds permits until RPCs end: it needs an Accountant", p))
		}
	}
	return gates, errors.Join(errs...)
}

// The fields of all gates are set at construction, then read only, but for the atomic ones.

type rateGate struct {
	limiter ratelimiter.RateLimiter[any]
	full    *refusal
}

func (g *rateGate) pass(context.Context, metadata.MD, *admission) *refusal {
	if g.limiter.TryAcquirePermit() {
		return nil
	}
	return g.full
}

// closedGate lets nothing pass.
type closedGate struct{ refusal *refusal }

func (g closedGate) pass(context.Context, metadata.MD, *admission) *refusal { return g.refusal }

type bulkheadGate struct {
	bulkhead bulkhead.Bulkhead[any]
	full     *refusal
}

func (g *bulkheadGate) pass(_ context.Context, _ metadata.MD, adm *admission) *refusal {
	if !g.bulkhead.TryAcquirePermit() {
		return g.full
	}
	adm.hold(g)
	return nil
}

func (g *bulkheadGate) end(outcome, error) { g.bulkhead.ReleasePermit() }
func (*bulkheadGate) occupies()            {}

// limiterGate is an adaptive limiter, with or without priorities.
type limiterGate struct {
	acquire func(ctx context.Context, level int) (adaptivelimiter.Permit, bool)
	levels  levelReader
	full    *refusal
}

func (m gateMaker) limiterGate(
	acquire func(context.Context, int) (adaptivelimiter.Permit, bool), prioritized bool,
) *limiterGate {
	return &limiterGate{
		acquire, m.levels.wanted(prioritized), refuse(ReasonAdaptiveLimiter, adaptivelimiter.ErrExceeded, m.delay),
	}
}

func (g *limiterGate) pass(ctx context.Context, header metadata.MD, adm *admission) *refusal {
	level, r := g.levels.levelOf(ctx, header)
	if r != nil {
		return r
	}
	p, ok := g.acquire(ctx, level)
	if !ok {
		return g.full
	}
	adm.hold(limiterPermit{p})
	return nil
}

type limiterPermit struct{ adaptivelimiter.Permit }

func (limiterPermit) occupies() {}

// end records the RPC's duration, unless that says nothing about the server.
func (p limiterPermit) end(o outcome, _ error) {
	if o == unrun || o == left {
		p.Drop()
		return
	}
	p.Record()
}

// recorder is what breakers and throttlers learn outcomes by.
type recorder interface {
	RecordSuccess()
	RecordError(err error)
}

// record leaves out RPCs that say nothing about the server.
func record(to recorder, o outcome, err error) {
	switch o {
	case fault:
		to.RecordError(err)
	case served:
		to.RecordSuccess()
	case unrun, left:
	}
}

// throttlerGate is an adaptive throttler, with or without priorities.
type throttlerGate struct {
	acquire  func(level int) bool
	levels   levelReader
	recorder recorder
	full     *refusal
}

func (m gateMaker) throttlerGate(acquire func(int) bool, prioritized bool, to recorder) *throttlerGate {
	return &throttlerGate{
		acquire, m.levels.wanted(prioritized), to, refuse(ReasonThrottler, adaptivethrottler.ErrExceeded, m.delay),
	}
}

func (g *throttlerGate) pass(ctx context.Context, header metadata.MD, adm *admission) *refusal {
	level, r := g.levels.levelOf(ctx, header)
	if r != nil {
		return r
	}
	if !g.acquire(level) {
		return g.full
	}
	adm.hold(g)
	return nil
}

func (g *throttlerGate) end(o outcome, err error) { record(g.recorder, o, err) }
