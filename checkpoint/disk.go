package checkpoint

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// disk is how a File reaches the file system: one method for each thing done to it, one step for each system call.
type disk struct {
	// step runs before each system call that changes something; its error takes the place of the call's. Tests fail a
	// call with it, or kill the process. Set at construction, then read only; nil outside tests.
	step func(call, path string) error
}

// do runs one system call.
func (d disk) do(call, path string, run func() error) error {
	if d.step != nil {
		if err := d.step(call, path); err != nil {
			return err
		}
	}
	return run()
}

// makeDir makes dir where it is not there yet. It does not make dir's parents: a volume that is not mounted is an
// error, and not an empty store.
func (d disk) makeDir(dir string) error {
	err := d.do("mkdir", dir, func() error { return os.Mkdir(dir, 0o700) })
	if err != nil && !errors.Is(err, fs.ErrExist) { // where it is not a directory, to open the lock file in it will tell
		return err
	}
	// Also where it exists: whoever made it may have been killed before its name was on the disk. What cannot be synced at
	// all is as safe as it gets.
	err = d.syncDir(filepath.Dir(dir))
	for _, cannot := range []error{fs.ErrPermission, errors.ErrUnsupported, syscall.EINVAL} {
		if errors.Is(err, cannot) {
			return nil
		}
	}
	return err
}

// openLock opens the lock file of dir and locks it. The error is errInUse where somebody else holds the lock.
func (d disk) openLock(dir string) (*os.File, error) {
	path := filepath.Join(dir, lockName)
	var f *os.File
	err := d.do("open", path, func() (err error) {
		f, err = os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := d.do("lock", path, func() error { return lockFile(f) }); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// clean removes what writes left behind that never came to their end.
func (d disk) clean(dir string) error {
	files, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, file := range files {
		if !leftover(file.Name()) {
			continue
		}
		if err := d.remove(filepath.Join(dir, file.Name())); err != nil {
			return err
		}
	}
	return nil
}

func (d disk) remove(path string) error {
	return d.do("remove", path, func() error { return os.Remove(path) })
}

// read returns the bytes of a file, but never more than limit+1 of them.
func (d disk) read(path string, limit int) (b []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return io.ReadAll(io.LimitReader(f, int64(limit)+1))
}

// replace makes b the content of the file, whole or not at all, wherever the process or the machine stops. When it
// returns nil the change is on the disk.
//
//  1. The bytes go to a second file, and to the disk, while the first is as it was.
//  2. The rename puts the second in place of the first, at once.
//  3. The directory goes to the disk, and with it the rename.
func (d disk) replace(path string, b []byte) error {
	temp := path + tempExt
	if err := d.write(temp, b); err != nil {
		return errors.Join(err, ignoreMissing(d.remove(temp)))
	}
	if err := d.do("rename", path, func() error { return os.Rename(temp, path) }); err != nil {
		return errors.Join(err, ignoreMissing(d.remove(temp)))
	}
	return d.syncDir(filepath.Dir(path))
}

// write makes a file of b that is on the disk when it returns nil.
func (d disk) write(path string, b []byte) error {
	var f *os.File
	err := d.do("create", path, func() (err error) {
		f, err = os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
		return err
	})
	if err != nil {
		return err
	}
	err = d.do("write", path, func() error { _, err := f.Write(b); return err })
	if err == nil {
		err = d.do("sync", path, f.Sync)
	}
	return errors.Join(err, d.do("close", path, f.Close))
}

func (d disk) syncDir(dir string) error {
	return d.do("syncdir", dir, func() error { return syncDir(dir) })
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
