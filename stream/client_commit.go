package stream

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/streamsafe/streamsafe/checkpoint"
)

// committer writes the position that the application has processed to a store, off the message path: the newest one
// only, one write at a time.
type committer struct {
	// set at construction, then read only
	store    checkpoint.Store
	key      string
	every    int64
	interval time.Duration
	timeout  time.Duration
	source   func() checkpoint.Position // the newest processed position
	fenced   func(error)                // another owner has the key
	events   *events

	epoch   uint64        // written by acquire, before anything else runs
	pending atomic.Int64  // messages processed since the last write began
	due     chan struct{} // buffered; written by processed, read by run
	slot    chan struct{} // buffered; holds a value while a write is on its way

	mu        sync.Mutex // guards the fields below
	committed checkpoint.Position
	lastErr   error // of the last write; nil after one that succeeded
}

// acquire makes the stream the owner of the key and returns the position to start from.
func (c *committer) acquire(ctx context.Context) (checkpoint.Position, error) {
	var record checkpoint.Record
	err := c.within(ctx, func(ctx context.Context) (err error) {
		record, err = c.store.Acquire(ctx, c.key)
		return err
	})
	if err != nil {
		return checkpoint.Position{}, err
	}
	c.epoch = record.Epoch
	c.mu.Lock()
	defer c.mu.Unlock()
	c.committed = record.Position
	return record.Position, nil
}

// run writes every so many messages and every so often, until ctx is done. The lifecycle goroutine starts it and
// waits for it.
func (c *committer) run(ctx context.Context) {
	ticker := time.NewTicker(c.interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.due:
		case <-ticker.C:
		}
		if ctx.Err() == nil { // select may have taken another that was ready
			_ = c.writeWithin(ctx) // kept in lastErr, published, and tried again
		}
	}
}

// processed counts one message. It does not wait.
func (c *committer) processed() {
	if c.pending.Add(1) < c.every {
		return
	}
	select {
	case c.due <- struct{}{}:
	default:
	}
}

// flush writes what is processed and not yet written, though ctx may be done (invariant 25).
func (c *committer) flush(ctx context.Context) error {
	return c.writeWithin(context.WithoutCancel(ctx))
}

// writeWithin is write with the time limit.
func (c *committer) writeWithin(ctx context.Context) error { return c.within(ctx, c.write) }

// within calls f with the time limit.
func (c *committer) within(ctx context.Context, f func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	err := f(limited)
	if limited.Err() != nil && ctx.Err() == nil && errors.Is(err, limited.Err()) { // it is not the application's deadline
		return &limitError{what: "no answer from the store", limit: c.timeout}
	}
	return err
}

// write commits the newest processed position, where it is not committed yet. It returns when that is done.
func (c *committer) write(ctx context.Context) error {
	select {
	case c.slot <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-c.slot }()
	c.pending.Store(0)
	position := c.source()
	committed, err := c.last()
	switch {
	case errors.Is(err, checkpoint.ErrFenced):
		return err // for good
	case err == nil && position == committed:
		return nil
	}
	err = errGoroutineEnded // where the store does that
	contained(func() { err = c.store.Commit(ctx, c.key, c.epoch, position) })
	c.done(position, err)
	return err
}

func (c *committer) last() (checkpoint.Position, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.committed, c.lastErr
}

func (c *committer) done(position checkpoint.Position, err error) {
	c.mu.Lock()
	c.lastErr = err
	if err == nil {
		c.committed = position
	}
	c.mu.Unlock()
	switch {
	case err == nil:
		c.events.publish(event{kind: eventCommitted, position: position})
	case errors.Is(err, checkpoint.ErrFenced):
		c.events.publish(event{kind: eventFenced, position: position, cause: err})
		c.fenced(err)
	default:
		c.events.publish(event{kind: eventCommitFailed, position: position, cause: err})
	}
}
