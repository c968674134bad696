package checkpoint_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/streamsafe/streamsafe/checkpoint"
)

func TestPositionBefore(t *testing.T) {
	t.Parallel()
	at := func(lineage string, seq uint64) checkpoint.Position {
		return checkpoint.Position{Lineage: lineage, Seq: seq}
	}
	require.True(t, at("a", 1).Before(at("a", 2)))
	require.True(t, at("", 1).Before(at("", 2)), "the empty lineage is one like any other")
	require.False(t, at("a", 2).Before(at("a", 2)), "it is not behind itself")
	require.False(t, at("a", 1).Before(at("b", 2)), "invariant 17: lineages are not compared")
	require.False(t, at("a", 0).Before(at("a", 2)), "Seq 0 is unordered")
	require.False(t, at("a", 1).Before(at("a", 0)), "Seq 0 is unordered")
}

func TestPositionBeforeIsAnOrder(t *testing.T) {
	t.Parallel()
	position := rapid.Custom(func(t *rapid.T) checkpoint.Position {
		return checkpoint.Position{
			Lineage: rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "lineage"),
			Seq:     rapid.Uint64Range(0, 3).Draw(t, "seq"),
			Token:   rapid.SampledFrom([]string{"", "t"}).Draw(t, "token"),
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := position.Draw(t, "a"), position.Draw(t, "b"), position.Draw(t, "c")
		require.False(t, a.Before(b) && b.Before(a), "both ways")
		if a.Before(b) && b.Before(c) {
			require.True(t, a.Before(c), "transitive")
		}
	})
}

func TestPositionIsZero(t *testing.T) {
	t.Parallel()
	require.True(t, checkpoint.Position{}.IsZero())
	for _, p := range []checkpoint.Position{{Lineage: "a"}, {Seq: 1}, {Token: "t"}} {
		require.False(t, p.IsZero(), "%+v", p)
	}
}

func TestErrorsNameTheOperationAndTheKey(t *testing.T) {
	t.Parallel()
	var m checkpoint.Memory
	for range 3 {
		_, err := m.Acquire(t.Context(), "orders")
		require.NoError(t, err)
	}
	err := m.Commit(t.Context(), "orders", 1, checkpoint.Position{Seq: 1})
	require.EqualError(t, err, `checkpoint: commit "orders": owner is fenced: epoch 1, and the owner's is 3`)

	_, err = m.Load(t.Context(), strings.Repeat("k", 100))
	require.ErrorIs(t, err, checkpoint.ErrNotFound)
	require.Less(t, len(err.Error()), 120, "a long key is cut")
}
