package main

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/internal/testnet"
)

// lastLine is what a run ends with.
var lastLine = regexp.MustCompile(
	`\nevents=\d+ members_stopped=\d+ cuts=\d+ lost=\d+ duplicated=\d+ reordered=\d+\n$`)

// play lets one watcher go through faults.
func play(t *testing.T, w watcher, faults ...fault) outcome {
	t.Helper()
	o, err := match{
		contestants: []contestant{{name: "one", run: w}}, seed: 1, faults: faults, dir: t.TempDir(), out: io.Discard,
	}.play(t.Context())
	require.NoError(t, err)
	require.Len(t, o.results, 1)
	var text strings.Builder
	require.NoError(t, o.write(&text))
	t.Log("\n" + text.String())
	assert.Regexp(t, lastLine, text.String())
	return o
}

// Where nothing goes wrong, nothing is found.
func TestQuietMatch(t *testing.T) {
	t.Parallel()
	o := play(t, naive(fromNow), fault{"nothing", func(ctx context.Context, s *saboteur) error {
		s.writers.burst(ctx, s.random)
		return pause(ctx, time.Second)
	}})
	assert.True(t, o.ok())
	assert.Equal(t, verdict{events: o.results[0].events}, o.results[0].verdict)
	assert.Greater(t, o.results[0].events, burstChanges*keysPerPrefix)
	assert.Zero(t, o.cuts)
	assert.Zero(t, o.stopped)
}

// A watcher that begins anew from now is seen to lose what happened in between.
func TestWatcherThatLoses(t *testing.T) {
	t.Parallel()
	o := play(t, naive(fromNow), fault{"cut", cutAll}, fault{"refuse", refuse}, fault{"crash", crash(1)})
	assert.False(t, o.ok())
	assert.Positive(t, o.results[0].lost)
	assert.Zero(t, o.results[0].duplicated)
	assert.Zero(t, o.results[0].reordered)
	assert.Zero(t, o.results[0].unknown)
	assert.Positive(t, o.cuts)
	assert.Equal(t, 1, o.stopped)
	require.Len(t, o.results[0].recover, 3)
	assert.Greater(t, o.results[0].recover[1], doorLasts*9/10, "nobody gets through a closed door")
}

// A watcher that begins anew from what it saw last is seen to get that twice, and is excused for what was compacted.
func TestWatcherThatDoubles(t *testing.T) {
	t.Parallel()
	o := play(t, naive(fromLast), fault{"cut", cutAll}, fault{"compact", compact}, fault{"truncate", cutOne(testnet.Truncate)},
		fault{"black hole", blackHole})
	assert.False(t, o.ok())
	assert.Zero(t, o.results[0].lost)
	assert.Positive(t, o.results[0].duplicated)
	assert.Zero(t, o.results[0].reordered)
	assert.Zero(t, o.results[0].unknown)
	assert.Positive(t, o.results[0].gaps)
}

// A watcher that stops is told of, and holds up nobody.
func TestWatcherThatGivesUp(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	for _, err := range []error{errors.New("no more"), nil} {
		o := play(t, func(context.Context, []string, []spec, *journal) error { return err }, fault{"cut", cutAll})
		assert.False(t, o.ok())
		assert.Positive(t, o.results[0].lost)
		require.NoError(t, o.write(&text))
	}
	assert.Contains(t, text.String(), " never  ")
	assert.Contains(t, text.String(), "one gave up: no more\n")
	assert.Contains(t, text.String(), "one gave up: the watcher ended by itself\n")
}

// However few faults there are, each kind comes before one comes again, and a seed gives the same ones.
func TestPlan(t *testing.T) {
	t.Parallel()
	kinds := len(faults())
	names := func(seed uint64, count int) (all []string) {
		for _, f := range plan(rand.New(rand.NewPCG(seed, 0)), count) {
			all = append(all, f.name)
		}
		return all
	}
	got := names(1, 2*kinds+1)
	assert.Len(t, got, 2*kinds+1)
	assert.ElementsMatch(t, got[:kinds], got[kinds:2*kinds])
	assert.Equal(t, got, names(1, 2*kinds+1))
	assert.NotEqual(t, got, names(2, 2*kinds+1))
	assert.Empty(t, names(1, 0))
}
