package checkpoint

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

func TestOpenFileMakesTheDirectoryAndNotItsParents(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "store")
	_, err := OpenFile(filepath.Join(dir, "below"))
	require.ErrorIs(t, err, fs.ErrNotExist)
	f, err := OpenFile(dir)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	_, err = OpenFile(filepath.Join(dir, lockName))
	require.Error(t, err, "it is a file")
}

func TestOpenFileRemovesLeftoversOnly(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	others := filepath.Join(dir, "notes.tmp")
	left := filepath.Join(dir, fileName("orders")+".0123456789ABCDEFGHIJKLMNOP"+tempExt)
	for _, path := range []string{others, left} {
		require.NoError(t, os.WriteFile(path, []byte("half a rec"), 0o600))
	}
	f, err := OpenFile(dir)
	require.NoError(t, err)
	defer f.Close()
	require.FileExists(t, others)
	require.NoFileExists(t, left)
	_, err = f.Load(t.Context(), "orders")
	require.ErrorIs(t, err, ErrNotFound, "a record that was never finished is none")
}

func TestAClosedFileRefusesEverything(t *testing.T) {
	t.Parallel()
	f := open(t)
	require.NoError(t, f.Close())
	_, err := f.Acquire(t.Context(), "orders")
	require.ErrorIs(t, err, ErrClosed)
	_, err = f.Load(t.Context(), "orders")
	require.ErrorIs(t, err, ErrClosed)
	require.ErrorIs(t, f.Commit(t.Context(), "orders", 1, Position{}), ErrClosed)
	require.ErrorIs(t, f.Delete(t.Context(), "orders"), ErrClosed)
}

// slow opens a store whose disk stops at the sync of a file, while stopped is set, until released.
func slow(t *testing.T, dir string) (f *File, stopped *atomic.Bool, release func()) {
	t.Helper()
	stopped, gate := new(atomic.Bool), make(chan struct{})
	f, err := openFile(dir, disk{step: func(o op) error {
		if o.call == "sync" && stopped.Load() {
			<-gate
		}
		return nil
	}})
	require.NoError(t, err)
	return f, stopped, func() { close(gate) }
}

func TestACallThatWaitsForItsKeyCanBeCancelled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		f, stopped, release := slow(t, dir)
		_, err := f.Acquire(t.Context(), "orders")
		require.NoError(t, err)
		stopped.Store(true)
		first := make(chan error, 1)
		go func() { first <- f.Commit(t.Context(), "orders", 1, Position{Seq: 1}) }() // until released; awaited below
		synctest.Wait()

		ctx, cancel := context.WithCancel(t.Context())
		second := make(chan error, 1)
		go func() { second <- f.Commit(ctx, "orders", 1, Position{Seq: 2}) }() // until cancelled; awaited below
		synctest.Wait()
		require.Empty(t, second, "one call at a time works on a key")
		cancel()
		require.ErrorIs(t, <-second, context.Canceled)
		release()
		require.NoError(t, <-first)

		r, err := f.Load(t.Context(), "orders")
		require.NoError(t, err)
		require.Equal(t, uint64(1), r.Position.Seq, "the cancelled call changed nothing")
		require.NoError(t, f.Close())
	})
}

// lateContext is done, but whoever asks first is told that it is not: it ends between a check and a wait.
type lateContext struct {
	context.Context
	asked bool
}

func (c *lateContext) Err() error {
	if !c.asked {
		c.asked = true
		return nil
	}
	return c.Context.Err()
}

func TestAContextThatEndsWhileWaitingChangesNothing(t *testing.T) {
	t.Parallel()
	f := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100 { // select takes either
		_, err := f.Acquire(&lateContext{Context: ctx}, "orders")
		require.ErrorIs(t, err, context.Canceled)
	}
	_, err := f.Load(t.Context(), "orders")
	require.ErrorIs(t, err, ErrNotFound)
}

func TestKeysDoNotWaitForEachOther(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		f, stopped, release := slow(t, dir)
		_, err := f.Acquire(t.Context(), "orders")
		require.NoError(t, err)
		stopped.Store(true)
		first := make(chan error, 1)
		go func() { first <- f.Commit(t.Context(), "orders", 1, Position{Seq: 1}) }() // until released; awaited below
		synctest.Wait()

		stopped.Store(false)
		_, err = f.Acquire(t.Context(), "payments")
		require.NoError(t, err)
		require.Empty(t, first)
		release()
		require.NoError(t, <-first)
		require.NoError(t, f.Close())
	})
}

func TestCloseWaitsForCallsInProgress(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		f, stopped, release := slow(t, dir)
		_, err := f.Acquire(t.Context(), "orders")
		require.NoError(t, err)
		stopped.Store(true)
		first, closed := make(chan error, 1), make(chan error, 2)
		go func() { first <- f.Commit(t.Context(), "orders", 1, Position{Seq: 1}) }() // until released; awaited below
		synctest.Wait()
		for range 2 {
			go func() { closed <- f.Close() }() // until the commit has returned; awaited below
		}
		synctest.Wait()
		require.Empty(t, closed, "a call is in progress")
		_, err = f.Load(t.Context(), "payments")
		require.ErrorIs(t, err, ErrClosed, "no call begins any more")
		_, err = OpenFile(dir)
		require.ErrorIs(t, err, ErrLocked, "the directory is in use until Close returns")

		release()
		require.NoError(t, <-first, "a call in progress runs to its end")
		require.NoError(t, <-closed)
		require.NoError(t, <-closed)
		f, err = OpenFile(dir)
		require.NoError(t, err)
		r, err := f.Load(t.Context(), "orders")
		require.NoError(t, err)
		require.Equal(t, uint64(1), r.Position.Seq)
		require.NoError(t, f.Close())
	})
}

func TestOpenFileWithoutADirectory(t *testing.T) {
	t.Parallel()
	_, err := OpenFile("")
	if err == nil || err.Error() != "checkpoint: open: no directory is given" {
		t.Errorf("OpenFile of no directory: %v", err)
	}
}

// A position may hold what is secret. A deleted key holds it no more, and takes the least room.
func TestDeleteLeavesNothingOfThePosition(t *testing.T) {
	t.Parallel()
	f := open(t)
	_, err := f.Acquire(t.Context(), "orders")
	require.NoError(t, err)
	for _, size := range []int{1, 500} {
		token := strings.Repeat("secret", size)
		require.NoError(t, f.Commit(t.Context(), "orders", 1, Position{Token: token}))
		require.NoError(t, f.Commit(t.Context(), "orders", 1, Position{Token: token}))
	}
	require.NoError(t, f.Delete(t.Context(), "orders"))
	b, err := os.ReadFile(filepath.Join(f.dir, fileName("orders")))
	require.NoError(t, err)
	require.Len(t, b, 2*slotUnit)
	require.NotContains(t, string(b), "secret")
}

// What a store keeps in memory is bounded, however many keys it has.
func TestWhatAFileKnowsIsBounded(t *testing.T) {
	t.Parallel()
	var l lane
	for n := range 20 * maxKnown {
		name := strconv.Itoa(n)
		l.knows(name, 7)
		l.knows(name, 8)
		require.Equal(t, uint64(8), l.known[name])
		require.Equal(t, min(n+1, maxKnown), len(l.known))
	}
}

// A key that was dropped from memory is as it was.
func TestAFileThatIsNotKnownAnyMoreIsUsed(t *testing.T) {
	t.Parallel()
	f := open(t)
	_, err := f.Acquire(t.Context(), "orders")
	require.NoError(t, err)
	for seq := range uint64(3) {
		clear(f.lane(fileName("orders")).known)
		require.NoError(t, f.Commit(t.Context(), "orders", 1, Position{Seq: seq + 1}))
	}
	r, err := f.Load(t.Context(), "orders")
	require.NoError(t, err)
	require.Equal(t, uint64(3), r.Position.Seq)
}
