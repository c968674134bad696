package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// File is a durable [Store] in a directory of a local file system. It keeps each key in a file of its own.
//
// What a method has written when it returns nil survives a killed process and a machine without power. A process or
// machine that stops during a call leaves the record as it was or changed in full. What a method returns is on the disk,
// too: a position that a killed process had only just written is synced before it is handed out. A record that was damaged
// on the disk is a [*DamagedError] from every method, and is never overwritten.
//
// File belongs to the directory that it has opened, and not to the path. If the directory is moved, removed, or hidden by
// a mount, and if its LOCK file is removed, every method fails with [ErrGone]. If the directory is on a volume that may
// not be mounted, open it with [WithExisting].
//
// File keeps no positions in memory. Calls for different keys run side by side. A Commit takes one sync of the disk; the
// first call for a key and the first Commit of a position that is larger than all before take some more. A call waits as
// long as the disk takes.
//
// A key takes 8 KiB of the disk, and more if its positions do not fit in 4 KiB. A deleted key leaves its file behind,
// which holds its epoch for fencing; [File.Forget] removes these files.
//
// Close the File before you copy the directory, restore a file in it, or remove one. A copy of an open store may not be
// readable.
//
// Call Close when done. The zero File is closed.
type File struct {
	dir    string      // set at construction, then read only
	disk   disk        // set at construction, then read only
	opened fs.FileInfo // of the directory; set at construction, then read only
	lock   *os.File    // set at construction, then read only; locked until Close
	locked fs.FileInfo // of lock; set at construction, then read only
	lanes  [65]lane    // made at construction; the last one is for the file that Forget leaves

	mu     sync.Mutex     // guards the fields below
	closed bool           // nothing is added to calls once it is set
	calls  sync.WaitGroup // of calls in progress

	closeDone chan struct{} // closed by the first Close when the directory is given back
	closeErr  error         // written by the first Close, read when closeDone is closed
}

var _ Store = (*File)(nil)

// OpenFile opens the store in dir. It makes dir, but not its parents, and the store, if they are not there yet and the
// options do not say otherwise. The directory belongs to the store: it should hold nothing else, which OpenFile does not
// check.
//
// A mount point without its volume looks like an empty store. Use [WithExisting] to refuse it.
//
// Errors: [ErrLocked] if another File has dir open, in this process or another. A process that is gone, killed or
// not, holds nothing. [ErrNoStore], with WithExisting. On systems without file locks the error matches
// [errors.ErrUnsupported]; Linux, macOS, the BSDs and Windows have them.
func OpenFile(dir string, opts ...FileOption) (*File, error) {
	return openFile(dir, disk{}, opts...)
}

func openFile(dir string, d disk, opts ...FileOption) (*File, error) {
	if dir == "" {
		return nil, errors.New("checkpoint: open: no directory is given")
	}
	var o fileOptions
	for _, opt := range opts {
		opt.apply(&o)
	}
	dir, err := filepath.Abs(dir) // a later change of the working directory changes nothing
	if err != nil {
		return nil, fmt.Errorf("checkpoint: open: %w", err)
	}
	f := &File{dir: dir, disk: d, closeDone: make(chan struct{})}
	for i := range f.lanes {
		f.lanes[i].turn = make(chan struct{}, 1)
	}
	if err := f.prepare(o); err != nil {
		return nil, fmt.Errorf("checkpoint: open %s: %w", dir, errors.Join(err, f.giveBack()))
	}
	return f, nil
}

// prepare opens and locks the directory. If it fails, what it has opened stays for giveBack.
func (f *File) prepare(o fileOptions) error {
	err := f.openDir(o.existing)
	if err == nil {
		f.lock, err = f.disk.openLock(!o.existing)
	}
	switch {
	case errors.Is(err, errInUse):
		return ErrLocked
	case o.existing && errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %w", ErrNoStore, err)
	case err != nil:
		return err
	}
	if f.locked, err = f.lock.Stat(); err != nil {
		return err
	}
	if err := f.disk.syncParent(f.dir); err != nil {
		return err
	}
	if err := f.disk.clean(); err != nil {
		return err
	}
	return f.there() // 1. It opens the lock file. 2. The directory is made anew. 3. It locks the old one.
}

// openDir opens the directory. If it need not exist, openDir makes it.
func (f *File) openDir(existing bool) error {
	if !existing {
		if err := f.disk.makeDir(f.dir); err != nil {
			return err
		}
	}
	info, err := os.Stat(f.dir)
	if err != nil {
		return err
	}
	if !info.IsDir() { // to open a pipe would wait for its other end
		return &fs.PathError{Op: "open", Path: f.dir, Err: syscall.ENOTDIR}
	}
	if f.disk.root, err = os.OpenRoot(f.dir); err != nil {
		return err
	}
	f.opened, err = f.disk.root.Stat(".")
	return naming("stat", f.dir, err)
}

// giveBack unlocks and closes the directory, as far as it was opened.
func (f *File) giveBack() (err error) {
	if f.lock != nil {
		err = releaseLock(f.lock)
	}
	if f.disk.root != nil {
		err = errors.Join(err, f.disk.root.Close())
	}
	return err
}

// Close waits for the calls in progress and gives the directory back. Every later call fails with [ErrClosed]; a
// second Close does nothing and returns what the first one did.
func (f *File) Close() error {
	if f.closeDone == nil { // the zero File
		return nil
	}
	f.mu.Lock()
	first := !f.closed
	f.closed = true
	f.mu.Unlock()
	if first {
		f.calls.Wait()
		f.closeErr = f.giveBack()
		close(f.closeDone)
	}
	<-f.closeDone
	return f.closeErr
}

// Acquire implements [Store]. After a [File.Forget] the first owner of a key may have a higher epoch than 1.
func (f *File) Acquire(ctx context.Context, key string) (Record, error) {
	var r Record
	err := f.run(ctx, key, func(k *keyFile) error {
		e := k.newest.entry
		if e.Epoch == 0 {
			var err error
			if e.Epoch, err = f.floor(ctx); err != nil {
				return err
			}
		}
		if err := e.acquire(time.Now()); err != nil {
			return err
		}
		r = e.Record
		return k.put(e)
	})
	if err != nil {
		return Record{}, failed("acquire", key, err)
	}
	return r, nil
}

// Commit implements [Store].
func (f *File) Commit(ctx context.Context, key string, epoch uint64, p Position) error {
	return failed("commit", key, f.run(ctx, key, func(k *keyFile) error {
		if err := p.Validate(); err != nil {
			return err
		}
		e := k.newest.entry
		if err := e.commit(epoch, p, time.Now()); err != nil {
			return err
		}
		return k.put(e)
	}))
}

// Load implements [Store].
func (f *File) Load(ctx context.Context, key string) (Record, error) {
	var r Record
	err := f.run(ctx, key, func(k *keyFile) (err error) {
		r, err = k.newest.load()
		return err
	})
	if err != nil {
		return Record{}, failed("load", key, err)
	}
	return r, nil
}

// Delete implements [Store].
func (f *File) Delete(ctx context.Context, key string) error {
	return failed("delete", key, f.run(ctx, key, func(k *keyFile) error {
		e := k.newest.entry
		if !e.live() {
			return nil
		}
		e.remove(time.Now())
		return k.put(e)
	}))
}

// run calls work with the file of key.
func (f *File) run(ctx context.Context, key string, work func(k *keyFile) error) error {
	return f.guarded(ctx, func() error {
		if err := ValidateKey(key); err != nil {
			return err
		}
		return f.with(ctx, key, work)
	})
}

// guarded calls work between two looks at the directory. The second one is for what work has not found because the
// directory was being removed.
func (f *File) guarded(ctx context.Context, work func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := f.begin(); err != nil {
		return err
	}
	defer f.calls.Done()
	if err := f.there(); err != nil {
		return err
	}
	err := work()
	if gone := f.there(); gone != nil {
		return gone
	}
	return err
}

// begin counts a call in progress, which ends with f.calls.Done.
func (f *File) begin() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || f.closeDone == nil {
		return ErrClosed
	}
	f.calls.Add(1)
	return nil
}

// there returns an error if the path of the store does not lead to the directory of this File any more, or if its lock file
// is gone. Otherwise there would be two owners that do not fence each other (invariant 24):
//
//  1. A acquires a key, epoch 1. The directory is moved away, and made anew.
//  2. B opens it, acquires the key there, and has epoch 1, too.
//  3. A commits, into the directory that was moved.
//
// This File has both open, so that the numbers of their inodes are not used again.
func (f *File) there() error {
	now, err := os.Stat(f.dir)
	if err == nil && os.SameFile(now, f.opened) {
		now, err = f.disk.root.Lstat(lockName)
		if err == nil && os.SameFile(now, f.locked) {
			return nil
		}
		err = naming("lstat", f.disk.path(lockName), err)
	}
	switch {
	case err == nil, errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%w: %s", ErrGone, f.dir)
	}
	return err
}
