package stream_test

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/stream"
)

// What all runs of the chaos have seen, together.

// tally is what happened in all runs together.
type tally struct {
	mu     sync.Mutex // guards the fields below
	counts map[string]int
}

func (t *tally) add(r *chaosRun) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts == nil {
		t.counts = map[string]int{}
	}
	t.counts["schedules"]++
	t.counts["faults"] += len(r.proxy.Cuts())
	t.counts["handlers"] += len(r.db.visits)
	t.counts["denied sends"] += r.journal.denials[r.sends]
	t.counts["denied recvs"] += r.journal.denials[r.recvs]
	for _, p := range r.journal.chapters {
		t.counts["processes"]++
		t.counts["sent"] += len(p.accepted())
		t.counts["received"] += len(p.got)
		t.counts["rotations"] += int(p.stats.Rotations)
		t.counts["outages"] += int(p.stats.Outages)
		t.counts["replayed"] += int(p.stats.Replayed)
		t.counts["repeated"] += int(p.stats.Duplicates)
		if p.lost {
			t.counts["lost positions"]++
		}
		how := "left"
		if e, ok := errors.AsType[*stream.Error](p.end); ok {
			how = e.Reason.String()
		} else if errors.Is(p.end, io.EOF) {
			how = "io.EOF"
		}
		t.counts["end: "+how]++
		for _, n := range p.sends {
			if n.notSent() {
				t.counts["refused"]++
			}
		}
	}
}

// isEnough sees that the schedules do something.
func (t *tally) isEnough(tb testing.TB) {
	tb.Helper()
	t.mu.Lock()
	defer t.mu.Unlock()
	for what, perHundred := range map[string]int{
		"faults": 100, "outages": 100, "replayed": 200, "repeated": 2, "lost positions": 1, "sent": 1000, "received": 1500,
		"rotations": 5, "refused": 10, "end: io.EOF": 30, "end: left": 10, "denied sends": 20, "denied recvs": 40,
	} {
		require.GreaterOrEqual(tb, t.counts[what]*100, perHundred*t.counts["schedules"]/2, "%s, of what was expected", what)
	}
}

// String is one line.
func (t *tally) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]string, 0, len(t.counts))
	for _, what := range slices.Sorted(maps.Keys(t.counts)) {
		all = append(all, fmt.Sprintf("%s %d", what, t.counts[what]))
	}
	return strings.Join(all, ", ")
}
