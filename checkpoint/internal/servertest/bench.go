package servertest

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/checkpoint"
)

// Commits measures a commit beside a bare write of the same database, which take turns so that both have the same load: their
// latency, and what 16 owners of 16 keys write together. It reports medians, and the ratio of the two.
func Commits(b *testing.B, store checkpoint.Store, bare func(key string, seq uint64) error) {
	b.Helper()
	epochs := map[string]uint64{}
	for n := range owners {
		key := fmt.Sprint("key-", n)
		r, err := store.Acquire(b.Context(), key)
		require.NoError(b, err)
		epochs[key] = r.Epoch
		require.NoError(b, bare(key, 1))
	}
	commit := func(key string, seq uint64) error {
		return store.Commit(b.Context(), key, epochs[key], checkpoint.Position{Lineage: "a", Seq: seq})
	}
	b.Run("latency", func(b *testing.B) {
		var times [2][]time.Duration
		var seq uint64
		for b.Loop() {
			seq++
			for side, write := range []func(string, uint64) error{commit, bare} {
				began := time.Now()
				if err := write("key-0", seq); err != nil {
					b.Fatal(err)
				}
				times[side] = append(times[side], time.Since(began))
			}
		}
		report(b, times)
	})
	b.Run("throughput", func(b *testing.B) {
		var times [2][]time.Duration
		seq := uint64(1 << 40)
		for b.Loop() {
			for side, write := range []func(string, uint64) error{commit, bare} {
				const each = 10
				var all sync.WaitGroup
				began := time.Now()
				for key := range epochs {
					all.Go(func() {
						for i := range uint64(each) {
							if err := write(key, seq+i); err != nil {
								b.Error(err)
							}
						}
					})
				}
				all.Wait()
				times[side] = append(times[side], time.Since(began)/time.Duration(each*len(epochs)))
			}
			seq += 1 << 10
		}
		report(b, times)
	})
}

func report(b *testing.B, times [2][]time.Duration) {
	b.Helper()
	var medians [2]float64
	for side := range times {
		slices.Sort(times[side])
		medians[side] = float64(times[side][len(times[side])/2])
	}
	b.ReportMetric(medians[0], "commit-ns")
	b.ReportMetric(medians[1], "bare-ns")
	b.ReportMetric(medians[0]/medians[1], "ratio")
	b.ReportMetric(0, "ns/op")
}
