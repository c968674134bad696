package main

import (
	"context"
	"errors"
	"fmt"
)

// runner is a contestant that runs.
type runner struct {
	contestant // set at construction, then read only, as are the next two

	journal *journal
	done    chan struct{} // closed when the watcher has returned

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

// failure returns what ended the watcher before its time, if anything did.
func (r *runner) failure() error {
	select {
	case <-r.done:
	default:
		return nil
	}
	if r.err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", r.name, r.err)
}

// awaits reports whether a condition on the journals of all runners does not hold yet, and still can.
func awaits(all []*runner, holds func(*journal) bool) bool {
	for _, r := range all {
		if !holds(r.journal) && r.failure() == nil {
			return true
		}
	}
	return false
}
