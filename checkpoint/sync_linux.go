package checkpoint

import (
	"errors"
	"os"
	"syscall"
)

// syncFile puts the bytes of f on the disk. It leaves out the time of the last change, which would cost a second write.
func syncFile(f *os.File) error {
	for {
		err := syscall.Fdatasync(int(f.Fd()))
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}
