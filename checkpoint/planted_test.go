package checkpoint

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Nobody gets this package to write to a file of theirs, or to follow a link out of the directory.
func TestPlantedLinksAreNotFollowed(t *testing.T) {
	t.Parallel()
	outside := filepath.Join(t.TempDir(), "outside")
	victim := newFile(sampleRecord())
	require.NoError(t, os.WriteFile(outside, victim, 0o600))

	dir := t.TempDir()
	record := filepath.Join(dir, fileName("orders"))
	for _, temp := range []string{record + tempExt, record + ".0123456789ABCDEFGHIJKLMNOP" + tempExt} {
		require.NoError(t, os.Symlink(outside, temp))
	}
	f := owned(t, dir)
	require.NoError(t, f.Delete(t.Context(), "orders"))

	clear(f.lane(fileName("orders")).known)
	for _, target := range []string{outside, "missing", fileName("other"), "."} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, fileName("other")), victim, 0o600))
		require.NoError(t, os.Remove(record))
		require.NoError(t, os.Symlink(target, record))
		for method, err := range callAll(t, f, "orders") {
			damaged, ok := errors.AsType[*DamagedError](err)
			require.True(t, ok, "%s with a link to %s: %v", method, target, err)
			require.Equal(t, record, damaged.File)
		}
	}
	require.NoError(t, f.Close())

	require.NoError(t, os.Remove(filepath.Join(dir, lockName)))
	require.NoError(t, os.Symlink(outside, filepath.Join(dir, lockName)))
	_, err := OpenFile(dir)
	require.ErrorContains(t, err, filepath.Join(dir, lockName)+": "+errNotRegular.Error())
	b, err := os.ReadFile(outside)
	require.NoError(t, err)
	require.Equal(t, string(victim), string(b))
}

// Somebody may put a link in the place of a file just before it is opened.
func TestALinkPutInPlaceOfAFileIsNotFollowed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	record := filepath.Join(dir, fileName("orders"))
	planting := false
	f, err := openFile(dir, disk{step: func(o op) error {
		if o.call != "open" || !planting {
			return nil
		}
		return errors.Join(os.Remove(o.path), os.Symlink(fileName("payments"), o.path))
	}})
	require.NoError(t, err)
	defer f.Close()
	for _, key := range []string{"orders", "payments"} {
		_, err = f.Acquire(t.Context(), key)
		require.NoError(t, err)
	}
	for method, call := range map[string]func() error{
		"Commit": func() error { return f.Commit(t.Context(), "orders", 1, Position{Seq: 1}) },
		"Load":   func() error { _, err := f.Load(t.Context(), "orders"); return err },
	} {
		require.NoError(t, os.Link(record, record+".kept"))
		planting = true
		require.ErrorContains(t, call(), errNotRegular.Error(), method)
		planting = false
		require.NoError(t, os.Rename(record+".kept", record))
	}
}

// The name of a new file cannot be guessed. If it were, what is planted there would not be written to either.
func TestANewFileIsNew(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var plant func(path string) error
	f, err := openFile(dir, disk{step: func(o op) error {
		if o.call == "create" && plant != nil {
			return plant(o.path)
		}
		return nil
	}})
	require.NoError(t, err)
	defer f.Close()
	_, err = f.Acquire(t.Context(), "payments")
	require.NoError(t, err)
	victim := filepath.Join(dir, fileName("payments"))
	before, err := os.ReadFile(victim)
	require.NoError(t, err)
	for what, p := range map[string]func(path string) error{
		"a symbolic link": func(path string) error { return os.Symlink(fileName("payments"), path) },
		"a hard link":     func(path string) error { return os.Link(victim, path) },
		"a file":          func(path string) error { return os.WriteFile(path, nil, 0o600) },
	} {
		plant = p
		_, err = f.Acquire(t.Context(), "orders")
		require.ErrorIs(t, err, fs.ErrExist, what)
		after, err := os.ReadFile(victim)
		require.NoError(t, err)
		require.Equal(t, string(before), string(after), what)
	}
	plant = nil
	r, err := f.Acquire(t.Context(), "orders")
	require.NoError(t, err)
	require.Equal(t, uint64(1), r.Epoch)
}

func TestALinkPutInPlaceOfTheLockFileIsNotFollowed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := openFile(dir, disk{step: func(o op) error {
		if o.call == "create" {
			return os.Symlink("elsewhere", o.path)
		}
		return nil
	}})
	require.ErrorContains(t, err, filepath.Join(dir, lockName)+": "+errNotRegular.Error())
	require.NoFileExists(t, filepath.Join(dir, "elsewhere"))

	dir = t.TempDir()
	f, err := openFile(dir, disk{step: func(o op) error {
		if o.call == "create" && filepath.Base(o.path) == lockName {
			return os.WriteFile(o.path, nil, 0o600)
		}
		return nil
	}})
	require.NoError(t, err, "another process was faster to make it, and has not locked it")
	require.NoError(t, f.Close())
}

// A copy of a store by hard links is a copy. A call on the one changes nothing in the other.
func TestAHardLinkIsNotWrittenThrough(t *testing.T) {
	t.Parallel()
	dir, backup := t.TempDir(), t.TempDir()
	f := owned(t, dir)
	name := fileName("orders")
	before, err := os.ReadFile(filepath.Join(dir, name))
	require.NoError(t, err)
	require.NoError(t, os.Link(filepath.Join(dir, name), filepath.Join(backup, name)))
	for seq := range uint64(3) {
		require.NoError(t, f.Commit(t.Context(), "orders", 1, Position{Seq: seq + 1}))
	}
	after, err := os.ReadFile(filepath.Join(backup, name))
	require.NoError(t, err)
	require.Equal(t, string(before), string(after))
	require.NoError(t, f.Close())
	r, err := reopen(t, backup).Load(t.Context(), "orders")
	require.NoError(t, err)
	require.Equal(t, uint64(1), r.Position.Seq)
}

func reopen(t *testing.T, dir string) *File {
	t.Helper()
	f, err := OpenFile(dir)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	return f
}

// Whatever has the name of a file that was never finished: the store opens, and works.
func TestPlantedDirectoriesAreNotInTheWay(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	record := filepath.Join(dir, fileName("orders"))
	for _, temp := range []string{record + tempExt, record + ".0123456789ABCDEFGHIJKLMNOP" + tempExt} {
		require.NoError(t, os.MkdirAll(filepath.Join(temp, "full"), 0o700))
	}
	f := owned(t, dir)
	require.NoError(t, f.Commit(t.Context(), "orders", 1, Position{Seq: 2, Token: strings.Repeat("t", 5000)}))
	_, err := f.Forget(t.Context())
	require.NoError(t, err)
	require.NoError(t, os.Mkdir(filepath.Join(dir, fileName("other")), 0o700))
	for method, err := range callAll(t, f, "other") {
		require.ErrorContains(t, err, filepath.Join(dir, fileName("other")), method)
		require.NotErrorIs(t, err, ErrNotFound)
	}
}
