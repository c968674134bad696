package checkpoint

import (
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// disk is how a File reaches the file system: one method for each thing done to it, one step for each system call.
//
// Everything below the directory goes through root, which holds the directory itself. A path would lead to another
// directory once this one is moved away.
type disk struct {
	root *os.Root // set at construction, then read only; nil before the directory is open

	// step runs before each system call that changes something; its error takes the place of the call's. Tests fail a
	// call with it, or kill the process. Set at construction, then read only; nil outside tests.
	step func(op) error
}

// op is one system call.
type op struct {
	call, path string

	// Of a write: for tests that stop half-way through it.
	file *os.File
	data []byte
	at   int64
}

// do runs one system call. An error names the file by its whole path.
func (d disk) do(o op, run func() error) error {
	if d.step != nil {
		if err := d.step(o); err != nil {
			return err
		}
	}
	return naming(o.call, o.path, run())
}

// naming puts the whole path in place of the name that a file has below its root.
func naming(call, path string, err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		err = e.Err
	} else if e, ok := errors.AsType[*os.LinkError](err); ok {
		err = e.Err
	}
	return &fs.PathError{Op: call, Path: path, Err: err}
}

func (d disk) path(name string) string { return filepath.Join(d.root.Name(), name) }

// makeDir makes dir if it is not there yet. It does not make dir's parents: a volume that is not mounted is an error,
// and not an empty store.
func (d disk) makeDir(dir string) error {
	err := d.do(op{call: "mkdir", path: dir}, func() error { return os.Mkdir(dir, 0o700) })
	if errors.Is(err, fs.ErrExist) { // if it is not a directory, opening it will tell
		return nil
	}
	return err
}

// syncParent puts the name of dir on the disk. This is done for a directory that exists, too: whoever made it may have
// been killed before its name was on the disk.
func (d disk) syncParent(dir string) error {
	parent := filepath.Dir(dir)
	err := d.do(op{call: "syncdir", path: parent}, func() error {
		return syncDir(func() (*os.File, error) { return os.Open(parent) })
	})
	if errors.Is(err, fs.ErrPermission) { // it is somebody else's
		return nil
	}
	return ignoreCannot(err)
}

// syncDir puts the names in the directory on the disk.
func (d disk) syncDir() error {
	return ignoreCannot(d.do(op{call: "syncdir", path: d.root.Name()}, func() error {
		return syncDir(func() (*os.File, error) { return d.root.Open(".") })
	}))
}

// ignoreCannot takes the errors of file systems that sync no directories. What cannot be synced is as safe as it gets.
func ignoreCannot(err error) error {
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.EINVAL) {
		return nil
	}
	return err
}

// openLock opens the lock file and locks it. The error is errInUse if somebody else holds the lock, and matches
// fs.ErrNotExist if there is no lock file and create is false.
func (d disk) openLock(create bool) (*os.File, error) {
	path := d.path(lockName)
	f, _, err := d.open(lockName)
	if create && errors.Is(err, fs.ErrNotExist) {
		err = d.do(op{call: "create", path: path}, func() (err error) {
			f, err = d.root.OpenFile(lockName, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
			return err
		})
		if errors.Is(err, fs.ErrExist) { // another process was faster
			f, _, err = d.open(lockName)
		}
	}
	if err != nil {
		return nil, err
	}
	if err := d.do(op{call: "lock", path: path}, func() error { return lockFile(f) }); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// errNotRegular means that something else than a plain file is in the place of one.
var errNotRegular = errors.New("it is not a regular file")

// open opens a file to read and to write. It follows no symbolic link and never waits for the other end of a pipe: the
// error is errNotRegular for these. The error matches fs.ErrNotExist if there is no file.
func (d disk) open(name string) (*os.File, fs.FileInfo, error) {
	path := d.path(name)
	seen, err := d.root.Lstat(name)
	if err == nil && !seen.Mode().IsRegular() {
		err = errNotRegular
	}
	if err != nil {
		return nil, nil, naming("open", path, err)
	}
	var f *os.File
	err = d.do(op{call: "open", path: path}, func() (err error) {
		f, err = d.root.OpenFile(name, os.O_RDWR|noWait, 0)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	// What was opened may be something else than what was seen. A Root follows a link that stays inside it.
	opened, err := f.Stat()
	if err == nil && !os.SameFile(seen, opened) {
		err = errNotRegular
	}
	if err != nil {
		return nil, nil, errors.Join(naming("open", path, err), f.Close())
	}
	return f, opened, nil
}

// read returns the first bytes of a file of this size, but never more than limit+1 of them.
func (d disk) read(f *os.File, size int64, limit int) ([]byte, error) {
	b := make([]byte, min(size, int64(limit)+1))
	n, err := f.ReadAt(b, 0)
	if errors.Is(err, io.EOF) { // it has become shorter
		err = nil
	}
	return b[:n], naming("read", f.Name(), err)
}

// write writes b into a file, in place.
func (d disk) write(f *os.File, b []byte, at int64) error {
	return d.do(op{call: "write", path: f.Name(), file: f, data: b, at: at}, func() error {
		_, err := f.WriteAt(b, at)
		return err
	})
}

// sync puts what was written into f on the disk.
func (d disk) sync(f *os.File) error {
	return d.do(op{call: "sync", path: f.Name()}, func() error { return syncFile(f) })
}

func (d disk) close(f *os.File) error {
	return d.do(op{call: "close", path: f.Name()}, f.Close)
}

// create makes b the content of the file named name, whole or not at all, wherever the process or the machine stops.
// When it returns nil the file is on the disk.
//
//  1. The bytes go to a new file with a name of its own, and to the disk.
//  2. The rename gives it the name, at once. If the name was another file's, that one is gone.
//  3. The directory goes to the disk, and with it the rename.
func (d disk) create(name string, b []byte) error {
	temp := name + "." + rand.Text() + tempExt // nobody can have put anything there
	if err := d.writeNew(temp, b); err != nil {
		return errors.Join(err, ignoreMissing(d.remove(temp)))
	}
	err := d.do(op{call: "rename", path: d.path(name)}, func() error { return d.root.Rename(temp, name) })
	if err != nil {
		return errors.Join(err, ignoreMissing(d.remove(temp)))
	}
	return d.syncDir()
}

// writeNew makes a file of b that is on the disk when it returns nil.
func (d disk) writeNew(name string, b []byte) error {
	var f *os.File
	err := d.do(op{call: "create", path: d.path(name)}, func() (err error) {
		f, err = d.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		return err
	})
	if err != nil {
		return err
	}
	err = d.write(f, b, 0)
	if err == nil {
		err = d.sync(f)
	}
	return errors.Join(err, d.close(f))
}

func (d disk) remove(name string) error {
	return d.do(op{call: "remove", path: d.path(name)}, func() error { return d.root.Remove(name) })
}

// each calls f with every name in the directory.
func (d disk) each(f func(name string) error) (err error) {
	const together = 256
	dir, err := d.root.Open(".")
	if err != nil {
		return naming("open", d.root.Name(), err)
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	for {
		names, err := dir.Readdirnames(together)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return naming("read", d.root.Name(), err)
		}
		for _, name := range names {
			if err := f(name); err != nil {
				return err
			}
		}
	}
}

// clean removes new files that were never finished. One that cannot be removed does no harm: no name is used twice.
func (d disk) clean() error {
	return d.each(func(name string) error {
		if leftover(name) {
			_ = d.remove(name)
		}
		return nil
	})
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
