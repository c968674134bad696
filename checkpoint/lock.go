package checkpoint

import (
	"errors"
	"os"
)

// errInUse is what lockFile returns if somebody else holds the lock.
var errInUse = errors.New("another store holds the lock")

// releaseLock unlocks f and closes it. To close it is not enough while this process starts another one:
//
//  1. One goroutine forks, and the new process has every open file too, until it executes its program.
//  2. Another one closes the lock file. The lock stays, for the new process still has it open.
//  3. The directory is opened again, and is in use.
func releaseLock(f *os.File) error { return errors.Join(unlockFile(f), f.Close()) }
