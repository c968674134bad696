package inbox

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/checkpoint"
)

// What may wait for an application that does not receive has a bound, in messages and in bytes (invariants 8 and 40). What
// Begin takes makes room again.
func TestWhatMayWait(t *testing.T) {
	t.Parallel()
	fill := func(b *Inbox[int, int], size int) (n int) {
		b.Attach(1)
		for ; b.Claim(1, false); n++ {
			in := next(b.Position().Seq + 1)
			in.Size = size
			b.Arrived(1, in, true)
		}
		return n
	}
	require.Equal(t, 65_536, fill(New[int, int](Config{}), 0), "empty messages that may wait")
	require.Equal(t, 16, fill(New[int, int](Config{}), 1<<20), "messages of 1 MiB that may wait")
	b := New[int, int](Config{MaxReady: 4, MaxReadySize: 1000})
	require.Equal(t, 4, fill(b, 1), "small messages that may wait")
	require.Zero(t, fill(b, 1), "further ones")
	_, _, _ = b.Begin()
	require.Equal(t, 1, fill(b, 1), "further ones, after one was handed over")
	b = New[int, int](Config{MaxReady: 9, MaxReadySize: 1000})
	require.Equal(t, 2, fill(b, 500), "large messages that may wait")
	_, _, _ = b.Begin()
	require.Equal(t, 1, fill(b, 500), "further ones, after one was handed over")
}

// The time of the last message is known from the first call of Stats on, with the fast lane and without.
func TestWhenTheLastMessageCame(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := New[int, int](Config{})
		b.Attach(1)
		seq := uint64(0)
		receive := func() time.Time {
			seq++
			time.Sleep(time.Second)
			_, _, _ = b.Begin()
			b.Arrived(1, next(seq), false)
			return time.Now()
		}
		receive()
		require.Zero(t, b.Stats().LastMessage, "nobody wanted to know")
		for range 3 {
			at := receive()
			require.Equal(t, at, b.Stats().LastMessage, "when the last message came")
		}
		receive()
		at := receive()
		_, fast := b.beginFast()
		require.True(t, fast, "Begin does not take the lane")
		require.Equal(t, at, b.Stats().LastMessage, "when the last message came")
	})
}

// After the end a new position is where the stream stands, and nothing of what came before it is handed over, or processed.
func TestANewPositionAfterTheEnd(t *testing.T) {
	t.Parallel()
	b := New[int, int](Config{})
	b.Attach(1)
	b.Arrived(1, next(1), true)
	b.Abandon(errClosed)
	b.Begins(checkpoint.Position{Lineage: "new"})
	c := b.Stats()
	require.Equal(t, Counts{Received: 1}, c, "nothing waits, nothing was handed over, nothing is processed")
	require.Equal(t, checkpoint.Position{Lineage: "new"}, b.Position(), "where the stream stands")
}
