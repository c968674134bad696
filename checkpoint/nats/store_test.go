package nats_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/checkpoint/internal/servertest"
	natsstore "github.com/streamsafe/streamsafe/checkpoint/nats"
	"github.com/streamsafe/streamsafe/checkpoint/storetest"
)

// node is a NATS server in this process.
type node struct {
	*server.Server
	options server.Options
}

// newNode starts a server on a free port of 127.0.0.1, which the end of the test stops.
func newNode(tb testing.TB) *node {
	tb.Helper()
	n := &node{options: server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: tb.TempDir(), NoSigs: true, NoLog: true,
	}}
	n.start(tb)
	n.options.Port = n.port(tb)
	tb.Cleanup(func() { n.stop() })
	return n
}

func (n *node) start(tb testing.TB) {
	tb.Helper()
	options := n.options
	s, err := server.NewServer(&options)
	require.NoError(tb, err)
	n.Server = s
	s.Start()
	require.True(tb, s.ReadyForConnections(30*time.Second), "the server has not started in 30 s")
}

func (n *node) stop() {
	n.Shutdown()
	n.WaitForShutdown()
}

func (n *node) port(tb testing.TB) int {
	tb.Helper()
	var port int
	_, err := fmt.Sscanf(n.Addr().String(), "127.0.0.1:%d", &port)
	require.NoError(tb, err)
	return port
}

// dial returns a client of the server at an address, which the end of the test closes.
func dial(tb testing.TB, address string, opts ...nats.Option) jetstream.JetStream {
	tb.Helper()
	conn, err := nats.Connect("nats://"+address, append([]nats.Option{
		nats.MaxReconnects(-1), nats.ReconnectWait(10 * time.Millisecond), nats.ReconnectJitter(0, 0), nats.RetryOnFailedConnect(true),
	}, opts...)...)
	require.NoError(tb, err)
	tb.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	require.NoError(tb, err)
	return js
}

var buckets atomic.Int64

// newBucket returns the name of a bucket that is not there yet.
func newBucket() string { return fmt.Sprintf("checkpoints-%d", buckets.Add(1)) }

func newStore(tb testing.TB, js jetstream.JetStream, bucket string, opts ...natsstore.Option) *natsstore.Store {
	tb.Helper()
	store, err := natsstore.New(js, bucket, opts...)
	require.NoError(tb, err)
	require.NoError(tb, store.Create(tb.Context()))
	return store
}

func TestStore(t *testing.T) {
	t.Parallel()
	js := dial(t, newNode(t).Addr().String())
	storetest.Run(t, func(t *testing.T) checkpoint.Store {
		t.Helper()
		return newStore(t, js, newBucket())
	})
}

func TestStoreIsDurable(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	names := map[string]string{}
	storetest.RunDurable(t, func(t *testing.T, place string) checkpoint.Store {
		t.Helper()
		if names[place] == "" {
			names[place] = newBucket()
		} else {
			n.stop()
			n.start(t)
		}
		return newStore(t, dial(t, n.Addr().String()), names[place])
	})
}

// Two processes share nothing but the bucket: each store remembers what the other does not know.
func TestTwoStoresOnOneBucket(t *testing.T) {
	t.Parallel()
	js, bucket := dial(t, newNode(t).Addr().String()), newBucket()
	one, other := newStore(t, js, bucket), newStore(t, js, bucket)
	servertest.TwoStores(t, one, other)
}

func TestCreate(t *testing.T) {
	t.Parallel()
	js := dial(t, newNode(t).Addr().String())
	bucket := newBucket()
	store, err := natsstore.New(js, bucket)
	require.NoError(t, err)
	_, err = store.Acquire(t.Context(), "key")
	require.ErrorIs(t, err, natsstore.ErrBucket, "there is no bucket, and nothing makes one silently")
	require.ErrorContains(t, err, "call Create")
	require.ErrorIs(t, store.Commit(t.Context(), "key", 1, checkpoint.Position{}), natsstore.ErrBucket)

	errs := make(chan error)
	for range 8 {
		go func() { errs <- store.Create(t.Context()) }()
	}
	for range 8 {
		require.NoError(t, <-errs, "who creates at the same time")
	}
	_, err = store.Acquire(t.Context(), "key")
	require.NoError(t, err)
	require.NoError(t, store.Create(t.Context()), "again: it changes nothing")
	r, err := store.Load(t.Context(), "key")
	require.NoError(t, err)
	require.Equal(t, uint64(1), r.Epoch)

	kv, err := js.KeyValue(t.Context(), bucket)
	require.NoError(t, err, "it is a bucket for everybody else, too")
	keys, err := kv.Keys(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"a2V5"}, keys)
}

func TestBucketsThatWillNotDo(t *testing.T) {
	t.Parallel()
	js := dial(t, newNode(t).Addr().String())
	for want, config := range map[string]jetstream.StreamConfig{
		"max_age 0":   {MaxAge: time.Hour},
		"discard new": {MaxMsgs: 10, Discard: jetstream.DiscardOld},
	} {
		bucket := newBucket()
		config.Name, config.Subjects = "KV_"+bucket, []string{"$KV." + bucket + ".>"}
		config.MaxMsgsPerSubject = 1
		_, err := js.CreateStream(t.Context(), config)
		require.NoError(t, err)
		store, err := natsstore.New(js, bucket)
		require.NoError(t, err)
		for what, err := range map[string]error{
			"Create": store.Create(t.Context()),
			"Commit": store.Commit(t.Context(), "key", 1, checkpoint.Position{}),
		} {
			require.ErrorIs(t, err, natsstore.ErrBucket, what)
			require.ErrorContains(t, err, want, what)
		}
	}
}

// Whoever makes the bucket with NATS's own tools has a store, too.
func TestBucketOfSomebodyElse(t *testing.T) {
	t.Parallel()
	js := dial(t, newNode(t).Addr().String())
	bucket := newBucket()
	kv, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: bucket})
	require.NoError(t, err)
	store := newStore(t, js, bucket)
	r, err := store.Acquire(t.Context(), "key")
	require.NoError(t, err)
	require.NoError(t, store.Commit(t.Context(), "key", r.Epoch, checkpoint.Position{Seq: 1}))

	require.NoError(t, kv.Purge(t.Context(), "a2V5"), "by hand: the epoch is lost")
	require.ErrorIs(t, store.Commit(t.Context(), "key", r.Epoch, checkpoint.Position{Seq: 2}), checkpoint.ErrFenced)
	_, err = store.Acquire(t.Context(), "key")
	require.ErrorIs(t, err, natsstore.ErrLostWrites, "invariant 17: this process has written more")
	r, err = store.Acquire(t.Context(), "key")
	require.NoError(t, err, "again: accepted")
	require.NoError(t, store.Commit(t.Context(), "key", r.Epoch, checkpoint.Position{Seq: 1}))

	_, err = kv.Put(t.Context(), "b3RoZXI", []byte("not a record"))
	require.NoError(t, err)
	_, err = store.Acquire(t.Context(), "other")
	require.ErrorContains(t, err, "not written by this version")
	_, err = store.Load(t.Context(), "other")
	require.ErrorContains(t, err, "not written by this version")
}

func TestOptions(t *testing.T) {
	t.Parallel()
	_, err := natsstore.New(nil, "checkpoints")
	require.ErrorContains(t, err, "js is nil")
	js := dial(t, "127.0.0.1:1")
	for _, bucket := range []string{"", "a.b", "a b", ">", "*", "a/b"} {
		_, err = natsstore.New(js, bucket)
		require.ErrorContains(t, err, "no name of a bucket", bucket)
	}
	_, err = natsstore.New(js, "checkpoints", nil)
	require.ErrorContains(t, err, "an option is nil")
	_, err = natsstore.New(js, "checkpoints", natsstore.WithReplicas(0))
	require.ErrorContains(t, err, "WithReplicas")
}
