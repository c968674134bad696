package unary

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// A branch that has failed and waits must not come back with its failure when another wins: the policy takes whichever
// result comes first.
func TestABranchThatWaitsReturnsTheWinner(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var g hedgeGroup[string]
		g.begin()
		g.begin()
		waits := make(chan string, 1)
		go func() { waits <- g.end(t.Context(), "failure", true) }()
		synctest.Wait()
		require.Equal(t, "reply", g.end(t.Context(), "reply", false))
		require.Equal(t, "reply", <-waits)
	})
}

// Where none wins, each returns its own; and what won once is forgotten when the group is used again, by a retry say.
func TestBranchesThatAllFail(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var g hedgeGroup[string]
		g.begin()
		require.Equal(t, "reply", g.end(t.Context(), "reply", false))
		g.begin()
		g.begin()
		waits := make(chan string, 1)
		go func() { waits <- g.end(t.Context(), "first", true) }()
		synctest.Wait()
		require.Empty(t, waits, "another is at work")
		require.Equal(t, "second", g.end(t.Context(), "second", true))
		require.Equal(t, "first", <-waits)
	})
}
