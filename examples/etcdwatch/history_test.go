package main

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// wrote is a change without what it cannot be compared by here.
type wrote struct {
	revision int64 // since the beginning
	key      string
	deleted  bool
}

// The history is what was written, also where it is read in pieces and gone after that.
func TestHistory(t *testing.T) {
	t.Parallel()
	_, client := newCluster(t)
	base := commit(t, client, clientv3.OpPut("/old", "1"), clientv3.OpPut("/gone", "1"))
	h, err := newHistory(t.Context(), client, base)
	require.NoError(t, err)

	commit(t, client, clientv3.OpPut("/a", "1"))
	commit(t, client, clientv3.OpPut("/b", "1"), clientv3.OpPut("/a", "1"), clientv3.OpDelete("/gone"))
	commit(t, client, clientv3.OpDelete("/a"))
	commit(t, client, clientv3.OpPut("/a", "1"))
	now := commit(t, client, clientv3.OpDelete("/none"), clientv3.OpPut("/old", "2"))
	require.NoError(t, h.readTo(t.Context(), now-2))
	require.NoError(t, h.readTo(t.Context(), now))
	_, err = client.Compact(t.Context(), now)
	require.NoError(t, err)
	last := now
	for range 2 * historyReaders {
		last = commit(t, client, clientv3.OpPut("/b", "2"))
	}
	require.NoError(t, h.readTo(t.Context(), last))

	want := []wrote{
		{1, "/a", false},
		{2, "/a", false},
		{2, "/b", false},
		{2, "/gone", true},
		{3, "/a", true},
		{4, "/a", false},
		{5, "/old", false},
	}
	want = slices.Grow(want, 2*historyReaders)
	for i := range int64(2 * historyReaders) {
		want = append(want, wrote{6 + i, "/b", false})
	}
	got := make([]wrote, 0, len(h.changes))
	contents := make(map[uint64]bool)
	for _, c := range h.changes {
		got = append(got, wrote{c.revision - base, c.key, c.deleted})
		if !c.deleted {
			contents[c.content] = true
		}
	}
	assert.Equal(t, want, got)
	// The first put of /b and the two of /a that made it anew differ by nothing but revisions or versions.
	assert.Len(t, contents, 2*historyReaders+5)

	_, err = newHistory(t.Context(), client, base)
	require.ErrorIs(t, err, rpctypes.ErrCompacted, "what is gone is not read as something else")
}
