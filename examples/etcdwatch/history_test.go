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

// A state that does not follow from the one before is told, not smoothed over.
func TestHistoryWithHoles(t *testing.T) {
	t.Parallel()
	for name, next := range map[string]state{
		"a change of an earlier revision": {"/a": {revision: 4, key: "/a"}},
		"another content":                 {"/a": {revision: 3, key: "/a", content: 1}},
		"a key from nowhere":              {"/a": {revision: 3, key: "/a"}, "/b": {revision: 2, key: "/b"}},
		"a change that is still to come":  {"/a": {revision: 6, key: "/a"}},
	} {
		h := &history{revision: 4, state: state{"/a": {revision: 3, key: "/a"}}}
		require.ErrorContains(t, h.add(next), "nobody knew", name)
	}
}
