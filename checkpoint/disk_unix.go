//go:build unix

package checkpoint

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// noWait makes opening a pipe not wait for its other end.
const noWait = syscall.O_NONBLOCK

// syncDir puts the names in a directory on the disk.
func syncDir(open func() (*os.File, error)) error {
	f, err := open()
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// linked tells whether a file has more than one name.
func linked(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && stat.Nlink > 1
}
