package remote

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	maxTries  = 6
	firstWait = 10 * time.Millisecond
	longest   = 200 * time.Millisecond
)

// tries counts what a call has tried in vain. The waits make up a third of a second; who needs more calls again.
type tries struct {
	failed, conflicts int
}

// next waits before another try, and reports false if there is none.
func (t *tries) next(ctx context.Context) bool {
	if t.failed++; t.failed >= maxTries {
		return false
	}
	return wait(ctx, min(firstWait<<(t.failed-1), longest))
}

// conflict waits after somebody else was faster. Somebody has made progress, so only the context ends this.
func (t *tries) conflict(ctx context.Context) bool {
	if t.conflicts++; t.conflicts == 1 {
		return ctx.Err() == nil
	}
	return wait(ctx, min(time.Millisecond<<min(t.conflicts, 6), 50*time.Millisecond))
}

// wait waits for up to d, and reports false if the context ends before.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(rand.N(d) + d/8)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
