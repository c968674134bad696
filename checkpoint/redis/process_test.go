package redis_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/checkpoint/internal/servertest"
	checkpointredis "github.com/streamsafe/streamsafe/checkpoint/redis"
	"github.com/streamsafe/streamsafe/checkpoint/storetest"
)

// process is a Redis server of the test's own. It keeps what it has written.
type process struct {
	t       *testing.T
	program string
	args    []string
	cmd     *exec.Cmd

	Address string
}

func startProcess(t *testing.T, args ...string) *process {
	t.Helper()
	program := servertest.Program(t, "redis-server")
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it returns at once
	require.NoError(t, err)
	address := listener.Addr().String()
	_, port, _ := net.SplitHostPort(address)
	require.NoError(t, listener.Close())
	dir, err := os.MkdirTemp("", "redis") //nolint:usetesting // the server writes until the last cleanup
	require.NoError(t, err)
	p := &process{t: t, program: program, Address: address, args: append([]string{
		"--bind", "127.0.0.1", "--port", port, "--dir", dir, "--save", "", "--appendonly", "yes", "--appendfsync", "always",
		"--repl-diskless-sync-delay", "0",
	}, args...)}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	p.Start()
	t.Cleanup(p.Stop)
	return p
}

// Start returns when the server answers.
func (p *process) Start() {
	p.cmd = exec.Command(p.program, p.args...) //nolint:gosec,noctx // Stop kills it
	require.NoError(p.t, p.cmd.Start())
	client := redis.NewClient(&redis.Options{Addr: p.Address, MaxRetries: -1})
	defer client.Close()
	require.Eventually(p.t, func() bool {
		return client.Ping(context.Background()).Err() == nil
	}, 30*time.Second, 10*time.Millisecond, "the server starts")
}

// Stop kills the server.
func (p *process) Stop() {
	if p.cmd != nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		p.cmd = nil
	}
}

// A cluster of one master, which has all slots. Its client asks for the slot of each key.
func TestCluster(t *testing.T) {
	t.Parallel()
	p := startProcess(t, "--cluster-enabled", "yes")
	require.NoError(t, newClient(t, p.Address).ClusterAddSlotsRange(t.Context(), 0, 16383).Err())
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{p.Address}, ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = client.Close() })
	require.Eventually(t, func() bool {
		return strings.Contains(client.ClusterInfo(t.Context()).Val(), "cluster_state:ok")
	}, 30*time.Second, 10*time.Millisecond, "the cluster takes commands")
	storetest.Run(t, func(t *testing.T) checkpoint.Store {
		t.Helper()
		store, err := checkpointredis.NewCluster(client, checkpointredis.WithPrefix(newPrefix()))
		require.NoError(t, err)
		require.NoError(t, store.Create(t.Context()))
		return store
	})
	_, err := checkpointredis.NewCluster(client, nil)
	require.ErrorContains(t, err, "an option is nil")
}

func TestCreateSeesThatNothingIsEvicted(t *testing.T) {
	t.Parallel()
	p := startProcess(t, "--maxmemory-policy", "allkeys-lru")
	store, err := checkpointredis.New(newClient(t, p.Address))
	require.NoError(t, err)
	require.ErrorIs(t, store.Create(t.Context()), checkpointredis.ErrEvicts)
	for _, policy := range []string{"volatile-lru", "noeviction"} { // the first one takes only keys that have a time limit
		require.NoError(t, newClient(t, p.Address).ConfigSet(t.Context(), "maxmemory-policy", policy).Err())
		require.NoError(t, store.Create(t.Context()), policy)
	}
}

// A server whose memory is full refuses. It loses nothing.
func TestMemoryIsFull(t *testing.T) {
	t.Parallel()
	p := startProcess(t)
	client := newClient(t, p.Address)
	store := newStore(t, client)
	owner, err := store.Acquire(t.Context(), "key")
	require.NoError(t, err)
	require.NoError(t, store.Commit(t.Context(), "key", owner.Epoch, checkpoint.Position{Seq: 1}))
	require.NoError(t, client.ConfigSet(t.Context(), "maxmemory", "1").Err())
	require.ErrorContains(t, store.Commit(t.Context(), "key", owner.Epoch, checkpoint.Position{Seq: 2}), "OOM")
	r, err := store.Load(t.Context(), "key")
	require.NoError(t, err)
	require.Equal(t, uint64(1), r.Position.Seq)
	require.NoError(t, client.ConfigSet(t.Context(), "maxmemory", "0").Err())
	require.NoError(t, store.Commit(t.Context(), "key", owner.Epoch, checkpoint.Position{Seq: 2}))
}

// Between commits the server forgets its scripts.
func TestScriptFlush(t *testing.T) {
	t.Parallel()
	p := startProcess(t)
	client := newClient(t, p.Address)
	store := newStore(t, client)
	owner, err := store.Acquire(t.Context(), "key")
	require.NoError(t, err)
	for seq := uint64(1); seq <= 20; seq++ {
		require.NoError(t, client.ScriptFlush(t.Context()).Err())
		require.NoError(t, store.Commit(t.Context(), "key", owner.Epoch, checkpoint.Position{Seq: seq}))
		require.NoError(t, client.ScriptFlush(t.Context()).Err())
		r, err := store.Load(t.Context(), "key")
		require.NoError(t, err)
		require.Equal(t, seq, r.Position.Seq)
	}
}

// The server becomes a replica, and a master again: no false success, and nothing is lost.
func TestReplicaOfAndBack(t *testing.T) {
	t.Parallel()
	one, other := startProcess(t), startProcess(t)
	client := newClient(t, one.Address)
	store := newStore(t, client)
	owner, err := store.Acquire(t.Context(), "key")
	require.NoError(t, err)
	replicate := func(from, to *process) {
		t.Helper()
		host, port := "no", "one"
		if to != nil {
			host, port = "127.0.0.1", to.Address[strings.LastIndex(to.Address, ":")+1:]
		}
		require.NoError(t, newClient(t, from.Address).Do(t.Context(), "REPLICAOF", host, port).Err())
	}
	synced := func(replica *process) {
		t.Helper()
		require.Eventually(t, func() bool {
			return strings.Contains(newClient(t, replica.Address).Info(t.Context(), "replication").Val(), "master_link_status:up")
		}, 30*time.Second, 20*time.Millisecond, "the replica has all")
	}
	var seq uint64
	for round := range 3 {
		seq++
		require.NoError(t, store.Commit(t.Context(), "key", owner.Epoch, checkpoint.Position{Seq: seq}), "round %d", round)
		replicate(other, one)
		synced(other)
		replicate(other, nil)
		replicate(one, other)
		for _, call := range []func() error{
			func() error {
				return store.Commit(t.Context(), "key", owner.Epoch, checkpoint.Position{Seq: seq + 1})
			},
			func() error { _, err := store.Acquire(t.Context(), "key"); return err },
			func() error { _, err := store.Load(t.Context(), "key"); return err },
			func() error { return store.Delete(t.Context(), "key") },
		} {
			require.ErrorIs(t, call(), checkpointredis.ErrNotWriter, "invariant 55: a replica tells nothing")
		}
		synced(one)
		replicate(one, nil)
		r, err := store.Load(t.Context(), "key")
		require.NoError(t, err)
		require.Equal(t, seq, r.Position.Seq, "no false success, and no loss")
		require.Equal(t, owner.Epoch, r.Epoch)
	}
	seq++
	require.NoError(t, store.Commit(t.Context(), "key", owner.Epoch, checkpoint.Position{Seq: seq}), "it is still the owner")

	// It becomes a replica of a server that has nothing, which takes everything away: fenced, and not a success.
	empty := startProcess(t)
	replicate(one, empty)
	synced(one)
	replicate(one, nil)
	require.ErrorIs(t, store.Commit(t.Context(), "key", owner.Epoch, checkpoint.Position{Seq: seq + 1}), checkpoint.ErrFenced)
	_, err = store.Acquire(t.Context(), "key")
	require.ErrorIs(t, err, checkpointredis.ErrLostWrites, "invariant 17: it has less than this process has committed")
	_, err = store.Acquire(t.Context(), "key")
	require.NoError(t, err, "again: accepted")
}
