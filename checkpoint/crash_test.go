package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The crash test runs the script below in a process of its own and kills that process, with a real kill -9, before its
// first system call that changes something, then before its second, and so on through the whole script. Each time the
// record has to be the one before the interrupted call or the one after it, and after it once the call has returned.

const (
	crashDirEnv  = "CHECKPOINT_CRASH_DIR"
	crashStepEnv = "CHECKPOINT_CRASH_STEP"
)

// crashScript is what the process does, and the record that each call leaves.
func crashScript() []struct {
	call  func(ctx context.Context, f *File) error
	after Record // Epoch 0: there is none
} {
	acquire := func(ctx context.Context, f *File) error {
		_, err := f.Acquire(ctx, "orders")
		return err
	}
	remove := func(ctx context.Context, f *File) error { return f.Delete(ctx, "orders") }
	commit := func(epoch uint64, p Position) func(ctx context.Context, f *File) error {
		return func(ctx context.Context, f *File) error { return f.Commit(ctx, "orders", epoch, p) }
	}
	small, large := Position{Seq: 1, Token: "t"}, Position{Lineage: "a", Seq: 2, Token: strings.Repeat("t", 20_000)}
	return []struct {
		call  func(ctx context.Context, f *File) error
		after Record
	}{
		{acquire, Record{Epoch: 1}},
		{commit(1, large), Record{Epoch: 1, Position: large}},
		{commit(1, small), Record{Epoch: 1, Position: small}},
		{acquire, Record{Epoch: 2, Position: small}},
		{commit(2, large), Record{Epoch: 2, Position: large}},
		{remove, Record{}},
		{acquire, Record{Epoch: 3}},
		{commit(3, small), Record{Epoch: 3, Position: small}},
	}
}

// tell writes a line to the process that looks on, at once.
func tell(words ...any) { _, _ = fmt.Fprintln(os.Stdout, words...) }

// TestCrashChild is the process that gets killed. It tells on its output what it has begun and what has returned.
func TestCrashChild(t *testing.T) { //nolint:paralleltest // skipped, or alone in its process
	dir := os.Getenv(crashDirEnv)
	if dir == "" {
		t.Skip("runs in a process of its own, for TestKillBetweenAnyTwoSystemCalls")
	}
	last, err := strconv.Atoi(os.Getenv(crashStepEnv))
	require.NoError(t, err)
	step := 0
	f, err := openFile(dir, disk{step: func(call, path string) error {
		if step++; step < last {
			return nil
		}
		if call == "write" { // it dies half-way through
			require.NoError(t, os.WriteFile(path, []byte("SSCP\x01\x00half"), 0o600))
		}
		tell("killed")
		self, err := os.FindProcess(os.Getpid())
		require.NoError(t, err)
		require.NoError(t, self.Kill())
		select {}
	}})
	require.NoError(t, err)
	for i, s := range crashScript() {
		tell("begun", i)
		require.NoError(t, s.call(t.Context(), f))
		tell("returned", i)
	}
	tell("finished")
}

func TestKillBetweenAnyTwoSystemCalls(t *testing.T) {
	t.Parallel()
	leftovers := 0
	for step := 1; ; step++ {
		dir := filepath.Join(t.TempDir(), "store")
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestCrashChild$")
		child.Env = append(os.Environ(), crashDirEnv+"="+dir, fmt.Sprintf("%s=%d", crashStepEnv, step))
		out, err := child.CombinedOutput()
		if strings.Contains(string(out), "finished\n") {
			require.NoError(t, err)
			require.Greater(t, step, 40, "steps that it was killed at")
			require.NotZero(t, leftovers, "steps that left a file behind")
			return
		}
		require.True(t, strings.HasSuffix(string(out), "killed\n"), "step %d: %v\n%s", step, err, out)
		if temps, _ := filepath.Glob(filepath.Join(dir, "*"+tempExt)); len(temps) > 0 {
			leftovers++
		}
		checkAfterCrash(t, dir, string(out), step)
	}
}

func checkAfterCrash(t *testing.T, dir, out string, step int) {
	t.Helper()
	script := crashScript()
	var before, after Record
	var highest uint64 // the last epoch that was given out
	for i, s := range script {
		if strings.Contains(out, fmt.Sprintln("begun", i)) {
			after = s.after
		}
		if strings.Contains(out, fmt.Sprintln("returned", i)) {
			before = s.after
			highest = max(highest, before.Epoch)
		}
	}

	f, err := OpenFile(dir)
	require.NoError(t, err, "step %d: the directory opens at once, its owner is dead", step)
	defer f.Close()
	temps, err := filepath.Glob(filepath.Join(dir, "*"+tempExt))
	require.NoError(t, err)
	require.Empty(t, temps, "step %d: what was left behind is cleaned up", step)

	r, err := f.Load(t.Context(), "orders")
	if !errors.Is(err, ErrNotFound) {
		require.NoError(t, err, "step %d", step)
	}
	r.UpdatedAt = before.UpdatedAt
	require.Contains(t, []Record{before, after}, r, "step %d: the record from before the call or from after it\n%s", step, out)

	owner, err := f.Acquire(t.Context(), "orders")
	require.NoError(t, err)
	require.Greater(t, owner.Epoch, highest, "step %d: invariant 24: an epoch is never given out twice", step)
	require.NoError(t, f.Commit(t.Context(), "orders", owner.Epoch, Position{Lineage: "new", Seq: 1}))
}

// A failed system call leaves the record as it was or changed in full, and to repeat the call is safe.
func TestAnySystemCallMayFail(t *testing.T) {
	t.Parallel()
	failure := errors.New("the disk is broken")
	for step := 1; ; step++ {
		var failed bool
		count := 0
		d := disk{step: func(string, string) error {
			if count++; count == step {
				failed = true
				return failure
			}
			return nil
		}}
		dir := filepath.Join(t.TempDir(), "store")
		f, err := openFile(dir, d)
		if failed {
			require.ErrorIs(t, err, failure, "step %d: opening", step)
			f, err = OpenFile(dir)
			require.NoError(t, err, "step %d: a failed open holds no lock", step)
		}
		require.NoError(t, err)
		runWithFailure(t, f, failure)
		require.NoError(t, f.Close())
		if !failed {
			require.Greater(t, step, 20, "steps that failed")
			return
		}
	}
}

func runWithFailure(t *testing.T, f *File, failure error) {
	t.Helper()
	var before Record
	for seq := range uint64(3) {
		owner, err := f.Acquire(t.Context(), "orders")
		if err != nil {
			wantCleanFailure(t, f, err, failure)
			owner, err = f.Acquire(t.Context(), "orders")
		}
		require.NoError(t, err)
		require.Equal(t, before.Position, owner.Position)
		require.Greater(t, owner.Epoch, before.Epoch, "invariant 24: an epoch is never given out twice")

		to := Position{Seq: seq + 1}
		err = f.Commit(t.Context(), "orders", owner.Epoch, to)
		if err != nil {
			wantCleanFailure(t, f, err, failure)
			r, err := f.Load(t.Context(), "orders")
			require.NoError(t, err)
			require.Contains(t, []Position{before.Position, to}, r.Position)
			require.NoError(t, f.Commit(t.Context(), "orders", owner.Epoch, to))
		}
		before = Record{Epoch: owner.Epoch, Position: to}
	}
}

func wantCleanFailure(t *testing.T, f *File, err, failure error) {
	t.Helper()
	require.ErrorIs(t, err, failure)
	temps, err := filepath.Glob(filepath.Join(f.dir, "*"+tempExt))
	require.NoError(t, err)
	require.Empty(t, temps, "a failed write leaves nothing behind")
}

// A kill does not show what a machine without power would lose. The order of the system calls does: the bytes are on
// the disk before the rename, and the rename before the call returns.
func TestNothingReturnsBeforeItIsOnTheDisk(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "store")
	record := filepath.Join(dir, fileName("orders"))
	var calls []string
	f, err := openFile(dir, disk{step: func(call, path string) error {
		calls = append(calls, call+" "+path)
		return nil
	}})
	require.NoError(t, err)
	defer f.Close()
	require.Equal(t, []string{
		"mkdir " + dir, "syncdir " + filepath.Dir(dir),
		"open " + filepath.Join(dir, lockName), "lock " + filepath.Join(dir, lockName),
	}, calls)

	temp := record + tempExt
	written := []string{
		"create " + temp, "write " + temp, "sync " + temp, "close " + temp, "rename " + record, "syncdir " + dir,
	}
	for _, c := range []struct {
		name string
		run  func() error
	}{
		{"Acquire", func() error { _, err := f.Acquire(t.Context(), "orders"); return err }},
		{"Commit", func() error { return f.Commit(t.Context(), "orders", 1, Position{Seq: 1}) }},
		{"Delete", func() error { return f.Delete(t.Context(), "orders") }},
		{"Delete again", func() error { return f.Delete(t.Context(), "orders") }},
	} {
		calls = nil
		require.NoError(t, c.run(), c.name)
		require.Equal(t, written, calls, c.name)
	}
}
