//go:build unix

package checkpoint

import (
	"errors"
	"os"
)

// syncDir puts the names in dir on the disk.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
