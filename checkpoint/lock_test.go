package checkpoint

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

const lockDirEnv = "CHECKPOINT_LOCK_DIR"

// TestLockChild is the process that owns the directory until it is killed.
func TestLockChild(t *testing.T) { //nolint:paralleltest // skipped, or alone in its process
	dir := os.Getenv(lockDirEnv)
	if dir == "" {
		t.Skip("runs in a process of its own, for TestADirectoryHasOneProcess")
	}
	_, err := OpenFile(dir)
	require.NoError(t, err)
	tell("owned")
	_, _ = io.ReadAll(os.Stdin) // until it is killed
}

func TestADirectoryHasOneProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestLockChild$")
	child.Env = append(os.Environ(), lockDirEnv+"="+dir)
	in, err := child.StdinPipe()
	require.NoError(t, err)
	defer in.Close()
	out, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "owned\n", line)

	_, err = OpenFile(dir)
	require.ErrorIs(t, err, ErrLocked)
	require.ErrorContains(t, err, dir)

	require.NoError(t, child.Process.Kill())
	require.Error(t, child.Wait())
	f, err := OpenFile(dir)
	require.NoError(t, err, "a killed owner holds nothing")
	require.NoError(t, f.Close())
}

func TestADirectoryHasOneStoreInAProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, err := OpenFile(dir)
	require.NoError(t, err)
	_, err = OpenFile(dir)
	require.ErrorIs(t, err, ErrLocked)
	link := filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink(dir, link))
	_, err = OpenFile(link)
	require.ErrorIs(t, err, ErrLocked, "by another name")
	require.NoError(t, first.Close())

	second, err := OpenFile(dir)
	require.NoError(t, err)
	require.NoError(t, first.Close(), "a second Close takes nothing from the store that came after")
	_, err = OpenFile(dir)
	require.ErrorIs(t, err, ErrLocked)
	require.NoError(t, second.Close())
}

func TestAnOpenThatFailsHoldsNoLock(t *testing.T) {
	t.Parallel()
	dir, failure := t.TempDir(), errors.New("the disk is broken")
	_, err := openFile(dir, disk{step: func(o op) error {
		if o.call == "syncdir" {
			return failure
		}
		return nil
	}})
	require.ErrorIs(t, err, failure)
	f, err := OpenFile(dir)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}
