package unary

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/internal/rpcstatus"
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
		go func() { waits <- g.end(t.Context(), "failure", failure) }()
		synctest.Wait()
		require.Equal(t, "reply", g.end(t.Context(), "reply", success))
		require.Equal(t, "reply", <-waits)
	})
}

// Where none wins, all return the last real failure: the policy takes whichever comes first, and a denial hides no failure
// (invariant 38). What won once is forgotten when the group is used again, by a retry say.
func TestBranchesThatAllFail(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var g hedgeGroup[string]
		g.begin()
		require.Equal(t, "reply", g.end(t.Context(), "reply", success))
		g.begin()
		g.begin()
		waits := make(chan string, 1)
		go func() { waits <- g.end(t.Context(), "first", failure) }()
		synctest.Wait()
		require.Empty(t, waits, "another is at work")
		g.begin()
		denied := make(chan string, 1)
		go func() { denied <- g.end(t.Context(), "denied", nothing) }() // ends with the last branch, as the other does
		synctest.Wait()
		require.Empty(t, denied)
		require.Equal(t, "second", g.end(t.Context(), "second", failure))
		require.Equal(t, "second", <-waits)
		require.Equal(t, "second", <-denied)
	})
}

func TestRanks(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]rank{
		nil: success, errors.New("failed"): failure, context.DeadlineExceeded: failure,
		bulkhead.ErrFull: nothing, circuitbreaker.ErrOpen: nothing, context.Canceled: nothing,
		&rpcstatus.StoppedError{Failure: errors.New("failed"), By: bulkhead.ErrFull}: failure,
	} {
		require.Equal(t, want, rankOf(err), "%v", err)
	}
}
