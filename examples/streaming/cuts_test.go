package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"

	"github.com/streamsafe/streamsafe/internal/testnet"
)

func TestPlan(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		seed, cuts := rapid.Uint64().Draw(t, "seed"), rapid.IntRange(20, 200).Draw(t, "cuts")
		lines := rapid.Uint64Range(1, 1e6).Draw(t, "lines")
		faults := plan(seed, cuts, lines)
		assert.Equal(t, faults, plan(seed, cuts, lines), "the same every time")
		assert.Len(t, faults, cuts)
		kinds, directions := make(map[testnet.Kind]int), make(map[testnet.Direction]int)
		for _, f := range faults {
			kinds[f.Kind]++
			directions[f.Direction]++
			assert.Positive(t, f.Message)
		}
		assert.Len(t, kinds, 6)
		for kind, count := range kinds {
			assert.InDelta(t, cuts/6, count, 1, "of kind %v", kind)
		}
	})
}

func TestProgressAddsUpProcesses(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	p := newProgress(&out, 100)
	p.update(report{Answers: 40, Breaks: 3, Resumes: 2})
	p.update(report{Answers: 50, Breaks: 4, Resumes: 3})
	p.nextProcess()
	p.update(report{Answers: 60, Breaks: 1, Resumes: 1})
	assert.Equal(t, uint64(4), p.resumes())
	assert.Equal(t, uint64(5), p.breaks())
	assert.Empty(t, out.String(), "it is too early to print")
	p.printed = p.printed.Add(-2 * 1e9)
	p.update(report{State: "attached", Answers: 70, Breaks: 1, Resumes: 1, Unacked: 9})
	assert.Regexp(t, `^70 of 100 lines, \d+/s, attached, 5 breaks, 9 unacknowledged\n$`, out.String())
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "0 cuts", describe(nil))
	assert.Equal(t, "1 cut (1 FIN)", describe([]testnet.Cut{{Kind: testnet.FIN}}))
	cuts := []testnet.Cut{{Kind: testnet.RST}, {Kind: testnet.FIN}, {Kind: testnet.RST}}
	assert.Equal(t, "3 cuts (1 FIN, 2 RST)", describe(cuts))
}
