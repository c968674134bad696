package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"math"
)

// Forget removes the files that deleted keys have left behind, and returns how many it removed.
//
// Such a file holds the last epoch of its key. Without the epoch the key would begin at 1 again, and a late commit of an
// owner from before the Delete would be taken for the new owner's. So Forget keeps the highest epoch of all that it
// removes, in one small file for the whole store, and a key without a record begins above it. Epochs are still not used
// twice. The only thing to see is that from then on the first owner of a new key may have a higher epoch than 1.
//
// Other calls may run at the same time. Forget reads every file of the store, and takes a sync of the disk for each time
// that the highest epoch rises. If it returns an error it may have removed some of the files: call it again.
//
// Errors: [ErrClosed], [ErrGone]; the context's, if ctx ends before everything is removed. A [*DamagedError] tells that
// the highest epoch cannot be read. Records of keys that are damaged are left as they are and are no error.
func (f *File) Forget(ctx context.Context) (int, error) {
	removed := 0
	err := f.guarded(ctx, func() error {
		err := f.disk.each(func(name string) error {
			if !keeps(name) {
				return nil
			}
			gone, err := f.forget(ctx, name)
			if gone {
				removed++
			}
			return err
		})
		if removed == 0 {
			return err
		}
		return errors.Join(err, f.disk.syncDir())
	})
	if err != nil {
		return removed, fmt.Errorf("checkpoint: forget: %w", err)
	}
	return removed, nil
}

// forget removes the file if its key is deleted, and tells whether it did.
func (f *File) forget(ctx context.Context, name string) (bool, error) {
	l := f.lane(name)
	if err := l.enter(ctx); err != nil {
		return false, err
	}
	defer l.leave()
	k, err := f.open(l, name)
	if _, damaged := errors.AsType[*DamagedError](err); damaged {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	e, older := k.newest.entry, k.newest.generation < l.known[name]
	if err := k.close(); err != nil {
		return false, err
	}
	// Above the highest epoch no key could begin. A file that is older than what this File has written is damaged.
	if !e.deleted || e.Epoch == math.MaxUint64 || older {
		return false, nil
	}
	// The epoch is on the disk before the file is gone.
	if err := f.raiseFloor(ctx, e.Epoch); err != nil {
		return false, err
	}
	if err := f.disk.remove(name); err != nil {
		return false, err
	}
	delete(l.known, name)
	return true, nil
}

// floor returns the epoch above which a key without a record begins: the highest that was forgotten, or 0.
func (f *File) floor(ctx context.Context) (epoch uint64, err error) {
	err = f.with(ctx, "", func(k *keyFile) error {
		epoch = k.newest.Epoch
		return nil
	})
	return epoch, err
}

func (f *File) raiseFloor(ctx context.Context, epoch uint64) error {
	return f.with(ctx, "", func(k *keyFile) error {
		if epoch <= k.newest.Epoch {
			return nil
		}
		return k.put(entry{Record: Record{Epoch: epoch}})
	})
}
