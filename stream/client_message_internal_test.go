package stream

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
)

// A policy may end the execution of a Send between the turn of its message and the call of the transport. Then nobody looks for the
// attempt any more, and a Send that flow control stops would wait for ever (invariant 35).
func TestASendWhoseExecutionIsOverGivesItsAttemptUp(t *testing.T) {
	t.Parallel()
	for _, over := range []bool{false, true} {
		ctx, cancel := context.WithCancel(t.Context())
		if over {
			cancel()
		}
		c := cutter[struct{}, struct{}]{ctx: ctx}
		a := newAttempt[struct{}, struct{}](t.Context(), 1, nil)
		c.sends(a)
		require.Equal(t, over, a.loss.Load() != nil, "whether the attempt is given up")
		c.leaves()
		cancel()
		a.cancel()
	}
}
