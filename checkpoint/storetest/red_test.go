package storetest

import (
	"errors"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/streamsafe/streamsafe/checkpoint"
)

// The suite has to go red. Each broken store runs it in a process of its own, and the cases named beside the store have
// to fail there.

const brokenEnv = "STORETEST_BROKEN"

func TestBrokenStoresFail(t *testing.T) {
	t.Parallel()
	for name, broken := range brokenStores() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantRed(t, "TestInChild", name, broken.red)
		})
	}
	for name, broken := range brokenDurable() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantRed(t, "TestDurableInChild", name, broken.red)
		})
	}
}

// A case that no broken store fails would be a case that cannot fail.
func TestEveryCaseHasABrokenStore(t *testing.T) {
	t.Parallel()
	red := make(map[string]bool)
	for _, broken := range brokenStores() {
		for _, name := range broken.red {
			red[name] = true
		}
	}
	if got, want := slices.Sorted(maps.Keys(red)), slices.Sorted(slices.Values(caseNames(cases()))); !slices.Equal(got, want) {
		t.Errorf("the broken stores fail %q, the cases are %q", got, want)
	}
}

func TestInChild(t *testing.T) { //nolint:paralleltest // skipped, or alone in its process
	broken, ok := brokenStores()[os.Getenv(brokenEnv)]
	if !ok {
		t.Skip("runs in a process of its own, for TestBrokenStoresFail")
	}
	Run(t, func(*testing.T) checkpoint.Store { return broken.open() })
}

func TestDurableInChild(t *testing.T) { //nolint:paralleltest // skipped, or alone in its process
	broken, ok := brokenDurable()[os.Getenv(brokenEnv)]
	if !ok {
		t.Skip("runs in a process of its own, for TestBrokenStoresFail")
	}
	RunDurable(t, func(*testing.T, string) checkpoint.Store { return broken.open() })
}

// wantRed runs a test of this binary on a broken store, in a process of its own, and sees that the named cases fail.
func wantRed(t *testing.T, test, store string, red []string) {
	t.Helper()
	run := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+test+"$", "-test.timeout=1m")
	run.Env = append(os.Environ(), brokenEnv+"="+store)
	out, err := run.CombinedOutput()
	if _, failed := errors.AsType[*exec.ExitError](err); !failed {
		t.Fatalf("the suite passed a store with this fault: %s (%v)\n%s", store, err, out)
	}
	for _, name := range red {
		line := "--- FAIL: " + test + "/" + strings.ReplaceAll(name, " ", "_") + " "
		if !strings.Contains(string(out), line) {
			t.Errorf("the case %q passed a store with this fault: %s\n%s", name, store, out)
		}
	}
}

func caseNames(cases []testCase) []string {
	names := make([]string, 0, len(cases))
	for _, c := range cases {
		names = append(names, c.name)
	}
	return names
}
