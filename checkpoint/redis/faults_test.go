package redis_test

import (
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

func TestServerDoesNotAnswer(t *testing.T) {
	t.Parallel()
	proxy := newProxy(t)
	servertest.BlackHole(t, proxy, newStore(t, newClient(t, proxy.Addr()), checkpointredis.WithTimeout(time.Second)))
}

func TestCloseFlushes(t *testing.T) {
	t.Parallel()
	servertest.Flush(t, newStore(t, newClient(t, servertest.Address(t, server))))
}
