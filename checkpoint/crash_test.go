package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
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

type scripted struct {
	call  func(ctx context.Context, f *File) error
	after Record // Epoch 0: there is none
}

// crashScript is what the process does, and the record that each call leaves.
func crashScript() []scripted {
	acquire := func(ctx context.Context, f *File) error {
		_, err := f.Acquire(ctx, "orders")
		return err
	}
	remove := func(ctx context.Context, f *File) error { return f.Delete(ctx, "orders") }
	forget := func(ctx context.Context, f *File) error {
		_, err := f.Forget(ctx)
		return err
	}
	commit := func(epoch uint64, p Position) func(ctx context.Context, f *File) error {
		return func(ctx context.Context, f *File) error { return f.Commit(ctx, "orders", epoch, p) }
	}
	small, large := Position{Seq: 1, Token: "t"}, Position{Lineage: "a", Seq: 2, Token: strings.Repeat("t", 20_000)}
	return []scripted{
		{acquire, Record{Epoch: 1}},
		{commit(1, large), Record{Epoch: 1, Position: large}},
		{commit(1, small), Record{Epoch: 1, Position: small}},
		{acquire, Record{Epoch: 2, Position: small}},
		{commit(2, large), Record{Epoch: 2, Position: large}},
		{remove, Record{}},
		{acquire, Record{Epoch: 3}},
		{commit(3, small), Record{Epoch: 3, Position: small}},
		{remove, Record{}},
		{forget, Record{}},
		{acquire, Record{Epoch: 4}},
		{commit(4, small), Record{Epoch: 4, Position: small}},
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
	f, err := openFile(dir, disk{step: func(o op) error {
		if step++; step < last {
			return nil
		}
		if o.call == "write" { // it dies half-way through
			_, err := o.file.WriteAt(o.data[:len(o.data)/2], o.at)
			require.NoError(t, err)
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

// Invariant 54: a failed system call leaves the record as it was or changed in full, and to repeat the call is safe.
func TestAnySystemCallMayFail(t *testing.T) {
	t.Parallel()
	failure := errors.New("the disk is broken")
	for step := 1; ; step++ {
		var failed bool
		count := 0
		d := disk{step: func(op) error {
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
			require.NoError(t, f.Commit(t.Context(), "orders", owner.Epoch, to), "its own position again")
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

// The order of the system calls is what makes a record durable: the new one is on the disk before the older one is marked
// past, and before the call returns. powerloss_test.go shows why it has to be this order.
func TestNothingReturnsBeforeItIsOnTheDisk(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "store")
	lock, record := filepath.Join(dir, lockName), filepath.Join(dir, fileName("orders"))
	random := regexp.MustCompile(`\.[A-Z2-7]{26}\.tmp$`)
	var calls []string
	f, err := openFile(dir, disk{step: func(o op) error {
		calls = append(calls, o.call+" "+random.ReplaceAllString(o.path, ".tmp"))
		if o.call == "write" {
			calls[len(calls)-1] += fmt.Sprintf(" %d bytes at %d", len(o.data), o.at)
		}
		return nil
	}})
	require.NoError(t, err)
	defer f.Close()
	require.Equal(t, []string{
		"mkdir " + dir, "create " + lock, "lock " + lock, "syncdir " + filepath.Dir(dir),
	}, calls)

	created := func(size int) []string {
		temp := record + tempExt
		return []string{
			"open " + record, "create " + temp, fmt.Sprintf("write %s %d bytes at 0", temp, size), "sync " + temp, "close " + temp,
			"rename " + record, "syncdir " + dir,
		}
	}
	overwritten := func(size, at, other int) []string {
		return []string{
			"open " + record, fmt.Sprintf("write %s %d bytes at %d", record, size, at), "sync " + record,
			fmt.Sprintf("write %s 1 bytes at %d", record, other+markAt),
		}
	}
	const size = fixedSize + len("orders")
	commit := func(p Position) func() error {
		return func() error { return f.Commit(t.Context(), "orders", 1, p) }
	}
	for _, c := range []struct {
		name string
		run  func() error
		want []string
	}{
		{"Acquire", func() error { _, err := f.Acquire(t.Context(), "orders"); return err }, created(8192)[1:]},
		{"Load", func() error { _, err := f.Load(t.Context(), "orders"); return err }, []string{"open " + record}},
		{"Commit", commit(Position{Seq: 1}), overwritten(size, 4096, 0)},
		{"the next Commit", commit(Position{Seq: 2}), overwritten(size, 0, 4096)},
		{"a large one", commit(Position{Seq: 3, Token: strings.Repeat("t", 4096)}), created(16384)},
		{"a small one again", commit(Position{Seq: 4}), overwritten(size, 8192, 0)},
		{"one that is refused", func() error {
			require.ErrorIs(t, f.Commit(t.Context(), "orders", 1, Position{Seq: 1}), ErrRegression)
			return nil
		}, []string{"open " + record}},
		{"Delete", func() error { return f.Delete(t.Context(), "orders") }, created(8192)},
		{"Delete again", func() error { return f.Delete(t.Context(), "orders") }, []string{"open " + record}},
	} {
		calls = nil
		require.NoError(t, c.run(), c.name)
		require.Equal(t, c.want, calls, c.name)
	}
}
