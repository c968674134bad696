package servertest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/checkpoint"
)

// Side is a write that a commit is compared with. It is called by 16 goroutines at a time, each with a key of its own.
type Side struct {
	Name  string
	Write func(key string, seq uint64) error
}

// Commit returns the commits of a store as a side. It acquires the keys.
func Commit(b *testing.B, name string, store checkpoint.Store) Side {
	b.Helper()
	epochs := map[string]uint64{}
	for n := range owners {
		r, err := store.Acquire(b.Context(), keyOf(n))
		require.NoError(b, err)
		epochs[keyOf(n)] = r.Epoch
	}
	return Side{name, func(key string, seq uint64) error {
		return store.Commit(b.Context(), key, epochs[key], checkpoint.Position{Lineage: "a", Seq: seq})
	}}
}

func keyOf(n int) string { return fmt.Sprint("key-", n) }

// Commits measures commits beside other writes to the same server: how long one takes, and what 16 owners of 16 keys write
// together. The sides take turns in random order, so that all have the same load and neighbours. It reports the median of the first
// side, and its ratio to the median of each other side.
func Commits(b *testing.B, sides ...Side) {
	b.Helper()
	var seq uint64
	one := func(s Side) time.Duration {
		seq++
		began := time.Now()
		if err := s.Write(keyOf(0), seq); err != nil {
			b.Error(err)
		}
		return time.Since(began)
	}
	all := func(s Side) time.Duration {
		const each = 10
		seq += each
		first := seq
		var workers sync.WaitGroup
		began := time.Now()
		for n := range owners {
			workers.Go(func() {
				for i := range uint64(each) {
					if err := s.Write(keyOf(n), first+i); err != nil {
						b.Error(err)
					}
				}
			})
		}
		workers.Wait()
		return time.Since(began) / (each * owners)
	}
	b.Run("latency", func(b *testing.B) { turns(b, sides, one) })
	b.Run("throughput", func(b *testing.B) { turns(b, sides, all) })
}

func turns(b *testing.B, sides []Side, turn func(Side) time.Duration) {
	b.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	times := make([][]time.Duration, len(sides))
	for b.Loop() {
		for _, n := range random.Perm(len(sides)) {
			times[n] = append(times[n], turn(sides[n]))
		}
	}
	report(b, sides, times)
}

func report(b *testing.B, sides []Side, times [][]time.Duration) {
	b.Helper()
	var first float64
	for n, side := range sides {
		slices.Sort(times[n])
		median := float64(times[n][len(times[n])/2])
		if n == 0 {
			first = median
			b.ReportMetric(median, "ns/"+side.Name)
			continue
		}
		b.ReportMetric(first/median, side.Name)
	}
	b.ReportMetric(0, "ns/op")
}
