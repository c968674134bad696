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

// wantGone sees that every method says that the directory is gone.
func wantGone(t *testing.T, f *File, why string) {
	t.Helper()
	for _, key := range []string{"orders", "never used"} {
		for method, err := range callAll(t, f, key) {
			require.ErrorIs(t, err, ErrGone, "%s: %s of %q", why, method, key)
			require.ErrorContains(t, err, f.dir)
			for _, other := range []error{ErrFenced, ErrNotFound} {
				require.NotErrorIs(t, err, other, "%s: %s of %q", why, method, key)
			}
		}
	}
	_, err := f.Forget(t.Context())
	require.ErrorIs(t, err, ErrGone, why)
}

// owned opens a store in dir in which the key "orders" has an owner.
func owned(t *testing.T, dir string) *File {
	t.Helper()
	f, err := OpenFile(dir)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	owner, err := f.Acquire(t.Context(), "orders")
	require.NoError(t, err)
	require.Equal(t, uint64(1), owner.Epoch)
	require.NoError(t, f.Commit(t.Context(), "orders", 1, Position{Seq: 1}))
	return f
}

// Invariant 24: two stores never have an owner with the same epoch each.
func TestADirectoryThatWasMovedAndMadeAnewIsGone(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "store")
	first := owned(t, dir)
	require.NoError(t, os.Rename(dir, dir+".old"))
	wantGone(t, first, "nothing is in its place")
	second := owned(t, dir)
	wantGone(t, first, "another store is in its place")
	r, err := second.Load(t.Context(), "orders")
	require.NoError(t, err)
	require.Equal(t, uint64(1), r.Position.Seq)

	require.NoError(t, os.Rename(dir, dir+".new"))
	require.NoError(t, os.Rename(dir+".old", dir))
	wantGone(t, second, "the first is back")
	require.NoError(t, first.Commit(t.Context(), "orders", 1, Position{Seq: 2}), "it is where it was")
}

func TestADirectoryThatWasRemovedIsGone(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "store")
	f := owned(t, dir)
	require.NoError(t, os.RemoveAll(dir))
	wantGone(t, f, "it was removed")
	require.NoDirExists(t, dir)
	require.NoError(t, os.Mkdir(dir, 0o700))
	wantGone(t, f, "it was made anew, by hand")
	require.NoError(t, os.WriteFile(filepath.Join(dir, lockName), nil, 0o600))
	wantGone(t, f, "with a lock file")
	require.NoError(t, os.RemoveAll(dir))
	require.NoError(t, os.WriteFile(dir, nil, 0o600))
	wantGone(t, f, "it is a file")
	require.NoError(t, os.Remove(dir))
	require.NoError(t, f.Close(), "the lock of a removed directory can be given back")
	require.Empty(t, callsThatAreNot(t, f, ErrClosed))
}

func TestADirectoryWhoseParentIsNoDirectoryIsGone(t *testing.T) {
	t.Parallel()
	parent := filepath.Join(t.TempDir(), "parent")
	require.NoError(t, os.Mkdir(parent, 0o700))
	f := owned(t, filepath.Join(parent, "store"))
	require.NoError(t, os.Rename(parent, parent+".old"))
	wantGone(t, f, "the parent was moved")
	require.NoError(t, os.WriteFile(parent, nil, 0o600))
	wantGone(t, f, "a file is in the parent's place")
}

func callsThatAreNot(t *testing.T, s Store, want error) (others []error) {
	t.Helper()
	for _, err := range callAll(t, s, "orders") {
		if !errors.Is(err, want) {
			others = append(others, err)
		}
	}
	return others
}

// Without its lock file a directory could be opened a second time.
func TestADirectoryWithoutItsLockFileIsGone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := owned(t, dir)
	require.NoError(t, os.Rename(filepath.Join(dir, lockName), filepath.Join(dir, "lock.old")))
	wantGone(t, first, "the lock file is gone")
	second, err := OpenFile(dir)
	require.NoError(t, err)
	defer second.Close()
	wantGone(t, first, "another store has the directory")
	r, err := second.Acquire(t.Context(), "orders")
	require.NoError(t, err)
	require.Equal(t, uint64(2), r.Epoch)
}

// A copy by hard links has the same lock file, and is another directory.
func TestACopyInPlaceOfADirectoryIsNotTheDirectory(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "store")
	f := owned(t, dir)
	require.NoError(t, os.Rename(dir, dir+".old"))
	require.NoError(t, os.Mkdir(dir, 0o700))
	for _, name := range []string{lockName, fileName("orders")} {
		require.NoError(t, os.Link(filepath.Join(dir+".old", name), filepath.Join(dir, name)))
	}
	wantGone(t, f, "a copy is in its place")
	_, err := OpenFile(dir)
	require.ErrorIs(t, err, ErrLocked)
}

func TestASymbolicLinkThatLeadsElsewhereIsGone(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	link := filepath.Join(base, "store")
	for _, name := range []string{"a", "b"} {
		require.NoError(t, os.Mkdir(filepath.Join(base, name), 0o700))
	}
	require.NoError(t, os.Symlink("a", link))
	f := owned(t, link)
	require.NoError(t, os.Rename(filepath.Join(base, "a"), filepath.Join(base, "c")))
	require.NoError(t, os.Remove(link))
	require.NoError(t, os.Symlink("b", link))
	wantGone(t, f, "the link leads to an empty directory")
	require.NoError(t, os.Remove(link))
	require.NoError(t, os.Symlink("c", link))
	require.NoError(t, f.Commit(t.Context(), "orders", 1, Position{Seq: 2}), "the link leads to it again")
}

// The directory may go while a call is at work. What the call finds then says nothing.
func TestADirectoryThatGoesDuringACallIsGone(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "store")
	moving := false
	f, err := openFile(dir, disk{step: func(op) error {
		if moving {
			moving = false
			return os.Rename(dir, dir+".old")
		}
		return nil
	}})
	require.NoError(t, err)
	defer f.Close()
	moving = true
	_, err = f.Acquire(t.Context(), "orders")
	require.ErrorIs(t, err, ErrGone)
	require.NoDirExists(t, dir)
}

// A directory may be moved between the opening of the lock file and the lock.
func TestADirectoryThatGoesDuringOpenFileIsGone(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "store")
	_, err := openFile(dir, disk{step: func(o op) error {
		if o.call == "lock" {
			return errors.Join(os.Rename(dir, dir+".old"), os.Mkdir(dir, 0o700))
		}
		return nil
	}})
	require.ErrorIs(t, err, ErrGone)
}

func TestWithExistingMakesNothing(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	dir := filepath.Join(base, "store")
	_, err := OpenFile(dir, WithExisting())
	require.ErrorIs(t, err, ErrNoStore)
	require.ErrorContains(t, err, dir)
	require.NoDirExists(t, dir)

	require.NoError(t, os.Mkdir(dir, 0o700)) // a mount point without its volume
	_, err = OpenFile(dir, WithExisting())
	require.ErrorIs(t, err, ErrNoStore)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries, "the next OpenFile would take it for a store")

	f := owned(t, dir)
	require.NoError(t, f.Close())
	f, err = OpenFile(dir, WithExisting())
	require.NoError(t, err)
	r, err := f.Load(t.Context(), "orders")
	require.NoError(t, err)
	require.Equal(t, uint64(1), r.Position.Seq)
	_, err = OpenFile(dir, WithExisting())
	require.ErrorIs(t, err, ErrLocked)
	require.NoError(t, f.Close())

	_, err = OpenFile(filepath.Join(dir, lockName), WithExisting())
	require.Error(t, err)
	require.NotErrorIs(t, err, ErrNoStore, "it is a file")
}

func TestTheZeroFileIsClosed(t *testing.T) {
	t.Parallel()
	var f File
	require.Empty(t, callsThatAreNot(t, &f, ErrClosed))
	_, err := f.Forget(t.Context())
	require.ErrorIs(t, err, ErrClosed)
	require.NoError(t, f.Close())
	require.NoError(t, f.Close())
}

// What goes wrong with a file names the file by its whole path.
func TestErrorsNameTheFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	broken := ""
	f, err := openFile(dir, disk{step: func(o op) error {
		if o.call == broken {
			return naming(o.call, o.path, fs.ErrInvalid)
		}
		return nil
	}})
	require.NoError(t, err)
	defer f.Close()
	name := strings.Repeat("n", 300) // too long for a file system
	_, _, err = f.disk.open(name)
	require.ErrorContains(t, err, filepath.Join(dir, name))
	require.ErrorContains(t, f.disk.create(name, nil), filepath.Join(dir, name))
	require.ErrorContains(t, f.disk.remove(name), filepath.Join(dir, name))
	_, err = f.Acquire(t.Context(), "orders")
	require.NoError(t, err)
	broken = "sync"
	require.ErrorContains(t, f.Commit(t.Context(), "orders", 1, Position{}), filepath.Join(dir, fileName("orders")))
	broken = ""
	file, _, err := f.disk.open(fileName("orders"))
	require.NoError(t, err)
	require.NoError(t, file.Close())
	for what, err := range map[string]error{
		"write": f.disk.write(file, []byte("b"), 0),
		"sync":  f.disk.sync(file),
		"close": f.disk.close(file),
	} {
		require.ErrorContains(t, err, filepath.Join(dir, fileName("orders")), what+" of a closed file")
	}
}
