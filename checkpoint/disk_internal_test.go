package checkpoint

import (
	"errors"
	"io/fs"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// Invariant 24: what is committed stays. Whoever made the directory may have been stopped before its name was on the disk.
func TestParentIsSyncedWhereTheDirectoryExists(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	dir := filepath.Join(parent, "store")
	_, err := openFile(dir, disk{step: func(o op) error {
		if o.call == "syncdir" {
			return errors.New("EIO")
		}
		return nil
	}})
	require.Error(t, err)
	synced := false
	f, err := openFile(dir, disk{step: func(o op) error {
		synced = synced || o.call == "syncdir" && o.path == parent
		return nil
	}})
	require.NoError(t, err)
	require.NoError(t, f.Close())
	require.True(t, synced)
}

// The parent may be somebody else's, or on a file system that syncs no folders.
func TestParentThatCannotBeSynced(t *testing.T) {
	t.Parallel()
	for _, cannot := range []error{fs.ErrPermission, errors.ErrUnsupported, syscall.EINVAL} {
		t.Run(cannot.Error(), func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "store")
			for range 2 { // made, and there already
				f, err := openFile(dir, disk{step: func(o op) error {
					if o.call == "syncdir" && o.path == filepath.Dir(dir) {
						return cannot
					}
					return nil
				}})
				require.NoError(t, err)
				require.NoError(t, f.Close())
			}
		})
	}
}
