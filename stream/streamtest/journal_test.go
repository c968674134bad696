package streamtest_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/stream/streamtest"
)

func TestSame(t *testing.T) {
	t.Parallel()
	require.NoError(t, streamtest.Same[int](nil, []int{}))
	require.NoError(t, streamtest.Same([]int{1, 2, 2}, []int{1, 2, 2}))
	for want, got := range map[string][]int{
		"lost 2, 3":          {1},
		"twice 1":            {1, 1, 2, 3},
		"lost 3; twice 2":    {1, 2, 2},
		"never sent 4":       {1, 2, 3, 4},
		"lost 3; twice 1, 1": {1, 1, 1, 2},
		"in another order: message 2 is 3 in place of 2":     {1, 3, 2},
		"lost 1, 2, 3; never sent 4, 5, 6, 7, 8, and 2 more": {4, 5, 6, 7, 8, 9, 10},
	} {
		require.EqualError(t, streamtest.Same([]int{1, 2, 3}, got), want)
	}
	long := string(make([]byte, 1000))
	assert.Less(t, len(streamtest.Same([]string{long}, nil).Error()), 100, "a long value is shortened")
}

func TestJournal(t *testing.T) {
	t.Parallel()
	var j streamtest.Journal[string]
	require.NoError(t, j.Check())
	j.Sent("a", "b")
	require.EqualError(t, j.Check(), `lost "a", "b"`)
	j.Got("a")
	j.Got("b")
	require.NoError(t, j.Check())
	j.Sent("c")
	assert.Equal(t, 2, j.MaxInFlight())
	j.Got("b")
	require.EqualError(t, j.Check(), `lost "c"; twice "b"`)
	j.Got("c")
	require.EqualError(t, j.Check(), `twice "b"`)
	require.NoError(t, j.CheckNothingLost(), "twice is allowed")
	assert.Equal(t, []string{"a", "b", "b", "c"}, j.All())
	j.Sent("d", "e")
	j.Got("e")
	j.Got("d")
	require.ErrorContains(t, j.CheckNothingLost(), "in another order")
}

// A server that sends for ever does not fill our memory.
func TestJournalIsBounded(t *testing.T) {
	t.Parallel()
	var j streamtest.Journal[int]
	j.Sent(1, 2, 3)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 1000 {
				j.Got(1)
			}
		})
	}
	all.Wait()
	assert.Len(t, j.All(), 1006)
	require.EqualError(t, j.Check(), "3 messages were sent, and 4000 have arrived")
}
