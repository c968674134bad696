package stream_test

import (
	"context"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/internal/testnet"
	"github.com/streamsafe/streamsafe/stream"
)

// A process that is killed again and again: what was committed never comes again, and all the rest does. What is
// committed is what was processed (invariant 3).
func TestRestartAfterKill(t *testing.T) {
	t.Parallel()
	for _, every := range []int{1, 7, 1000} {
		t.Run(fmt.Sprint("commit every ", every), func(t *testing.T) {
			t.Parallel()
			eachStore(t, func(t *testing.T, store checkpoint.Store) {
				t.Helper()
				const total = 100
				w := newWorld(t, &feed{total: total})
				w.Chaos(testnet.Chaos{Seed: 4, Messages: 30})
				seen := map[uint64]int{}
				for life := 1; ; life++ {
					require.Less(t, life, 50, "lives")
					p := &process{Store: store}
					s := w.mustOpen(stream.WithStore(p, "key", stream.CommitEvery(every), stream.CommitInterval(time.Second)))
					require.NoError(t, s.CloseSend())
					start := s.Stats().Committed.Seq
					p.processed.Store(start)
					got, err := p.work(s, 5+life%11)
					for i, seq := range got {
						require.Equal(t, start+uint64(i)+1, seq, "message %d of life %d, after position %d", i+1, life, start)
						seen[seq]++
					}
					rest(time.Duration(life%3) * time.Second) // the newest processed message may be committed, or not
					p.killed.Store(true)
					_ = s.Close()
					require.False(t, p.ahead.Load(), "a commit was ahead of what was processed")
					if err != nil {
						require.ErrorIs(t, err, io.EOF)
						require.Equal(t, uint64(total), committed(t, store), "flushed at the end")
						break
					}
					require.LessOrEqual(t, committed(t, store), p.processed.Load(), "committed")
				}
				require.Len(t, seen, total, "messages processed at least once")
			})
		})
	}
}

// With Commit after each batch, and an end that is told, everything comes exactly once.
func TestRestartWithManualCommit(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, store checkpoint.Store) {
		t.Helper()
		w := newWorld(t, &feed{total: 100})
		w.Chaos(testnet.Chaos{Seed: 5, Messages: 30})
		var all []uint64
		for {
			p := &process{Store: store}
			s := w.mustOpen(stream.WithStore(p, "key", stream.CommitEvery(1)), stream.WithManualCommit())
			require.NoError(t, s.CloseSend())
			got, err := p.work(s, 9)
			all = append(all, got...)
			if len(got) > 0 {
				require.NoError(t, s.Commit(t.Context()))
				require.Equal(t, got[len(got)-1], committed(t, store), "committed")
			}
			if err != nil {
				require.ErrorIs(t, err, io.EOF)
				break
			}
			_, err = p.work(s, 1) // received and not committed: it comes again
			require.NoError(t, err)
			rest(time.Minute)
			require.Equal(t, got[len(got)-1], committed(t, store), "committed without being told to")
			mustClose(t, s, "called by the test")
			require.Equal(t, got[len(got)-1], committed(t, store), "committed by Close without being told to")
		}
		require.Equal(t, upTo(100), all)
	})
}

// Invariant 25: what is processed and not yet written is written on Close, at the end and on failure.
func TestCommitIsFlushed(t *testing.T) {
	t.Parallel()
	rare := []stream.StoreOption{stream.CommitEvery(1000), stream.CommitInterval(time.Hour)}
	t.Run("on Close", func(t *testing.T) {
		t.Parallel()
		eachStore(t, func(t *testing.T, store checkpoint.Store) {
			t.Helper()
			p := &process{Store: store}
			s := newWorld(t, &feed{total: 10}).mustOpen(stream.WithStore(p, "key", rare...))
			_, err := p.work(s, 5)
			require.NoError(t, err)
			require.Zero(t, committed(t, store), "before Close")
			mustClose(t, s, "called by the test")
			require.Equal(t, uint64(4), committed(t, store), "the fifth is still in the application's hands")
		})
	})
	t.Run("at the end", func(t *testing.T) {
		t.Parallel()
		eachStore(t, func(t *testing.T, store checkpoint.Store) {
			t.Helper()
			p := &process{Store: store}
			s := newWorld(t, &feed{total: 10}).mustOpen(stream.WithStore(p, "key", rare...))
			require.NoError(t, s.CloseSend())
			_, err := p.work(s, 11)
			require.ErrorIs(t, err, io.EOF)
			require.Equal(t, uint64(10), committed(t, store), "when Recv has returned io.EOF")
		})
	})
	t.Run("on failure", func(t *testing.T) {
		t.Parallel()
		eachStore(t, func(t *testing.T, store checkpoint.Store) {
			t.Helper()
			p := &process{Store: store}
			w := scripted(t, sends(errLastWord, numbered(1, 2, 3)...))
			s := w.mustDial(positions(), stream.WithStore(p, "key", rare...))
			_, err := p.work(s, 4)
			requireReason(t, err, stream.ReasonServer, "the server's last word")
			require.Equal(t, uint64(3), committed(t, store), "when Recv has returned the error")
		})
	})
	t.Run("with the context done", func(t *testing.T) {
		t.Parallel()
		eachStore(t, func(t *testing.T, store checkpoint.Store) {
			t.Helper()
			p := &process{Store: store}
			ctx, cancel := context.WithCancel(t.Context())
			s, err := newWorld(t, &feed{total: 10}).open(ctx, stream.WithStore(p, "key", rare...))
			require.NoError(t, err)
			_, err = p.work(s, 5)
			require.NoError(t, err)
			cancel()
			synctest.Wait()
			require.Equal(t, uint64(4), committed(t, store))
		})
	})
}
