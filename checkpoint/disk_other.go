//go:build !unix

package checkpoint

import (
	"io/fs"
	"os"
)

// noWait is not needed: here no pipe has a name in a directory.
const noWait = 0

// syncDir does nothing: a directory cannot be synced here, and on Windows a rename is in the file system's journal
// before it returns.
func syncDir(func() (*os.File, error)) error { return nil }

// linked cannot tell here.
func linked(fs.FileInfo) bool { return false }
