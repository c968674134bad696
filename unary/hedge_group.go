package unary

import (
	"context"
	"sync"
)

// hedgeGroup is the branches of one hedge policy: the first try and its hedges.
//
// A failure counts only when no other branch runs, so that a hedge that fails fast does not beat a first try that is
// still at work. A branch that has failed waits, in the goroutine the policy gave it, until every other has failed, too,
// or one has won, which cancels the rest.
//
// A branch begins when the policy makes its execution and not when its goroutine runs: otherwise a hedge could fail
// before the first try's goroutine was ever scheduled, and would take itself for the only one.
type hedgeGroup struct {
	mu      sync.Mutex    // guards the fields below
	running int           // branches that are neither done nor waiting
	idle    chan struct{} // closed when running comes to zero; nil where no branch waits
}

// begin counts a branch. A nil group has none.
func (g *hedgeGroup) begin() {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.running++
}

// end ends a branch. One that has failed returns only when no other runs, or ctx is done.
func (g *hedgeGroup) end(ctx context.Context, failed bool) {
	g.mu.Lock()
	if g.running--; g.running == 0 {
		if g.idle != nil {
			close(g.idle)
			g.idle = nil
		}
		g.mu.Unlock()
		return
	}
	if !failed {
		g.mu.Unlock()
		return
	}
	if g.idle == nil {
		g.idle = make(chan struct{})
	}
	idle := g.idle
	g.mu.Unlock()
	select {
	case <-idle:
	case <-ctx.Done():
	}
}
