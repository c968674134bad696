package checkpoint

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// wantDamaged writes content in place of a record and sees that every method refuses it by name and leaves it alone.
func wantDamaged(t *testing.T, f *File, key string, content []byte, what string) {
	t.Helper()
	path := filepath.Join(f.dir, fileName(key))
	require.NoError(t, os.WriteFile(path, content, 0o600))
	_, acquireErr := f.Acquire(t.Context(), key)
	_, loadErr := f.Load(t.Context(), key)
	for method, err := range map[string]error{
		"Acquire": acquireErr,
		"Load":    loadErr,
		"Commit":  f.Commit(t.Context(), key, 3, Position{Seq: 8}),
		"Delete":  f.Delete(t.Context(), key),
	} {
		damaged, ok := errors.AsType[*DamagedError](err)
		require.True(t, ok, "%s of %s: %v", method, what, err)
		require.Equal(t, path, damaged.File)
		require.ErrorContains(t, err, path)
	}
	left, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, content, left, "a damaged record is never overwritten")
}

func open(t *testing.T) *File {
	t.Helper()
	f, err := OpenFile(t.TempDir())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	return f
}

func TestEveryFlippedBitIsFound(t *testing.T) {
	t.Parallel()
	f := open(t)
	for i := range sample() {
		for bit := range 8 {
			b := sample()
			b[i] ^= 1 << bit
			wantDamaged(t, f, "orders", b, "a record with a flipped bit")
		}
	}
}

func TestEveryTruncationIsFound(t *testing.T) {
	t.Parallel()
	f := open(t)
	for size := range sample() {
		wantDamaged(t, f, "orders", sample()[:size], "a truncated record")
	}
	wantDamaged(t, f, "orders", append(sample(), 0), "a record with a byte too many")
	wantDamaged(t, f, "orders", append(sample(), sample()...), "two records")
}

func TestARecordOfAnotherKeyIsDamage(t *testing.T) {
	t.Parallel()
	wantDamaged(t, open(t), "payments", sample(), "a record of another key")
}

func TestARestoredRecordIsUsed(t *testing.T) {
	t.Parallel()
	f := open(t)
	wantDamaged(t, f, "orders", sample()[1:], "a damaged record")
	require.NoError(t, os.WriteFile(filepath.Join(f.dir, fileName("orders")), sample(), 0o600))
	r, err := f.Acquire(t.Context(), "orders")
	require.NoError(t, err)
	require.Equal(t, uint64(4), r.Epoch)
	require.Equal(t, Position{Lineage: "a", Seq: 7, Token: "token"}, r.Position)
}

// The size of a file does not decide how much memory is taken: this one would not fit.
func TestAHugeFileIsNotRead(t *testing.T) {
	t.Parallel()
	f := open(t)
	path := filepath.Join(f.dir, fileName("orders"))
	require.NoError(t, os.WriteFile(path, sample(), 0o600))
	require.NoError(t, os.Truncate(path, 1<<40)) // a hole
	b, err := f.disk.read(path, maxRecordSize)
	require.NoError(t, err)
	require.Len(t, b, maxRecordSize+1, "enough to see that it is too long")
	_, err = f.Acquire(t.Context(), "orders")
	damaged, ok := errors.AsType[*DamagedError](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, path, damaged.File)
}

// What cannot be read is not the same as what is not there.
func TestAFileThatCannotBeReadIsAnError(t *testing.T) {
	t.Parallel()
	f := open(t)
	require.NoError(t, os.Mkdir(filepath.Join(f.dir, fileName("orders")), 0o700))
	_, err := f.Load(t.Context(), "orders")
	require.Error(t, err)
	require.NotErrorIs(t, err, ErrNotFound)
	_, err = f.Acquire(t.Context(), "orders")
	require.Error(t, err)
}
