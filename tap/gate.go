package tap

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"google.golang.org/grpc/metadata"

	"github.com/streamsafe/streamsafe/internal/permit"
	"github.com/streamsafe/streamsafe/internal/policykind"
)

// gate is one policy as the tap uses it.
type gate interface {
	// pass lets an RPC pass, or says why not. It does not block. An accountant hands in the admission, which holds what the
	// RPC takes until it ends; nobody else does, and then there is nothing to be given back.
	pass(ctx context.Context, header metadata.MD, adm *admission) *refusal
}

// closedGate lets nothing pass.
type closedGate struct{ refusal *refusal }

func (g closedGate) pass(context.Context, metadata.MD, *admission) *refusal { return g.refusal }

// The fields of all gates are set at construction, then read only, except where they are atomic.

// policyGate is a policy of any kind but a circuit breaker.
type policyGate struct {
	*permit.Gate
	levels levelReader
	full   *refusal
}

func (g *policyGate) pass(ctx context.Context, header metadata.MD, adm *admission) *refusal {
	level, r := g.levels.levelOf(ctx, header)
	if r != nil {
		return r
	}
	p, ok := g.Try(ctx, level)
	if !ok {
		return g.full
	}
	adm.hold(p)
	return nil
}

// breakerGate is a circuit breaker.
type breakerGate struct {
	*permit.Gate
	delay time.Duration
	open  delayed
}

func (g *breakerGate) pass(ctx context.Context, _ metadata.MD, adm *admission) *refusal {
	if adm == nil {
		return g.ask()
	}
	p, ok := g.Try(ctx, 0)
	if !ok {
		return g.open.refuse(max(g.RetryAfter(), g.delay))
	}
	adm.hold(p)
	return nil
}

// ask takes no permit of a half-open breaker: whoever tells the breaker how RPCs end does.
func (g *breakerGate) ask() *refusal {
	if delay := g.RetryAfter(); delay > 0 {
		return g.open.refuse(delay)
	}
	return nil
}

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
		g, err := permit.New(p)
		switch {
		case errors.Is(err, permit.ErrNil):
			errs = append(errs, err)
		case err != nil:
			errs = append(errs, fmt.Errorf("%T has no place in a tap", p))
		default:
			gates = append(gates, m.gateOf(g))
			if g.Occupies() && !m.accounts {
				errs = append(errs, fmt.Errorf("%T holds permits until RPCs end: it needs an Accountant", p))
			}
		}
	}
	return gates, errors.Join(errs...)
}

func (m gateMaker) gateOf(g *permit.Gate) gate { //nolint:ireturn // it is one of two
	reason := reasonOf(g.Kind())
	if reason == ReasonCircuitBreaker {
		return &breakerGate{Gate: g, delay: m.delay, open: delayed{reason: reason, cause: g.Denial()}}
	}
	return &policyGate{g, m.levels.wanted(g.IsPrioritized()), refuse(reason, g.Denial(), m.delay)}
}

// reasonOf is why a policy of that kind refuses.
func reasonOf(kind policykind.Kind) Reason {
	switch kind { //nolint:exhaustive // the others have no place in a tap
	case policykind.RateLimiter:
		return ReasonRateLimiter
	case policykind.Bulkhead:
		return ReasonBulkhead
	case policykind.AdaptiveLimiter:
		return ReasonAdaptiveLimiter
	case policykind.AdaptiveThrottler:
		return ReasonThrottler
	default:
		return ReasonCircuitBreaker
	}
}
