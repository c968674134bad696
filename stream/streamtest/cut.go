package streamtest

import (
	"context"
	"flag"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
)

// Scenario is a use of a stream from its beginning to its end. Both functions are called again for each place.
type Scenario struct {
	// Serve registers services on a server that is new each time. Make all state new here, since the places run one after the
	// other.
	Serve func(*grpc.Server)
	// Run uses a client of that server, and returns nil if everything is as it should be, on both ends. It should return an error
	// rather than fail the test itself. What Serve and Run start, Run ends; ctx is cancelled when it has returned, or after the
	// time limit.
	Run func(ctx context.Context, cc grpc.ClientConnInterface) error
}

// CutEverywhere runs the scenario once undisturbed, and counts its messages. Then it runs it again for each place and each kind of
// fault: before, inside and after each message, each way. After a cut it cuts the next connection as well: at the messages with which
// the client resumes and sends again what was lost.
//
// Each place is a sub-test. A failure names the fault and the place, and the command that repeats it alone. The places run one after
// the other, each with a server, a network and a client of its own. By default that is in memory and in a testing/synctest bubble, so
// that time costs nothing and a wait that never ends is found at once; see [WithTCP] for real sockets.
//
// A run also fails if it takes longer than [WithLimit], if a handler or Run panics, or if a handler has not returned after its
// connection has gone, and in a bubble if any other goroutine is left.
//
// A scenario of ten messages each way takes a few seconds. See [WithBudget] for longer ones. The rest is left out after ten
// failures, and ten seconds after the first one.
func CutEverywhere(t *testing.T, s Scenario, opts ...CutOption) {
	t.Helper()
	if s.Serve == nil || s.Run == nil {
		t.Fatal("streamtest: a Scenario needs Serve and Run")
	}
	c := &cutter{scenario: s, options: cutOptionsOf(opts), passed: make(map[place]result)}
	c.sample(t)
	base := c.run(t, nil)
	if base.err != nil {
		t.Fatalf("without any fault: %v", base.text())
	}
	c.base, c.calls = base.passages, base.calls
	if c.messages() == 0 {
		t.Fatal("streamtest: no message has passed, so there is no place to cut at: Run has to use cc")
	}
	places := c.places()
	if len(places) == 0 {
		t.Fatal("streamtest: none of the kinds of WithKinds happens in a direction in which there are messages")
	}
	if c.budget > 0 {
		rand.New(rand.NewPCG(c.seed, 0)).Shuffle(len(places), func(i, j int) { //nolint:gosec // repeatable on purpose
			places[i], places[j] = places[j], places[i]
		})
	}
	c.once(t, places)
	if c.failures == 0 {
		c.twice(t, places)
	}
	c.summarize(t, len(places))
}

// cutter is one call of CutEverywhere. The goroutine of the test owns it.
type cutter struct {
	scenario Scenario
	options  cutOptions
	budget   int // zero: none
	seed     uint64
	base     []passage // of the undisturbed run
	calls    int       // the same

	passed map[place]result // by the place of their only fault
	runs   int
	tried  int // places
	failures,
	missed int
	failed time.Time // the first failure
	stuck  bool      // a run does not end: what it uses is in an unknown state
}

// sample decides whether a sample is drawn, and from which seed.
func (c *cutter) sample(t *testing.T) {
	t.Helper()
	c.budget = c.options.budget
	if !c.options.budgeted && testing.Short() {
		c.budget = shortBudget
	}
	if namesPlace(t.Name()) {
		c.budget = 0
	}
	c.seed = c.options.seed
	if !c.options.seeded {
		c.seed = rand.Uint64() //nolint:gosec // it is told
	}
}

// namesPlace tells whether go test -run names a sub-test of the test.
func namesPlace(test string) bool {
	f := flag.Lookup("test.run")
	return f != nil && strings.Count(f.Value.String(), "/") > strings.Count(test, "/")
}

// once cuts at each place.
func (c *cutter) once(t *testing.T, places []place) {
	t.Helper()
	budget := (2*c.budget + 2) / 3 // the rest is for second cuts
	for _, p := range places {
		if c.over(budget) {
			return
		}
		c.tried++
		t.Run(p.name(), func(t *testing.T) {
			t.Helper()
			c.first(t, p)
		})
	}
}

// first cuts at p, and keeps what passed then. It reports false if the run fails.
func (c *cutter) first(t *testing.T, p place) bool {
	t.Helper()
	r := c.run(t, []place{p})
	c.passed[p] = r
	return !c.report(t, r, []place{p})
}

// twice cuts at a place, and then again on the connection after that.
func (c *cutter) twice(t *testing.T, places []place) {
	t.Helper()
	for _, p := range places {
		if c.over(c.budget) {
			return
		}
		if !slices.Contains(c.cutKinds(), p.kind) {
			continue
		}
		t.Run(p.name()+" and again", func(t *testing.T) {
			t.Helper()
			if _, ran := c.passed[p]; !ran && !c.first(t, p) {
				return
			}
			c.second(t, p)
		})
	}
}

// second cuts at p and then at places of the connection after that.
func (c *cutter) second(t *testing.T, p place) {
	t.Helper()
	for _, again := range c.again(p, c.passed[p]) {
		if c.over(c.budget) {
			return
		}
		t.Run(again.name(), func(t *testing.T) {
			t.Helper()
			both := []place{p, again}
			c.report(t, c.run(t, both), both)
		})
	}
}

// over tells whether there should be no more runs. Zero: no budget.
func (c *cutter) over(budget int) bool {
	enough := c.failures >= mostFailures || c.failures > 0 && time.Since(c.failed) > failing
	return enough || c.stuck || budget > 0 && c.runs >= budget
}

// report fails the test if the run has failed.
func (c *cutter) report(t *testing.T, r result, places []place) (failed bool) {
	t.Helper()
	if len(r.cuts) < len(places) {
		c.missed++
	}
	if r.err == nil {
		return false
	}
	if c.failures++; c.failures == 1 {
		c.failed = time.Now()
	}
	t.Errorf("%s: %s\n%s", describe(places), r.text(), repeat(t.Name()))
	return true
}

// summarize says what was done.
func (c *cutter) summarize(t *testing.T, all int) {
	t.Helper()
	t.Logf("%d runs, at %d of %d places", c.runs, c.tried, all)
	switch {
	case c.missed > c.runs/2:
		t.Errorf("%d of %d runs ended before the place of a fault: the scenario is not the same each time, and this proves nothing", c.missed, c.runs)
	case c.missed > 0:
		t.Logf("%d runs ended before the place of a fault", c.missed)
	}
	if c.budget > 0 {
		t.Logf("a sample: WithSeed(%d) draws the same one, and WithBudget(0) has all places", c.seed)
	}
	switch {
	case c.stuck:
		t.Log("the rest is left out, as a run has not ended")
	case c.over(0):
		t.Logf("%d runs have failed: the rest is left out", c.failures)
	case c.failures > 0:
		t.Log("second cuts are left out, as first ones fail")
	}
}
