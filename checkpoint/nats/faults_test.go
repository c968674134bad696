package nats_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/checkpoint/internal/servertest"
	natsstore "github.com/streamsafe/streamsafe/checkpoint/nats"
	"github.com/streamsafe/streamsafe/stream/streamtest"
)

func newProxy(t *testing.T, n *node) *streamtest.Proxy {
	t.Helper()
	proxy, err := streamtest.NewProxy(n.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = proxy.Close() })
	return proxy
}

func TestOwnersFight(t *testing.T) {
	t.Parallel()
	js, bucket := dial(t, newNode(t).Addr().String()), newBucket()
	servertest.Fight(t, func() checkpoint.Store { return newStore(t, js, bucket) })
}

func TestConnectionIsCutEverywhere(t *testing.T) {
	t.Parallel()
	target, bucket := newNode(t).Addr().String(), newBucket()
	servertest.CutEverywhere(t, target, newStore(t, dial(t, target), bucket), func(address string) (checkpoint.Store, func()) {
		conn, err := nats.Connect("nats://"+address, nats.MaxReconnects(-1), nats.ReconnectWait(time.Millisecond),
			nats.ReconnectJitter(0, 0), nats.RetryOnFailedConnect(true))
		require.NoError(t, err)
		js, err := jetstream.New(conn)
		require.NoError(t, err)
		store, err := natsstore.New(js, bucket, natsstore.WithTimeout(4*time.Second))
		require.NoError(t, err)
		return store, conn.Close
	})
}

func TestTheAnswerIsLost(t *testing.T) {
	t.Parallel()
	n, bucket := newNode(t), newBucket()
	proxy := newProxy(t, n)
	direct := newStore(t, dial(t, n.Addr().String()), bucket)
	servertest.LostAnswer(t, proxy, direct, newStore(t, dial(t, proxy.Addr()), bucket))
}

func TestCloseFlushes(t *testing.T) {
	t.Parallel()
	servertest.Flush(t, newStore(t, dial(t, newNode(t).Addr().String()), newBucket()))
}
