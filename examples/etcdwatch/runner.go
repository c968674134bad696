package main

import (
	"context"
	"errors"
)

// runner is a contestant that runs.
type runner struct {
	// set at construction, then read only
	contestant contestant
	journal    *journal
	done       chan struct{} // closed when the watcher has returned

	err error // written by the watcher's goroutine before done is closed, read after it
}

// startRunner starts a watcher. It ends when ctx is done.
func startRunner(ctx context.Context, c contestant, endpoints []string, specs []spec) *runner {
	r := &runner{contestant: c, journal: &journal{}, done: make(chan struct{})}
	go func() { // ends with ctx, or where the watcher fails; done tells
		defer close(r.done)
		err := c.run(ctx, endpoints, specs, r.journal)
		switch {
		case ctx.Err() != nil:
		case err == nil:
			r.err = errors.New("the watcher ended by itself")
		default:
			r.err = err
		}
	}()
	return r
}

// hasEnded reports whether the watcher will see nothing more.
func (r *runner) hasEnded() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// forAll reports whether a condition holds for the journals of all runners, but for those that have ended.
func forAll(all []*runner, holds func(*journal) bool) bool {
	for _, r := range all {
		if !holds(r.journal) && !r.hasEnded() {
			return false
		}
	}
	return true
}
