package stream

import (
	"context"
	"sync"
)

// race is the opens of one execution of the open policies: one, several tries, or hedges at the same time.
type race[Req, Res any] struct {
	mu      sync.Mutex // guards the fields below
	over    bool
	running int // opens at work
	entered []*opened[Req, Res]
	changed chan struct{} // closed, and made anew, when one of the above changes
	cause   error         // what the attempt before the next one ended with
	waited  error         // what the connection waited for when the newest open was cut short; nil if it did not
}

// begin counts an open, and returns what the attempt before it ended with.
func (r *race[Req, Res]) begin() (cause error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running++
	return r.cause
}

// enter takes in an open that has succeeded. It reports false where the race is over: nobody will take it.
func (r *race[Req, Res]) enter(o *opened[Req, Res]) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running--
	if !r.over {
		r.entered = append(r.entered, o)
	}
	r.change()
	return !r.over
}

// fail ends an open that has failed; where its attempt has ended by itself, with cause, and where it was cut short while it waited
// for the connection, with what that waits for.
func (r *race[Req, Res]) fail(cause, waited error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running--
	if r.waited = waited; cause == nil {
		cause = waited
	}
	if cause != nil {
		r.cause = cause
	}
	r.change()
}

// await is called where an open has failed. While others are at work it waits, and returns one that succeeds: a hedge that
// fails fast does not beat a first try that takes its time.
func (r *race[Req, Res]) await(ctx context.Context) *opened[Req, Res] {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.running > 0 && len(r.entered) == 0 && !r.over && ctx.Err() == nil {
		changed := r.changed
		r.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
		r.mu.Lock()
	}
	if r.over || ctx.Err() != nil || len(r.entered) == 0 {
		return nil
	}
	return r.entered[0]
}

// end ends the race; every open but the winner is closed (invariant 23). It returns what the newest attempt to fail by
// itself ended with, and what the newest to be cut short waited for.
func (r *race[Req, Res]) end(winner *opened[Req, Res]) (cause, waited error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = true
	r.change()
	for _, o := range r.entered {
		if o != winner {
			o.attempt.cancel()
		}
	}
	return r.cause, r.waited
}

// change wakes whoever waits. The caller holds mu.
func (r *race[Req, Res]) change() {
	close(r.changed)
	r.changed = make(chan struct{})
}
