package checkpoint

import (
	"errors"
	"fmt"
)

// What the stores of this package, and every other [Store], return. They come wrapped: use errors.Is.
var (
	// ErrFenced means that the caller does not own the key, or not any more. To go on it has to Acquire the key again.
	ErrFenced = errors.New("owner is fenced")
	// ErrRegression means that a commit would have moved Seq back within a lineage.
	ErrRegression = errors.New("position moves back")
	// ErrNotFound means that there is no record for the key.
	ErrNotFound = errors.New("no record")
	// ErrInvalidKey means that the key is empty or longer than [MaxKeySize].
	ErrInvalidKey = errors.New("invalid key")
	// ErrInvalidPosition means that the position is larger than [MaxLineageSize] and [MaxTokenSize] allow.
	ErrInvalidPosition = errors.New("invalid position")
)

// What only [File] returns. They come wrapped: use errors.Is.
var (
	// ErrLocked means that another [File], of this process or another one, has the directory open.
	ErrLocked = errors.New("directory in use")
	// ErrClosed means that the [File] was closed.
	ErrClosed = errors.New("store is closed")
	// ErrGone means that the path of the [File] does not lead to its directory any more: the directory or its LOCK file
	// was moved or removed, or something is mounted over it. What was written before is where the directory is now. To
	// go on, open the store again.
	ErrGone = errors.New("directory is gone")
	// ErrNoStore means that there is no store in the directory, and [WithExisting] says that there has to be one.
	ErrNoStore = errors.New("no store in this directory")
)

// DamagedError means that a record of a [File] cannot be used. The file was changed, cut off, or written by another version
// of this package; it is no regular file; or it is older than what this File has written, or gone. The
// file is left as it is and the key cannot be used. To restore the file, or to remove it and with it the position and the
// epoch, is for the operator to decide. Close the File before that.
type DamagedError struct {
	File  string // path of the damaged file
	Cause error  // what is wrong with it
}

// Error names the file and what is wrong with it.
func (e *DamagedError) Error() string {
	return fmt.Sprintf("damaged record in %s: %v", e.File, e.Cause)
}

// Unwrap returns Cause.
func (e *DamagedError) Unwrap() error { return e.Cause }

// failed says what was being done, and to which key, when err came up. A nil err stays nil.
func failed(operation, key string, err error) error {
	if err == nil {
		return nil
	}
	const shown = 64
	if len(key) > shown {
		key = key[:shown] + "…"
	}
	return fmt.Errorf("checkpoint: %s %q: %w", operation, key, err)
}
