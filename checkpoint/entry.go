package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"
)

// entry is what both stores keep of a key, and the rules by which it changes. The zero entry is a key never acquired.
//
// A deleted key stays behind as a tombstone that holds its epoch. Without it the race would be: 1. A acquires epoch 1;
// 2. the key is deleted; 3. B acquires, and gets epoch 1 again; 4. A's late commit passes the check and lands in B's
// record.
type entry struct {
	Record
	deleted bool
}

// errNoEpoch means that a key can have no further owner. Counting does not get there: somebody has written the epoch.
var errNoEpoch = errors.New("no epoch is left for another owner")

// live tells whether there is a record to load and to commit to.
func (e *entry) live() bool { return e.Epoch != 0 && !e.deleted }

// acquire makes a new owner, which fences every earlier one (invariant 24), or leaves everything as it is.
func (e *entry) acquire(now time.Time) error {
	if e.Epoch == math.MaxUint64 {
		return errNoEpoch
	}
	e.Epoch++
	e.deleted = false
	e.touch(now)
	return nil
}

// commit moves the position, or leaves everything as it is (invariant 24). A change of lineage is always a move
// forward: what counts in another history cannot be compared (invariant 17).
func (e *entry) commit(epoch uint64, p Position, now time.Time) error {
	if !e.live() {
		return fmt.Errorf("%w: epoch %d, and the key has no owner", ErrFenced, epoch)
	}
	if epoch != e.Epoch {
		return fmt.Errorf("%w: epoch %d, and the owner's is %d", ErrFenced, epoch, e.Epoch)
	}
	if p.Before(e.Position) {
		return fmt.Errorf("%w: from %d to %d in lineage %q", ErrRegression, e.Position.Seq, p.Seq, p.Lineage)
	}
	e.Position = p
	e.touch(now)
	return nil
}

// load returns the record.
func (e *entry) load() (Record, error) {
	if !e.live() {
		return Record{}, ErrNotFound
	}
	return e.Record, nil
}

// remove leaves the tombstone.
func (e *entry) remove(now time.Time) {
	e.Position = Position{}
	e.deleted = true
	e.touch(now)
}

// touch moves UpdatedAt, which does not follow a clock that is set back.
func (e *entry) touch(now time.Time) {
	// Without the monotonic reading, and in UTC: what is loaded equals what was stored.
	now = now.Round(0).UTC()
	if now.After(e.UpdatedAt) {
		e.UpdatedAt = now
	}
}

// check is how every method of a store begins.
func check(ctx context.Context, key string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return ValidateKey(key)
}
