package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// File is a durable [Store] in a directory of a local file system. It keeps each key in a file of its own.
//
// What a method has written when it returns nil survives a killed process and a machine without power. A process or
// machine that stops during a call leaves the record as it was or changed in full. A record that was damaged on the
// disk is a [*DamagedError] from every method, and is never overwritten.
//
// File holds no record in memory. Calls for different keys run side by side; a Commit takes two syncs of the disk. A
// deleted key leaves a small file behind, which holds its epoch.
//
// Call Close when done.
type File struct {
	dir   string            // set at construction, then read only
	disk  disk              // set at construction, then read only
	lock  *os.File          // set at construction, then read only; locked until Close
	slots [64]chan struct{} // made at construction; one is full while a call works on one of its keys

	mu     sync.Mutex     // guards the fields below
	closed bool           // nothing is added to calls once it is set
	calls  sync.WaitGroup // of calls in progress

	closeDone chan struct{} // closed by the first Close when the directory is given back
	closeErr  error         // written by the first Close, read when closeDone is closed
}

var _ Store = (*File)(nil)

// OpenFile opens the store in dir and makes dir, but not its parents, where it is not there yet. The directory belongs
// to the store: it should hold nothing else, which OpenFile does not check.
//
// Errors: [ErrLocked] where another File has dir open, in this process or another. A process that is gone, killed or
// not, holds nothing. On systems without file locks the error matches [errors.ErrUnsupported]; Linux, macOS, the BSDs
// and Windows have them.
func OpenFile(dir string) (*File, error) {
	if dir == "" {
		return nil, errors.New("checkpoint: open: no directory is given")
	}
	return openFile(dir, disk{})
}

func openFile(dir string, d disk) (*File, error) {
	dir, err := filepath.Abs(dir) // a later change of the working directory changes nothing
	if err != nil {
		return nil, fmt.Errorf("checkpoint: open: %w", err)
	}
	if err := d.makeDir(dir); err != nil {
		return nil, fmt.Errorf("checkpoint: open: %w", err)
	}
	lock, err := d.openLock(dir)
	if errors.Is(err, errInUse) {
		return nil, fmt.Errorf("checkpoint: open %s: %w", dir, ErrLocked)
	}
	if err != nil {
		return nil, fmt.Errorf("checkpoint: open: %w", err)
	}
	if err := d.clean(dir); err != nil {
		return nil, fmt.Errorf("checkpoint: open: %w", errors.Join(err, releaseLock(lock)))
	}
	f := &File{dir: dir, disk: d, lock: lock, closeDone: make(chan struct{})}
	for i := range f.slots {
		f.slots[i] = make(chan struct{}, 1)
	}
	return f, nil
}

// Close waits for the calls in progress and gives the directory back. Every later call fails with [ErrClosed]; a
// second Close does nothing and returns what the first one did.
func (f *File) Close() error {
	f.mu.Lock()
	first := !f.closed
	f.closed = true
	f.mu.Unlock()
	if first {
		f.calls.Wait()
		f.closeErr = releaseLock(f.lock)
		close(f.closeDone)
	}
	<-f.closeDone
	return f.closeErr
}

// Acquire implements [Store].
func (f *File) Acquire(ctx context.Context, key string) (Record, error) {
	var r Record
	err := f.run(ctx, key, func(path string) error {
		e, err := f.read(path, key)
		if err != nil {
			return err
		}
		e.acquire(time.Now())
		r = e.Record
		return f.disk.replace(path, encode(key, e))
	})
	if err != nil {
		return Record{}, failed("acquire", key, err)
	}
	return r, nil
}

// Commit implements [Store].
func (f *File) Commit(ctx context.Context, key string, epoch uint64, p Position) error {
	return failed("commit", key, f.run(ctx, key, func(path string) error {
		if err := p.Validate(); err != nil {
			return err
		}
		e, err := f.read(path, key)
		if err != nil {
			return err
		}
		if err := e.commit(epoch, p, time.Now()); err != nil {
			return err
		}
		return f.disk.replace(path, encode(key, e))
	}))
}

// Load implements [Store].
func (f *File) Load(ctx context.Context, key string) (Record, error) {
	var r Record
	err := f.run(ctx, key, func(path string) error {
		e, err := f.read(path, key)
		if err != nil {
			return err
		}
		r, err = e.load()
		return err
	})
	return r, failed("load", key, err)
}

// Delete implements [Store].
func (f *File) Delete(ctx context.Context, key string) error {
	return failed("delete", key, f.run(ctx, key, func(path string) error {
		e, err := f.read(path, key)
		if err != nil || e.Epoch == 0 {
			return err
		}
		// A tombstone is written again: the call before may have failed with the rename not on the disk.
		e.remove(time.Now())
		return f.disk.replace(path, encode(key, e))
	}))
}

// run calls work with the path of key's file, while no other call works on the same key.
func (f *File) run(ctx context.Context, key string, work func(path string) error) error {
	if err := check(ctx, key); err != nil {
		return err
	}
	if err := f.begin(); err != nil {
		return err
	}
	defer f.calls.Done()

	name := fileName(key)
	slot := f.slot(name)
	select {
	case slot <- struct{}{}:
		defer func() { <-slot }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := ctx.Err(); err != nil {
		return err // both were ready, and select took the other
	}
	return work(filepath.Join(f.dir, name))
}

// begin counts a call in progress, which ends with f.calls.Done.
func (f *File) begin() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return ErrClosed
	}
	f.calls.Add(1)
	return nil
}

// slot is a channel and not a mutex: it is held while the disk is at work, and who waits for it can stop waiting.
func (f *File) slot(name string) chan struct{} {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name)) // never fails
	return f.slots[h.Sum32()%uint32(len(f.slots))]
}

// read returns what the file at path holds of key: the zero entry where there is no file, and a *DamagedError where
// there is one but not with a record of key in it.
func (f *File) read(path, key string) (entry, error) {
	b, err := f.disk.read(path, maxRecordSize)
	if errors.Is(err, fs.ErrNotExist) {
		return entry{}, nil
	}
	if err != nil {
		return entry{}, err
	}
	held, e, err := decode(b)
	if err == nil && held != key {
		err = fmt.Errorf("it holds the key %.64q", held)
	}
	if err != nil {
		return entry{}, &DamagedError{File: path, Cause: err}
	}
	return e, nil
}
