//go:build unix

package checkpoint

import (
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// within fails the test if f takes longer than anything here does that does not wait for ever.
func within(t *testing.T, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { // until f returns; awaited below
		defer close(done)
		f()
	}()
	limit := time.NewTimer(20 * time.Second)
	defer limit.Stop()
	select {
	case <-done:
	case <-limit.C:
		t.Fatal("it still waits")
	}
}

// To open a pipe waits for its other end, which nobody opens.
func TestAPipeIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	record := filepath.Join(dir, fileName("orders"))
	for _, name := range []string{record + tempExt, record + ".0123456789ABCDEFGHIJKLMNOP" + tempExt, filepath.Join(dir, fileName("pipe"))} {
		require.NoError(t, syscall.Mkfifo(name, 0o600))
	}
	var f *File
	within(t, func() { f = owned(t, dir) })
	within(t, func() {
		for method, err := range callAll(t, f, "pipe") {
			require.ErrorContains(t, err, filepath.Join(dir, fileName("pipe")), method)
		}
		_, err := f.Forget(t.Context())
		require.NoError(t, err)
	})
	require.NoError(t, f.Close())

	lock := filepath.Join(dir, lockName)
	require.NoError(t, syscall.Unlink(lock))
	require.NoError(t, syscall.Mkfifo(lock, 0o600))
	for _, dir := range []string{dir, lock} {
		within(t, func() {
			_, err := OpenFile(dir)
			require.ErrorContains(t, err, lock)
			_, err = OpenFile(dir, WithExisting())
			require.ErrorContains(t, err, lock)
			require.NotErrorIs(t, err, ErrNoStore)
		})
	}
}
