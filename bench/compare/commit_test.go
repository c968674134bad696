package compare_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/streamsafe/streamsafe/checkpoint"
)

// BenchmarkCommit compares a commit to checkpoint.File with the same position put into bbolt, and with a file that is
// replaced by a rename. They take turns, so that a disk that becomes slower is slower for all. The ratios are those of
// the medians of one run.
//
// bbolt only writes. File also reads the record, and checks the owner and that the position does not go back.
func BenchmarkCommit(b *testing.B) {
	for _, size := range []struct {
		name  string
		bytes int
	}{{"16B", 16}, {"1KiB", 1 << 10}, {"64KiB", 64 << 10}} {
		b.Run("token="+size.name, func(b *testing.B) {
			token := strings.Repeat("t", size.bytes)
			stores := []struct {
				name   string
				commit func(seq uint64)
				took   []time.Duration
			}{
				{name: "file", commit: fileCommit(b, token)},
				{name: "bbolt", commit: bboltCommit(b, token)},
				{name: "rename", commit: renameCommit(b, token)},
			}
			const together = 10 // so that one store's last write is not in the next one's sync
			for seq := uint64(1); b.Loop(); seq++ {
				for i := range stores {
					for n := range uint64(together) {
						began := time.Now()
						stores[i].commit(seq*together + n)
						if n > 0 {
							stores[i].took = append(stores[i].took, time.Since(began))
						}
					}
				}
			}
			median := make(map[string]float64)
			for _, s := range stores {
				slices.Sort(s.took)
				median[s.name] = float64(s.took[len(s.took)/2])
				b.ReportMetric(median[s.name]/1e3, s.name+"-µs")
			}
			b.ReportMetric(median["file"]/median["bbolt"], "file/bbolt")
			b.ReportMetric(0, "ns/op") // of all of them together
		})
	}
}

func fileCommit(b *testing.B, token string) func(uint64) {
	b.Helper()
	f, err := checkpoint.OpenFile(b.TempDir())
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, f.Close()) })
	owner, err := f.Acquire(b.Context(), "orders")
	require.NoError(b, err)
	return func(seq uint64) {
		require.NoError(b, f.Commit(b.Context(), "orders", owner.Epoch, checkpoint.Position{Lineage: "a", Seq: seq, Token: token}))
	}
}

func bboltCommit(b *testing.B, token string) func(uint64) {
	b.Helper()
	db, err := bbolt.Open(filepath.Join(b.TempDir(), "bbolt"), 0o600, nil)
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, db.Close()) })
	bucket := []byte("positions")
	require.NoError(b, db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket(bucket)
		return err
	}))
	return func(seq uint64) {
		value := encode(seq, token)
		require.NoError(b, db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bucket).Put([]byte("orders"), value) }))
	}
}

// renameCommit writes a second file, syncs it, puts it in place of the first, and syncs the directory.
func renameCommit(b *testing.B, token string) func(uint64) {
	b.Helper()
	dir := b.TempDir()
	path := filepath.Join(dir, "orders")
	return func(seq uint64) {
		f, err := os.Create(path + ".tmp")
		require.NoError(b, err)
		_, err = f.Write(encode(seq, token))
		require.NoError(b, err)
		require.NoError(b, f.Sync())
		require.NoError(b, f.Close())
		require.NoError(b, os.Rename(path+".tmp", path))
		d, err := os.Open(dir)
		require.NoError(b, err)
		require.NoError(b, d.Sync())
		require.NoError(b, d.Close())
	}
}

func encode(seq uint64, token string) []byte {
	b := make([]byte, 8, 8+len(token))
	for i := range b {
		b[i] = byte(seq >> (8 * i))
	}
	return append(b, token...)
}
