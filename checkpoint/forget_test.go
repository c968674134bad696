package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func files(t *testing.T, f *File) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(f.dir)
	require.NoError(t, err)
	for _, entry := range entries {
		if entry.Name() != lockName {
			names = append(names, entry.Name())
		}
	}
	return names
}

func TestForgetRemovesTheFilesOfDeletedKeys(t *testing.T) {
	t.Parallel()
	f := open(t)
	n, err := f.Forget(t.Context())
	require.NoError(t, err)
	require.Zero(t, n)
	require.Empty(t, files(t, f), "nothing is made if there is nothing to forget")

	const deleted = 300 // more than are read from the directory at once
	for i := range deleted {
		key := fmt.Sprint("key ", i)
		_, err := f.Acquire(t.Context(), key)
		require.NoError(t, err)
		require.NoError(t, f.Delete(t.Context(), key))
	}
	_, err = f.Acquire(t.Context(), "orders")
	require.NoError(t, err)
	require.NoError(t, f.Commit(t.Context(), "orders", 1, Position{Seq: 7}))
	require.Len(t, files(t, f), deleted+1)

	n, err = f.Forget(t.Context())
	require.NoError(t, err)
	require.Equal(t, deleted, n)
	require.ElementsMatch(t, []string{fileName("orders"), floorName}, files(t, f))
	r, err := f.Load(t.Context(), "orders")
	require.NoError(t, err)
	require.Equal(t, uint64(7), r.Position.Seq, "a key that is not deleted stays")
	require.NoError(t, f.Commit(t.Context(), "orders", 1, Position{Seq: 8}), "and its owner, too")
	n, err = f.Forget(t.Context())
	require.NoError(t, err)
	require.Zero(t, n)
}

// Invariant 24: an owner from before the Delete stays fenced, also when the key and its epoch are forgotten.
func TestAForgottenKeyStaysFenced(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, err := OpenFile(dir)
	require.NoError(t, err)
	var late uint64
	for range 5 {
		owner, err := f.Acquire(t.Context(), "orders")
		require.NoError(t, err)
		late = owner.Epoch
	}
	_, err = f.Acquire(t.Context(), "payments")
	require.NoError(t, err)
	for _, key := range []string{"orders", "payments"} {
		require.NoError(t, f.Delete(t.Context(), key))
	}
	n, err := f.Forget(t.Context())
	require.NoError(t, err)
	require.Equal(t, 2, n)
	_, err = f.Load(t.Context(), "orders")
	require.ErrorIs(t, err, ErrNotFound)
	require.ErrorIs(t, f.Commit(t.Context(), "orders", late, Position{Seq: 1}), ErrFenced)
	require.NoError(t, f.Delete(t.Context(), "orders"))

	for range 2 { // in this process, and in the next
		owner, err := f.Acquire(t.Context(), "orders")
		require.NoError(t, err)
		require.Greater(t, owner.Epoch, late)
		require.Equal(t, Position{}, owner.Position)
		require.ErrorIs(t, f.Commit(t.Context(), "orders", late, Position{Seq: 1}), ErrFenced)
		late = owner.Epoch
		require.NoError(t, f.Delete(t.Context(), "orders"))
		_, err = f.Forget(t.Context())
		require.NoError(t, err)
		require.NoError(t, f.Close())
		f, err = OpenFile(dir)
		require.NoError(t, err)
	}
	require.NoError(t, f.Close())
}

// The floor is on the disk before anything is removed.
func TestForgetKeepsTheEpochBeforeItRemoves(t *testing.T) {
	t.Parallel()
	failure := errors.New("input/output error")
	for step := 1; ; step++ {
		dir, count := t.TempDir(), math.MinInt
		f, err := openFile(dir, disk{step: func(op) error {
			if count++; count == step {
				return failure
			}
			return nil
		}})
		require.NoError(t, err)
		_, err = f.Acquire(t.Context(), "orders")
		require.NoError(t, err)
		require.NoError(t, f.Delete(t.Context(), "orders"))
		count = 0
		_, err = f.Forget(t.Context())
		count = math.MinInt
		owner, acquireErr := f.Acquire(t.Context(), "orders")
		require.NoError(t, acquireErr)
		require.Equal(t, uint64(2), owner.Epoch, "step %d", step)
		require.NoError(t, f.Close())
		if err == nil {
			require.Greater(t, step, 8)
			return
		}
		require.ErrorIs(t, err, failure)
	}
}

func TestForgetLeavesWhatItCannotJudge(t *testing.T) {
	t.Parallel()
	f := open(t)
	last := sampleRecord()
	last.key, last.Epoch, last.deleted = "last", math.MaxUint64, true
	plant(t, f, "last", newFile(last))
	plant(t, f, "damaged", []byte("damaged"))
	require.NoError(t, os.WriteFile(filepath.Join(f.dir, "notes.txt"), nil, 0o600))
	_, err := f.Acquire(t.Context(), "older")
	require.NoError(t, err)
	require.NoError(t, f.Delete(t.Context(), "older"))
	older, err := os.ReadFile(filepath.Join(f.dir, fileName("older")))
	require.NoError(t, err)
	_, err = f.Acquire(t.Context(), "older")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(f.dir, fileName("older")), older, 0o600))

	_, err = f.Acquire(t.Context(), "orders")
	require.NoError(t, err)
	require.NoError(t, f.Delete(t.Context(), "orders"))
	before := files(t, f)

	done, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = f.Forget(done)
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, before, files(t, f))

	n, err := f.Forget(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.ElementsMatch(t, []string{fileName("last"), fileName("damaged"), fileName("older"), "notes.txt", floorName}, files(t, f))
	owner, err := f.Acquire(t.Context(), "new")
	require.NoError(t, err)
	require.Equal(t, uint64(2), owner.Epoch, "the last epoch was not forgotten, or no key could begin")
}

// A key that has no record could have any epoch if the floor is not known.
func TestADamagedFloorGivesOutNoEpoch(t *testing.T) {
	t.Parallel()
	f := open(t)
	for _, key := range []string{"orders", "payments"} {
		_, err := f.Acquire(t.Context(), key)
		require.NoError(t, err)
	}
	require.NoError(t, f.Delete(t.Context(), "orders"))
	_, err := f.Forget(t.Context())
	require.NoError(t, err)
	path := plant(t, f, "", []byte("damaged"))
	_, err = f.Acquire(t.Context(), "orders")
	damaged, ok := errors.AsType[*DamagedError](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, path, damaged.File)
	_, err = f.Acquire(t.Context(), "payments")
	require.NoError(t, err, "it has a record")
}
