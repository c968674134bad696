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
// only, one write at a time. While nothing is processed it does nothing: no goroutine, and no timer.
type committer struct {
	// set at construction, then read only
	storeOptions
	ctx    context.Context            //nolint:containedctx // the life of the stream: no write begins after it, but for the last
	source func() checkpoint.Position // the newest processed position
	fenced func(error)                // another owner has the key
	events *events

	epoch   uint64        // written by acquire, before anything else runs
	pending atomic.Int64  // messages processed since the last write began
	armed   atomic.Bool   // a write is due when the interval is over
	due     atomic.Bool   // a write is due now: whoever has the slot sees to it
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

// processed counts one message. It takes no lock and does not wait.
func (c *committer) processed() {
	if c.pending.Add(1) == c.every {
		go c.writeDue() // ends with the write, or with the stream; the last write waits for it
	}
	c.moved()
}

// moved notes that the processed position has moved: it is written when the interval is over. It takes no lock and does not
// wait.
func (c *committer) moved() {
	if !c.armed.Load() && c.armed.CompareAndSwap(false, true) {
		time.AfterFunc(c.interval, func() { // as above
			c.armed.Store(false)
			c.writeDue()
		})
	}
}

// writeDue writes the newest processed position. If that fails it is tried again after the interval. If a write is on its way,
// another follows it: a race that cannot lose one, since who has the slot looks at due after it has given the slot away.
func (c *committer) writeDue() {
	c.due.Store(true)
	select {
	case c.slot <- struct{}{}:
	default:
		return
	}
	defer c.release()
	if c.ctx.Err() == nil && c.within(c.ctx, c.write) != nil { // kept in lastErr, and published
		c.moved()
	}
}

// release gives the slot away.
func (c *committer) release() {
	<-c.slot
	if c.due.Load() && c.ctx.Err() == nil {
		go c.writeDue() // as in processed
	}
}

// drain waits for a write that is on its way, though its time limit has passed: a store may not look at its context.
func (c *committer) drain() {
	c.slot <- struct{}{}
	<-c.slot
}

// flush writes what is processed and not yet written, though ctx may be done (invariant 25).
func (c *committer) flush(ctx context.Context) error {
	return c.writeWithin(context.WithoutCancel(ctx))
}

// writeWithin waits for the slot and writes, with the time limit for both.
func (c *committer) writeWithin(ctx context.Context) error {
	return c.within(ctx, func(ctx context.Context) error {
		select {
		case c.slot <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		defer c.release()
		return c.write(ctx)
	})
}

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

// write commits the newest processed position, where it is not committed yet. It returns when that is done. The caller has the
// slot.
func (c *committer) write(ctx context.Context) error {
	c.pending.Store(0)
	c.due.Store(false)
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
