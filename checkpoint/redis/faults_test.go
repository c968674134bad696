package redis_test

import (
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/checkpoint/internal/servertest"
	checkpointredis "github.com/streamsafe/streamsafe/checkpoint/redis"
	"github.com/streamsafe/streamsafe/stream/streamtest"
)

func newProxy(t *testing.T) *streamtest.Proxy {
	t.Helper()
	proxy, err := streamtest.NewProxy(servertest.Address(t, server))
	require.NoError(t, err)
	t.Cleanup(func() { _ = proxy.Close() })
	return proxy
}

func TestOwnersFight(t *testing.T) {
	t.Parallel()
	client, prefix := newClient(t, servertest.Address(t, server)), checkpointredis.WithPrefix(newPrefix())
	servertest.Fight(t, func() checkpoint.Store { return newStore(t, client, prefix) })
}

// go-redis repeats commands by itself, if nobody says otherwise.
func TestConnectionIsCutEverywhere(t *testing.T) {
	t.Parallel()
	target, prefix := servertest.Address(t, server), checkpointredis.WithPrefix(newPrefix())
	servertest.CutEverywhere(t, target, newStore(t, newClient(t, target), prefix), func(address string) (checkpoint.Store, func()) {
		client := redis.NewClient(&redis.Options{Addr: address, ContextTimeoutEnabled: true, MaxRetries: 3})
		store, err := checkpointredis.New(client, prefix)
		require.NoError(t, err)
		return store, func() { _ = client.Close() }
	})
}

func TestTheAnswerIsLost(t *testing.T) {
	t.Parallel()
	proxy, prefix := newProxy(t), checkpointredis.WithPrefix(newPrefix())
	direct := newStore(t, newClient(t, servertest.Address(t, server)), prefix)
	servertest.LostAnswer(t, proxy, direct, newStore(t, newClient(t, proxy.Addr()), prefix))
}

func TestServerIsStoppedAndStarted(t *testing.T) {
	t.Parallel()
	p := startProcess(t)
	servertest.Restart(t, newStore(t, newClient(t, p.Address)), p.Stop, p.Start)
}

// The client has no time limits of its own.
func TestServerDoesNotAnswer(t *testing.T) {
	t.Parallel()
	proxy := newProxy(t)
	client := redis.NewClient(&redis.Options{Addr: proxy.Addr(), ContextTimeoutEnabled: true, ReadTimeout: -1, WriteTimeout: -1})
	t.Cleanup(func() { _ = client.Close() })
	servertest.BlackHole(t, proxy, newStore(t, client, checkpointredis.WithTimeout(time.Second)))
}

// A server that is a replica for a moment is tried again (invariant 55).
func TestReplicaBecomesMasterWhileACommitWaits(t *testing.T) {
	t.Parallel()
	p := startProcess(t)
	client := newClient(t, p.Address)
	store := newStore(t, client)
	owner, err := store.Acquire(t.Context(), "key")
	require.NoError(t, err)
	again := 0
	for seq := uint64(1); seq <= 20; seq++ {
		require.NoError(t, client.Do(t.Context(), "REPLICAOF", "127.0.0.1", "1").Err()) // nobody is there, so it keeps what it has
		result := make(chan error, 1)
		go func() {
			result <- store.Commit(t.Context(), "key", owner.Epoch, checkpoint.Position{Seq: seq})
		}()
		require.Eventually(t, func() bool {
			return strings.Contains(client.Info(t.Context(), "errorstats").Val(), "errorstat_READONLY")
		}, 10*time.Second, time.Millisecond, "the replica has refused")
		require.NoError(t, client.Do(t.Context(), "REPLICAOF", "no", "one").Err())
		require.NoError(t, client.ConfigResetStat(t.Context()).Err())
		if <-result == nil {
			again++
		}
	}
	require.Greater(t, again, 10, "commits that were tried again, of 20: a third of a second is enough for most, on any machine")
}

func TestCloseFlushes(t *testing.T) {
	t.Parallel()
	servertest.Flush(t, newStore(t, newClient(t, servertest.Address(t, server))))
}
