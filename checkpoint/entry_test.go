package checkpoint

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestUpdatedAtDoesNotFollowAClockThatIsSetBack(t *testing.T) {
	t.Parallel()
	var e entry
	early, late := time.Unix(1000, 0).UTC(), time.Unix(2000, 0).UTC()
	e.acquire(late)
	require.NoError(t, e.commit(1, Position{Seq: 1}, early))
	require.Equal(t, late, e.UpdatedAt)
	e.remove(early)
	e.acquire(early)
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
