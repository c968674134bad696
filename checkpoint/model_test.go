package checkpoint_test

import (
	"maps"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/streamsafe/streamsafe/checkpoint"
)

// model is a store told in the plainest way, one key at a time.
type model struct {
	epochs    map[string]uint64              // of the last owner; it only grows
	positions map[string]checkpoint.Position // of the keys that have an owner
	updated   map[string]time.Time
	floor     uint64 // the highest epoch of a key that was forgotten
}

// commit tells what a Commit has to return, and moves the position where that is nil.
func (m *model) commit(key string, epoch uint64, to checkpoint.Position) error {
	from, owned := m.positions[key]
	switch {
	case !owned, epoch != m.epochs[key]:
		return checkpoint.ErrFenced // invariant 24
	case from.Lineage != to.Lineage, from.Seq == 0, to.Seq == 0: // invariant 17
	case to.Seq < from.Seq:
		return checkpoint.ErrRegression // invariant 24
	}
	m.positions[key] = to
	return nil
}

// forget drops the epochs of deleted keys, and tells of how many.
func (m *model) forget() (forgotten int) {
	for key, epoch := range m.epochs {
		if _, owned := m.positions[key]; !owned {
			m.floor = max(m.floor, epoch)
			delete(m.epochs, key)
			forgotten++
		}
	}
	return forgotten
}

// checkModel does the same to a store and to the model, in any order, and compares them after every step.
func checkModel(t *rapid.T, m *model, store func() checkpoint.Store, more map[string]func(*rapid.T)) {
	m.epochs = make(map[string]uint64)
	m.positions = make(map[string]checkpoint.Position)
	m.updated = make(map[string]time.Time)
	keys := []string{"a", "A", "a/b"}
	key := func(t *rapid.T) string { return rapid.SampledFrom(keys).Draw(t, "key") }
	actions := map[string]func(*rapid.T){
		"acquire": func(t *rapid.T) {
			key := key(t)
			if m.epochs[key] == 0 {
				m.epochs[key] = m.floor
			}
			m.epochs[key]++
			if _, owned := m.positions[key]; !owned {
				m.positions[key] = checkpoint.Position{}
			}
			r, err := store().Acquire(t.Context(), key)
			require.NoError(t, err)
			require.Equal(t, m.epochs[key], r.Epoch)
			require.Equal(t, m.positions[key], r.Position)
		},
		"commit": func(t *rapid.T) {
			key := key(t)
			epoch := m.epochs[key] // most of the time the owner's
			if rapid.IntRange(0, 3).Draw(t, "owner") == 0 {
				epoch = rapid.Uint64Range(0, epoch+1).Draw(t, "epoch")
			}
			to := checkpoint.Position{
				Lineage: rapid.SampledFrom([]string{"", "x", "y"}).Draw(t, "lineage"),
				Seq:     rapid.Uint64Range(0, 4).Draw(t, "seq"),
				Token:   rapid.StringN(0, 5, -1).Draw(t, "token"),
			}
			require.ErrorIs(t, store().Commit(t.Context(), key, epoch, to), m.commit(key, epoch, to))
		},
		"delete": func(t *rapid.T) {
			key := key(t)
			delete(m.positions, key)
			require.NoError(t, store().Delete(t.Context(), key))
		},
		"": func(t *rapid.T) {
			for _, key := range keys {
				at, owned := m.positions[key]
				r, err := store().Load(t.Context(), key)
				if !owned {
					require.ErrorIs(t, err, checkpoint.ErrNotFound)
					continue
				}
				require.NoError(t, err)
				require.Equal(t, m.epochs[key], r.Epoch)
				require.Equal(t, at, r.Position)
				require.False(t, r.UpdatedAt.Before(m.updated[key]), "UpdatedAt went back")
				m.updated[key] = r.UpdatedAt
			}
		},
	}
	maps.Copy(actions, more)
	t.Repeat(actions)
}

func TestMemoryIsLikeTheModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var s checkpoint.Memory
		checkModel(t, new(model), func() checkpoint.Store { return &s }, nil)
	})
}

func TestFileIsLikeTheModel(t *testing.T) {
	t.Parallel()
	base, runs := t.TempDir(), 0
	rapid.Check(t, func(t *rapid.T) {
		runs++
		dir := filepath.Join(base, strconv.Itoa(runs))
		f, err := checkpoint.OpenFile(dir)
		require.NoError(t, err)
		defer func() { require.NoError(t, f.Close()) }()
		m := new(model)
		checkModel(t, m, func() checkpoint.Store { return f }, map[string]func(*rapid.T){
			"forget": func(t *rapid.T) {
				n, err := f.Forget(t.Context())
				require.NoError(t, err)
				require.Equal(t, m.forget(), n)
			},
			"open again": func(t *rapid.T) {
				require.NoError(t, f.Close())
				again, err := checkpoint.OpenFile(dir)
				require.NoError(t, err)
				f = again
			},
		})
	})
}
