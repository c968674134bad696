//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package checkpoint

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// A process that is being started has every open file of this one, for a moment.
func TestCloseUnlocksAlsoWhileAProcessIsStarted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, err := OpenFile(dir)
	require.NoError(t, err)
	inherited, err := syscall.Dup(int(f.lock.Fd()))
	require.NoError(t, err)
	defer func() { require.NoError(t, syscall.Close(inherited)) }()
	require.NoError(t, f.Close())
	f, err = OpenFile(dir)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}
