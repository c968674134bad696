package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/internal/testnet"
)

// watchedStore is a store that looks at the journal whenever a position is committed.
type watchedStore struct {
	checkpoint.Memory
	journal string
	commits int
	last    checkpoint.Position
	failAt  uint64 // commits fail from this answer on; 0: none
}

var errBroken = errors.New("the disk is full")

func (s *watchedStore) Commit(ctx context.Context, key string, epoch uint64, p checkpoint.Position) error {
	if s.failAt > 0 && p.Seq >= s.failAt {
		return errBroken
	}
	info, err := os.Stat(s.journal)
	if err != nil {
		return err
	}
	if info.Size() < int64(p.Seq)*entrySize {
		return errors.New("a position was committed before its answers were written")
	}
	s.commits, s.last = s.commits+1, p
	return s.Memory.Commit(ctx, key, epoch, p)
}

// site is a server behind a network, and a client that was not started.
type site struct {
	client  *client
	store   *watchedStore
	network *testnet.TCP
}

// newSite makes one whose saboteur has all the cuts to make.
func newSite(t *testing.T, lines uint64, cuts int) *site {
	t.Helper()
	network, err := testnet.NewTCP("")
	require.NoError(t, err)
	listener, err := network.Listen()
	require.NoError(t, err)
	server := serve(listener, &counter{}, newSaboteur(network.Network, cuts, lines).intercept)
	t.Cleanup(func() {
		server.stop()
		assert.NoError(t, network.Close())
	})
	store := &watchedStore{journal: filepath.Join(t.TempDir(), "journal")}
	return &site{store: store, network: network, client: &client{
		input: inputOf(t, int(lines), "word"), lines: lines, address: network.Addr(), store: store,
		journal: store.journal, report: func(report) {},
	}}
}

// The checkpoint never runs ahead of the answers (invariant 26).
func TestCommitFollowsTheJournal(t *testing.T) {
	t.Parallel()
	s := newSite(t, 950, 0)
	require.NoError(t, s.client.run(t.Context()))
	assert.Equal(t, 10, s.store.commits)
	assert.Equal(t, uint64(950), s.store.last.Seq)
	result, err := verify(s.client.input, s.client.lines, s.store.journal)
	require.NoError(t, err)
	assert.True(t, result.ok())

	require.NoError(t, s.client.run(t.Context()), "nothing remains")
	assert.Equal(t, 10, s.store.commits)
}

// Where the network has no faults of its own, the last answer waits for the saboteur's.
func TestEveryCutHappens(t *testing.T) {
	t.Parallel()
	s := newSite(t, 10, 5)
	require.NoError(t, s.client.run(t.Context()))
	assert.Len(t, s.network.Cuts(), 5)
	result, err := verify(s.client.input, s.client.lines, s.store.journal)
	require.NoError(t, err)
	assert.True(t, result.ok())
}

// What goes wrong in one half of the client ends the other one too.
func TestClientFails(t *testing.T) {
	t.Parallel()
	t.Run("receive", func(t *testing.T) {
		t.Parallel()
		s := newSite(t, 1000, 0)
		s.store.failAt = 200
		require.ErrorIs(t, s.client.run(t.Context()), errBroken)
		s.store.failAt = 0
		require.NoError(t, s.client.run(t.Context()), "and goes on after it")
		result, err := verify(s.client.input, s.client.lines, s.store.journal)
		require.NoError(t, err)
		assert.True(t, result.ok())
	})
	t.Run("send", func(t *testing.T) {
		t.Parallel()
		s := newSite(t, 1000, 0)
		s.client.input = filepath.Join(t.TempDir(), "gone")
		require.ErrorIs(t, s.client.run(t.Context()), os.ErrNotExist)
	})
	t.Run("cancelled", func(t *testing.T) {
		t.Parallel()
		s := newSite(t, 1000, 0)
		ctx, cancel := context.WithCancel(t.Context())
		s.client.report = func(report) { cancel() }
		require.ErrorIs(t, s.client.run(ctx), context.Canceled)
	})
}
