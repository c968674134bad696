package tap

import (
	"context"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"google.golang.org/grpc/metadata"

	"github.com/streamsafe/streamsafe/internal/trial"
)

// breakerGate is a circuit breaker.
type breakerGate struct {
	breaker circuitbreaker.CircuitBreaker[any]
	delay   time.Duration
	open    delayed
	trial   trialPermit
}

func newBreakerGate(breaker circuitbreaker.CircuitBreaker[any], delay time.Duration) *breakerGate {
	g := &breakerGate{
		breaker: breaker, delay: delay,
		open: delayed{reason: ReasonCircuitBreaker, cause: circuitbreaker.ErrOpen},
	}
	g.trial.gate = g
	return g
}

func (g *breakerGate) pass(_ context.Context, _ metadata.MD, adm *admission) *refusal {
	if adm == nil {
		return g.ask()
	}
	halfOpen, ok := trial.Acquire(g.breaker)
	switch {
	case !ok:
		return g.open.refuse(max(g.breaker.RemainingDelay(), g.delay))
	case halfOpen:
		adm.hold(&g.trial)
	default:
		adm.hold(g)
	}
	return nil
}

// ask takes no permit of a half-open breaker: whoever tells the breaker how RPCs end does.
func (g *breakerGate) ask() *refusal {
	if delay := g.breaker.RemainingDelay(); delay > 0 {
		return g.open.refuse(delay)
	}
	return nil
}

// end is for an RPC that the breaker let pass while it was closed. It says nothing about a breaker that is on trial now,
// and must not add to the permits of the trial.
func (g *breakerGate) end(o outcome, err error) {
	if !g.breaker.IsHalfOpen() {
		record(g.breaker, o, err)
	}
}

// trialPermit is for an RPC that the breaker let pass while it was half-open. If the RPC never ran, or was cancelled, there
// is no verdict, and another RPC uses the permit (invariant 37).
type trialPermit struct{ gate *breakerGate }

func (p *trialPermit) end(o outcome, err error) {
	judged := false
	defer func() { // even if a condition of the breaker panics
		if !judged {
			trial.Return(p.gate.breaker)
		}
	}()
	if o == unrun || o == left {
		return
	}
	record(p.gate.breaker, o, err)
	judged = true
}
