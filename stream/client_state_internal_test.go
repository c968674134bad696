package stream

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/internal/verify"
)

// The picture of the states in ARCHITECTURE.md is the table in state.go.
func TestTheDiagramIsTheTable(t *testing.T) {
	t.Parallel()
	const file, begin, end = "../ARCHITECTURE.md", "```mermaid\n", "```\n"
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		text = []byte("# Architecture\n\n" + begin + diagram() + end)
		require.NoError(t, os.WriteFile(file, text, 0o600))
	}
	require.True(t, err == nil || errors.Is(err, fs.ErrNotExist), "%v", err)
	_, rest, ok := strings.Cut(string(text), begin)
	require.True(t, ok, "%s has a block of mermaid", file)
	block, _, ok := strings.Cut(rest, end)
	require.True(t, ok, "and the block ends")
	require.Equal(t, diagram(), block, "copy what diagram returns to %s", file)
}

func TestTheTableIsTheMachine(t *testing.T) {
	t.Parallel()
	states := []State{Opening, Attached, Detached, Closed, Rotating}
	type edge struct{ from, to State }
	want := map[edge]bool{
		{Opening, Attached}: true, {Opening, Detached}: true, {Attached, Detached}: true, {Detached, Opening}: true,
		{Opening, Closed}: true, {Attached, Closed}: true, {Detached, Closed}: true, {Rotating, Closed}: true,
		{Attached, Rotating}: true, {Rotating, Attached}: true, {Rotating, Detached}: true,
	}
	for _, from := range states {
		for _, to := range states {
			require.Equal(t, want[edge{from, to}], allowed(from, to), "%s -> %s", from, to)
		}
	}
	require.Len(t, transitions(), len(want), "no edge is there twice")
	for _, edge := range transitions() {
		require.NotEmpty(t, edge.when, "%s -> %s says when", edge.from, edge.to)
	}
}

func TestAChangeThatIsNotInTheTableIsLoud(t *testing.T) {
	t.Parallel()
	s := &ClientStream[int, int]{}
	s.enter(Opening)
	require.Equal(t, Opening, s.State(), "a stream begins like that")
	s.enter(Attached)
	s.enter(Closed)
	if verify.Enabled {
		require.Panics(t, func() { s.enter(Opening) }, "a closed stream stays so")
	} else {
		require.NotPanics(t, func() { s.enter(Opening) }, "no panic of ours reaches a user")
	}
}

func TestNamesOfStates(t *testing.T) {
	t.Parallel()
	for state, want := range map[State]string{
		Opening: "opening", Attached: "attached", Detached: "detached", Closed: "closed", Rotating: "rotating", 9: "state(9)",
	} {
		require.Equal(t, want, state.String())
	}
}

func TestEveryReasonHasItsWords(t *testing.T) {
	t.Parallel()
	seen := map[string]Reason{}
	for r := ReasonUnknown; r <= ReasonOptions; r++ {
		text := r.String()
		require.NotEmpty(t, text, "reason %d", r)
		before, twice := seen[text]
		require.False(t, twice, "reasons %d and %d have the same words", before, r)
		seen[text] = r
		_, _ = r.code() // names every reason
	}
	require.Equal(t, "reason(200)", Reason(200).String())
}
