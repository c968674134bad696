package tap

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"google.golang.org/grpc/metadata"
)

// breakerGate is a circuit breaker.
type breakerGate struct {
	breaker circuitbreaker.CircuitBreaker[any]
	delay   time.Duration
	open    delayed
	trial   trialPermit
	// spare counts permits of a half-open breaker whose RPC never ran, or was cancelled. A breaker takes back a permit only
	// with a verdict, and there is none: the next RPC uses it.
	spare atomic.Int64
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
	if g.useSpare() {
		adm.hold(&g.trial)
		return nil
	}
	if !g.breaker.TryAcquirePermit() {
		return g.open.refuse(max(g.breaker.RemainingDelay(), g.delay))
	}
	if g.breaker.IsClosed() {
		adm.hold(g)
	} else {
		adm.hold(&g.trial)
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

func (g *breakerGate) useSpare() bool {
	for n := g.spare.Load(); n > 0; n = g.spare.Load() {
		if !g.breaker.IsHalfOpen() {
			g.spare.Store(0) // they went with the state
			return false
		}
		if g.spare.CompareAndSwap(n, n-1) {
			return true
		}
	}
	return false
}

// end is for an RPC that the breaker let pass while it was closed. It says nothing about a breaker that is on trial now,
// and must not add to the permits of the trial.
func (g *breakerGate) end(o outcome, err error) {
	if !g.breaker.IsHalfOpen() {
		record(g.breaker, o, err)
	}
}

// trialPermit is for an RPC that the breaker let pass while it was half-open.
type trialPermit struct{ gate *breakerGate }

func (p *trialPermit) end(o outcome, err error) {
	if o == unrun || o == left {
		p.gate.spare.Add(1)
		return
	}
	record(p.gate.breaker, o, err)
}
