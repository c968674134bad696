package unary

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestFlight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &flight{}
		require.True(t, f.takeOff())
		require.True(t, f.takeOff())
		f.land()
		closed := false
		go func() { // ends when both have landed; the bubble waits
			f.close()
			closed = true
		}()
		synctest.Wait()
		require.False(t, closed, "one still runs")
		require.False(t, f.takeOff(), "the call has ended")
		f.land()
		synctest.Wait()
		require.True(t, closed)
		require.False(t, f.takeOff())
	})
}

func TestHedgeGroup(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &hedgeGroup[string]{}
		ended := make(chan string, 4)
		end := func(ctx context.Context, name string, is rank) {
			go func() { // ends with the group or ctx
				g.end(ctx, name, is)
				ended <- name
			}()
			synctest.Wait()
		}
		g.begin()
		g.begin()
		g.begin()
		end(t.Context(), "failed first", failure)
		ctx, cancel := context.WithCancel(t.Context())
		end(ctx, "failed and cancelled", failure)
		require.Empty(t, ended, "a failure waits for those that run")
		cancel()
		require.Equal(t, "failed and cancelled", <-ended)
		end(t.Context(), "failed last", failure)
		require.ElementsMatch(t, []string{"failed first", "failed last"}, []string{<-ended, <-ended})

		g.begin() // and again
		g.begin()
		end(t.Context(), "succeeded", success)
		require.Equal(t, "succeeded", <-ended, "a success does not wait")
		var none *hedgeGroup[string]
		none.begin()
	})
}

// Latency's buckets follow each other without a gap.
func TestBuckets(t *testing.T) {
	t.Parallel()
	for i := range bucket(time.Duration(1<<63-1)) + 1 {
		require.Equal(t, i, bucket(upper(i)), "the greatest of bucket %d", i)
		if i > 0 {
			require.Equal(t, i, bucket(upper(i-1)+1), "the least of bucket %d", i)
		}
	}
	require.Zero(t, bucket(-1))
}
