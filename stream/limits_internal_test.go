package stream

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// A call can have begun anywhere in its tick.
func TestALimitInTicks(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		anyLimit := rapid.Int64Range(1, int64(time.Hour))
		limit, other := time.Duration(anyLimit.Draw(t, "limit")), time.Duration(anyLimit.Draw(t, "other"))
		tick := tickOf(limit, other)
		began := rapid.Uint64().Draw(t, "began")
		var n uint64
		for ; !passed(began, began+n, tick, limit); n++ { // wraps around, too
			require.Less(t, n, uint64(limit/tick+3))
		}
		shortest, longest := time.Duration(n-1)*tick, time.Duration(n)*tick
		require.GreaterOrEqual(t, shortest, limit, "not cut short")
		require.LessOrEqual(t, longest, limit+2*tick)
		require.LessOrEqual(t, tick, max(min(limit, other)/ticksOfLimit+1, time.Millisecond))
	})
	require.False(t, passed(0, 1000, time.Second, 0), "no limit")
	require.False(t, passed(0, 1000, time.Second, -1), "no limit")
	require.Zero(t, tickOf(0, -1), "no limit, no tick")
}

// A limit on the first message alone leaves nothing to watch for once that has come.
func TestTheFirstMessageEndsItsWatch(t *testing.T) {
	t.Parallel()
	b := &inbox[int, int]{fresh: true}
	limit := limits{firstMessage: time.Second}
	_, again := b.tick(time.Second, limit)
	require.True(t, again)
	b.fresh = false
	_, again = b.tick(time.Second, limit)
	require.False(t, again)
	limit.idle = time.Minute
	_, again = b.tick(time.Second, limit)
	require.True(t, again)
}
