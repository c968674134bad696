package checkpoint

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestUpdatedAtDoesNotFollowAClockThatIsSetBack(t *testing.T) {
	t.Parallel()
	var e entry
	early, late := time.Unix(1000, 0).UTC(), time.Unix(2000, 0).UTC()
	require.NoError(t, e.acquire(late))
	require.NoError(t, e.commit(1, Position{Seq: 1}, early))
	require.Equal(t, late, e.UpdatedAt)
	e.remove(early)
	require.NoError(t, e.acquire(early))
	require.Equal(t, late, e.UpdatedAt)
	require.NoError(t, e.commit(2, Position{Seq: 1}, late.Add(1)))
	require.Equal(t, late.Add(1), e.UpdatedAt)
}

// Records can be compared with ==, whichever method and store they come from.
func TestLoadEqualsAcquire(t *testing.T) {
	t.Parallel()
	for _, s := range []Store{new(Memory), open(t)} {
		acquired, err := s.Acquire(t.Context(), "orders")
		require.NoError(t, err)
		loaded, err := s.Load(t.Context(), "orders")
		require.NoError(t, err)
		require.True(t, acquired == loaded, "%T: %v and %v", s, acquired, loaded)
	}
}

// Invariant 24: an epoch is not used twice, also not when counting has come to its end.
func TestTheLastEpochIsNotFollowedByTheFirst(t *testing.T) {
	t.Parallel()
	last := entry{Record: Record{Epoch: math.MaxUint64, Position: Position{Seq: 7}}}
	f := open(t)
	plant(t, f, "orders", newFile(record{key: "orders", generation: 1, entry: last}))
	m := &Memory{entries: map[string]*entry{"orders": &last}}
	for _, s := range []Store{m, f} {
		_, err := s.Acquire(t.Context(), "orders")
		require.ErrorIs(t, err, errNoEpoch, "%T", s)
		r, err := s.Load(t.Context(), "orders")
		require.NoError(t, err, "%T", s)
		require.Equal(t, uint64(7), r.Position.Seq, "%T: the record is as it was", s)
		require.NoError(t, s.Commit(t.Context(), "orders", math.MaxUint64, Position{Seq: 8}), "%T: its owner goes on", s)
	}
}
