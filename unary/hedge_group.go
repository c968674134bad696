package unary

import (
	"context"
	"sync"
)

// hedgeGroup is the branches of one hedge policy: the first try and its hedges.
//
// A failure counts only when no other branch runs, so that a hedge that fails fast does not beat a first try that is
// still at work. A branch that has failed waits, in the goroutine the policy gave it, until every other is done. Where one
// has won, it returns what that one returns: the policy takes whichever comes first.
//
// A branch begins when the policy makes its execution and not when its goroutine runs: otherwise a hedge could fail
// before the first try's goroutine was ever scheduled, and would take itself for the only one.
type hedgeGroup[T any] struct {
	mu      sync.Mutex    // guards the fields below
	running int           // branches that are neither done nor waiting
	won     *T            // what a branch that has not failed returns; nil while there is none
	idle    chan struct{} // closed when running comes to zero; nil where no branch waits
}

// begin counts a branch. A nil group has none.
func (g *hedgeGroup[T]) begin() {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.running++; g.running == 1 && g.idle == nil {
		g.won = nil // the group is used again
	}
}

// end ends a branch and returns what it is to return. One that has failed waits while others run, or until ctx is done.
func (g *hedgeGroup[T]) end(ctx context.Context, mine T, failed bool) T {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.running--
	if !failed && g.won == nil {
		g.won = &mine
	}
	switch {
	case g.running == 0 && g.idle != nil:
		close(g.idle)
		g.idle = nil
	case g.running > 0 && failed && g.won == nil:
		g.wait(ctx)
	}
	if failed && g.won != nil {
		return *g.won
	}
	return mine
}

// wait waits until no branch runs, or ctx is done. The caller holds mu, which is let go meanwhile.
func (g *hedgeGroup[T]) wait(ctx context.Context) {
	if g.idle == nil {
		g.idle = make(chan struct{})
	}
	idle := g.idle
	g.mu.Unlock()
	defer g.mu.Lock()
	select {
	case <-idle:
	case <-ctx.Done():
	}
}
