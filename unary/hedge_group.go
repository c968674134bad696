package unary

import (
	"context"
	"errors"
	"sync"

	"github.com/streamsafe/streamsafe/internal/rpcstatus"
)

// hedgeGroup is the branches of one hedge policy: the first try and its hedges.
//
// A failure counts only when no other branch runs, so that a hedge that fails fast does not beat a first try that is
// still at work. A branch that has failed waits, in the goroutine the policy gave it, until every other is done. The policy
// takes whichever comes first, so all that waited return the same: the branch that won, or else the last real failure.
//
// A branch begins when the policy makes its execution and not when its goroutine runs: otherwise a hedge could fail
// before the first try's goroutine was ever scheduled, and would take itself for the only one.
type hedgeGroup[T any] struct {
	mu      sync.Mutex    // guards the fields below
	running int           // branches that are neither done nor waiting
	best    *T            // what the best branch so far returns; nil while none has ended
	rank    rank          // of best
	idle    chan struct{} // closed when running comes to zero; nil if no branch waits
}

// rank says which outcome of two branches counts: the lower one.
type rank uint8

const (
	success rank = iota
	failure
	nothing // a denial, or a try that was cancelled: it hides no real failure (invariant 38)
)

func rankOf(err error) rank {
	switch {
	case err == nil:
		return success
	case rpcstatus.IsDenial(err), errors.Is(err, context.Canceled):
		return nothing
	default:
		return failure
	}
}

// begin counts a branch. A nil group has none.
func (g *hedgeGroup[T]) begin() {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.running++; g.running == 1 && g.idle == nil {
		g.best = nil // the group is used again
	}
}

// end ends a branch and returns what it is to return. One that has failed waits while others run, or until ctx is done.
func (g *hedgeGroup[T]) end(ctx context.Context, mine T, is rank) T {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.running--
	if g.best == nil || is < g.rank || is == g.rank && is != success {
		g.best, g.rank = &mine, is
	}
	switch {
	case g.running == 0 && g.idle != nil:
		close(g.idle)
		g.idle = nil
	case g.running > 0 && g.rank != success:
		if !g.wait(ctx) {
			return mine
		}
	}
	if is == success {
		return mine
	}
	return *g.best
}

// wait waits until no branch runs; it is false if ctx is done before. The caller holds mu, which is let go meanwhile.
func (g *hedgeGroup[T]) wait(ctx context.Context) bool {
	if g.idle == nil {
		g.idle = make(chan struct{})
	}
	idle := g.idle
	g.mu.Unlock()
	defer g.mu.Lock()
	select {
	case <-idle:
		return true
	case <-ctx.Done():
		return false
	}
}
