package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Nobody else is given a port while it is reserved, though it may not be listened on for a while.
func TestReservePorts(t *testing.T) {
	t.Parallel()
	const count = 2 * members // as clusters do, or it would get into their way
	taken := make(map[int]bool)
	for range 200 {
		p, err := reservePorts(t.Context(), count)
		require.NoError(t, err)
		t.Cleanup(p.release)
		require.False(t, taken[p.first])
		taken[p.first] = true
		assert.Greater(t, p.first, lowestPort)
		assert.LessOrEqual(t, p.first+count, highestPort)
	}
}
