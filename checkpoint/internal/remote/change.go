package remote

import (
	"context"
	"fmt"
)

// change is one change of a record, which may take several tries. All carry the same number, and those that follow a lost
// answer replace the same record, so it is done once at most.
type change struct {
	store *Store
	key   string
	write uint64 // of this change
	tries tries

	doubt error // the answer to a try was lost; nil: nothing is in doubt
	from  State // what that try was to replace
}

// try writes. If it returns false and no error, the record has to be read before the next try.
func (c *change) try(ctx context.Context, from, to State) (done bool, err error) {
	to.Write = c.write
	revision, swapped, err := c.store.backend.Swap(ctx, c.key, from, to)
	if err == nil && swapped {
		to.Revision = revision
		c.store.known.put(c.key, to)
		return true, nil
	}
	if err == nil {
		if !c.tries.conflict(ctx) {
			return false, c.failed(ctx.Err())
		}
		return false, nil
	}
	switch c.store.backend.Judge(err) {
	case Final:
		return false, c.failed(err)
	case Doubt:
		c.doubt, c.from = err, from
	case Again:
	}
	if !c.tries.next(ctx) {
		return false, c.failed(err)
	}
	return false, nil
}

// settle tells what became of a try whose answer was lost, now that the record was read (invariant 54).
func (c *change) settle(now State) (done bool, err error) {
	switch {
	case c.doubt == nil:
		return false, nil
	case now.Write == c.write:
		return true, nil
	case now.Write == c.from.Write && now.Epoch == c.from.Epoch: // not done; a later try replaces the same record
		return false, nil
	}
	return false, fmt.Errorf("the answer was lost, and the record was changed since: %w", c.doubt)
}

// failed adds to an error what made the outcome unknown.
func (c *change) failed(err error) error {
	if c.doubt == nil {
		return err
	}
	return fmt.Errorf("%w (it may have been written: %w)", err, c.doubt)
}
