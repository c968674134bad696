package checkpoint_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/checkpoint"
)

func TestFileKeepsItsRecordsWhenOpenedAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, err := checkpoint.OpenFile(dir)
	require.NoError(t, err)
	_, err = checkpoint.OpenFile(dir)
	require.ErrorIs(t, err, checkpoint.ErrLocked, "a directory has one owner, also within a process")
	r, err := f.Acquire(t.Context(), "orders")
	require.NoError(t, err)
	require.NoError(t, f.Commit(t.Context(), "orders", r.Epoch, checkpoint.Position{Seq: 7, Token: "t7"}))
	require.NoError(t, f.Close())
	require.NoError(t, f.Close())
	require.ErrorIs(t, f.Delete(t.Context(), "orders"), checkpoint.ErrClosed)

	f, err = checkpoint.OpenFile(dir)
	require.NoError(t, err)
	defer f.Close()
	r, err = f.Acquire(t.Context(), "orders")
	require.NoError(t, err)
	require.Equal(t, uint64(2), r.Epoch)
	require.Equal(t, checkpoint.Position{Seq: 7, Token: "t7"}, r.Position)
}
