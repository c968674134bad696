package checkpoint

import (
	"errors"
	"os"
	"syscall"
	"unsafe"
)

// lockFile locks f for as long as it is open, without waiting. The lock belongs to the open file and not to the
// process, so a second open in the same process does not get it either. It is gone with the process, however that
// ends.
func lockFile(f *os.File) error {
	const (
		failImmediately    = 1
		exclusive          = 2
		errorLockViolation = syscall.Errno(33)
	)
	procedure := syscall.NewLazyDLL("kernel32.dll").NewProc("LockFileEx")
	if err := procedure.Find(); err != nil {
		return err
	}
	var at syscall.Overlapped // the lock is on the first byte
	ok, _, err := procedure.Call(f.Fd(), exclusive|failImmediately, 0, 1, 0, uintptr(unsafe.Pointer(&at)))
	switch {
	case ok != 0:
		return nil
	case errors.Is(err, errorLockViolation), errors.Is(err, syscall.ERROR_IO_PENDING):
		return errInUse
	default:
		return err
	}
}

// unlockFile takes the lock off f. Windows does so by itself when f is closed, but not always at once.
func unlockFile(f *os.File) error {
	procedure := syscall.NewLazyDLL("kernel32.dll").NewProc("UnlockFileEx")
	if err := procedure.Find(); err != nil {
		return err
	}
	var at syscall.Overlapped // the lock is on the first byte
	if ok, _, err := procedure.Call(f.Fd(), 0, 1, 0, uintptr(unsafe.Pointer(&at))); ok == 0 {
		return err
	}
	return nil
}
