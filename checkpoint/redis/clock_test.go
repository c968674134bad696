package redis_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/checkpoint/internal/servertest"
	checkpointredis "github.com/streamsafe/streamsafe/checkpoint/redis"
)

// The record was written by a server whose clock was ahead: UpdatedAt does not go back.
func TestClockIsSetBack(t *testing.T) {
	t.Parallel()
	client, prefix := newClient(t, servertest.Address(t, server)), newPrefix()
	store := newStore(t, client, checkpointredis.WithPrefix(prefix))
	owner, err := store.Acquire(t.Context(), "key")
	require.NoError(t, err)
	ahead := time.Now().Add(time.Hour).Truncate(time.Microsecond).UTC()
	require.NoError(t, client.HSet(t.Context(), prefix+"key", "updated", ahead.UnixMicro()).Err())

	require.NoError(t, store.Commit(t.Context(), "key", owner.Epoch, checkpoint.Position{Seq: 1}))
	r, err := store.Load(t.Context(), "key")
	require.NoError(t, err)
	require.Equal(t, ahead, r.UpdatedAt, "after a commit")
	r, err = store.Acquire(t.Context(), "key")
	require.NoError(t, err)
	require.Equal(t, ahead, r.UpdatedAt, "after an acquire")
}
