package redis_test

import (
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/checkpoint/internal/servertest"
	checkpointredis "github.com/streamsafe/streamsafe/checkpoint/redis"
	"github.com/streamsafe/streamsafe/checkpoint/storetest"
)

const server = "STREAMSAFE_REDIS"

var (
	run      = rand.Uint32()
	prefixes atomic.Uint32
)

func newPrefix() string { return fmt.Sprintf("%d:%d:", run, prefixes.Add(1)) }

func newClient(tb testing.TB, address string) *redis.Client {
	tb.Helper()
	client := redis.NewClient(&redis.Options{Addr: address, ContextTimeoutEnabled: true, DialerRetries: 1})
	tb.Cleanup(func() { _ = client.Close() })
	return client
}

func newStore(tb testing.TB, client *redis.Client, opts ...checkpointredis.Option) *checkpointredis.Store {
	tb.Helper()
	store, err := checkpointredis.New(client, append([]checkpointredis.Option{checkpointredis.WithPrefix(newPrefix())}, opts...)...)
	require.NoError(tb, err)
	require.NoError(tb, store.Create(tb.Context()))
	return store
}

func TestStore(t *testing.T) {
	t.Parallel()
	client := newClient(t, servertest.Address(t, server))
	storetest.Run(t, func(t *testing.T) checkpoint.Store {
		t.Helper()
		return newStore(t, client)
	})
}

func TestStoreIsDurable(t *testing.T) {
	t.Parallel()
	address := servertest.Address(t, server)
	storetest.RunDurable(t, func(t *testing.T, place string) checkpoint.Store {
		t.Helper()
		return newStore(t, newClient(t, address), checkpointredis.WithPrefix(fmt.Sprint(run, place)))
	})
}

// Two owners in two processes share nothing but the server: each store remembers what the other does not know.
func TestTwoStoresOnOneServer(t *testing.T) {
	t.Parallel()
	client, prefix := newClient(t, servertest.Address(t, server)), checkpointredis.WithPrefix(newPrefix())
	one, other := newStore(t, client, prefix), newStore(t, client, prefix)
	servertest.TwoStores(t, one, other)
}

func TestOptions(t *testing.T) {
	t.Parallel()
	_, err := checkpointredis.New(nil)
	require.ErrorContains(t, err, "the client is nil")
	_, err = checkpointredis.NewCluster(nil)
	require.ErrorContains(t, err, "the client is nil")
	unbounded := redis.NewClient(&redis.Options{})
	t.Cleanup(func() { _ = unbounded.Close() })
	_, err = checkpointredis.New(unbounded)
	require.ErrorContains(t, err, "ContextTimeoutEnabled")
	_, err = checkpointredis.New(newClient(t, "127.0.0.1:1"), nil)
	require.ErrorContains(t, err, "an option is nil")
}

// What somebody else has written under the name is an error, and stays.
func TestForeignKey(t *testing.T) {
	t.Parallel()
	client, prefix := newClient(t, servertest.Address(t, server)), newPrefix()
	store := newStore(t, client, checkpointredis.WithPrefix(prefix))
	require.NoError(t, client.Set(t.Context(), prefix+"text", "foreign", 0).Err())
	require.NoError(t, client.HSet(t.Context(), prefix+"hash", "epoch", "many").Err())
	for _, key := range []string{"text", "hash"} {
		began := time.Now()
		_, err := store.Acquire(t.Context(), key)
		require.Error(t, err, key)
		_, err = store.Load(t.Context(), key)
		require.Error(t, err, key)
		require.NotErrorIs(t, err, checkpoint.ErrNotFound, key)
		require.Less(t, time.Since(began), 3*time.Second, "it is final")
	}
	require.Equal(t, "foreign", client.Get(t.Context(), prefix+"text").Val())
}
