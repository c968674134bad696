package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// newCluster starts one for a test.
func newCluster(t *testing.T) (*cluster, *clientv3.Client) {
	t.Helper()
	c, err := startCluster(t.Context(), t.TempDir())
	require.NoError(t, err)
	t.Cleanup(c.close)
	return c, clientOf(t, c)
}

func clientOf(t *testing.T, c *cluster, members ...int) *clientv3.Client {
	t.Helper()
	client, err := c.client(members...)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, client.Close()) })
	return client
}

// commit makes changes in one revision, and returns that.
func commit(t *testing.T, client *clientv3.Client, changes ...clientv3.Op) int64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	answer, err := insist(ctx, readTimeout, func(ctx context.Context) (*clientv3.TxnResponse, error) {
		return client.Txn(ctx).Then(changes...).Commit()
	})
	require.NoError(t, err)
	return answer.Header.Revision
}

// watchFrom watches a key range over a proxy, from a revision.
func watchFrom(t *testing.T, endpoint string, s spec, revision int64) etcdserverpb.Watch_WatchClient {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() }) // it may be dead
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	stream, err := etcdserverpb.NewWatchClient(conn).Watch(ctx)
	require.NoError(t, err)
	request := &etcdserverpb.WatchCreateRequest{
		Key: []byte(s.key), RangeEnd: []byte(s.end), WatchId: s.id, StartRevision: revision, Fragment: true, ProgressNotify: true,
	}
	require.NoError(t, stream.Send(&etcdserverpb.WatchRequest{
		RequestUnion: &etcdserverpb.WatchRequest_CreateRequest{CreateRequest: request},
	}))
	return stream
}

// The members are real ones: they go on where they were, with a majority and only then.
func TestClusterStopsAndRestarts(t *testing.T) {
	t.Parallel()
	c, client := newCluster(t)
	commit(t, client, clientv3.OpPut("/a", "1"))

	stream := watchFrom(t, c.endpoints()[1], watches()[0], 0)
	_, err := stream.Recv() // created
	require.NoError(t, err)
	c.kill(1)
	_, err = stream.Recv()
	require.Error(t, err, "a crash ends the watch")
	commit(t, client, clientv3.OpPut("/a", "2"))

	c.kill(2)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err = clientOf(t, c, 0).Put(ctx, "/a", "no majority")
	require.Error(t, err)
	require.NoError(t, c.restart(t.Context(), 1, 2))
	commit(t, client, clientv3.OpPut("/a", "3"))

	c.stop(0)
	commit(t, client, clientv3.OpPut("/a", "4"))
	require.NoError(t, c.restart(t.Context(), 0))
	for member := range members {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		answer, err := insist(ctx, readTimeout, func(ctx context.Context) (*clientv3.GetResponse, error) {
			return clientOf(t, c, member).Get(ctx, "/a")
		})
		require.NoError(t, err)
		assert.Equal(t, "4", string(answer.Kvs[0].Value), "member %d", member)
	}
	created, err := watchFrom(t, c.endpoints()[1], watches()[0], 0).Recv()
	require.NoError(t, err, "the proxies let connections through again")
	assert.True(t, created.GetCreated())
}

// What the example promises to show is there: fragments, positions without events, history that is gone.
func TestWatchResponses(t *testing.T) {
	t.Parallel()
	c, client := newCluster(t)
	s := watches()[0]
	var last int64
	for range burstChanges {
		changes := make([]clientv3.Op, keysPerPrefix)
		for i := range changes {
			changes[i] = clientv3.OpPut(key(s.key, i), strings.Repeat("x", longest*3/4))
		}
		last = commit(t, client, changes...)
	}
	stream := watchFrom(t, c.endpoints()[0], s, 1)
	events, fragments, split := 0, 0, false
	for progress := false; !progress; {
		m, err := stream.Recv()
		require.NoError(t, err)
		events += len(m.GetEvents())
		if m.GetFragment() {
			fragments++
			split = split || events%keysPerPrefix > 0
		}
		progress = !m.GetCreated() && len(m.GetEvents()) == 0
		if progress {
			assert.Equal(t, last, m.GetHeader().GetRevision())
		}
	}
	assert.Equal(t, burstChanges*keysPerPrefix, events)
	assert.Positive(t, fragments)
	assert.True(t, split, "a fragment ends inside a revision")

	_, err := client.Compact(t.Context(), last)
	require.NoError(t, err)
	stream = watchFrom(t, c.endpoints()[0], s, last-1)
	for {
		m, err := stream.Recv()
		require.NoError(t, err)
		if m.GetCanceled() {
			assert.Equal(t, last, m.GetCompactRevision())
			return
		}
	}
}
