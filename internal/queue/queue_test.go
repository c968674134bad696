package queue_test

import (
	"runtime"
	"testing"
	"weak"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/streamsafe/streamsafe/internal/queue"
)

// A queue is a list, whatever is done to it.
func TestQueueIsAList(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var q queue.Queue[int]
		var want []int
		next := 0
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				for range rapid.IntRange(1, 50).Draw(t, "pushes") {
					next++
					q.Push(next)
					want = append(want, next)
				}
			},
			"pop front": func(t *rapid.T) {
				for range rapid.IntRange(0, len(want)).Draw(t, "pops") {
					require.Equal(t, want[0], q.PopFront())
					want = want[1:]
				}
			},
			"pop back": func(t *rapid.T) {
				if len(want) > 0 {
					require.Equal(t, want[len(want)-1], q.PopBack())
					want = want[:len(want)-1]
				}
			},
			"change": func(*rapid.T) {
				if len(want) > 0 {
					want[len(want)/2]++
					*q.At(len(want) / 2)++
				}
			},
			"clear": func(*rapid.T) {
				q.Clear()
				want = nil
			},
			"": func(t *rapid.T) {
				require.Equal(t, len(want), q.Len())
				for i := range want {
					require.Equal(t, want[i], *q.At(i), "element %d", i)
				}
				if len(want) > 0 {
					require.Equal(t, want[0], *q.Front())
					require.Equal(t, want[len(want)-1], *q.Back())
				}
			},
		})
	})
}

// What a burst needed is given back (invariant 40), and a steady queue does not allocate.
func TestStorageAfterABurst(t *testing.T) { //nolint:paralleltest // it counts the allocations of the whole process
	var q queue.Queue[[64]byte]
	const burst = 1 << 14
	for range burst {
		q.Push([64]byte{})
	}
	for q.Len() > 0 {
		q.PopFront()
	}
	q.Trim()
	require.LessOrEqual(t, q.Cap(), 512, "elements there is room for after a burst of %d", burst)
	for range burst {
		q.Push([64]byte{})
	}
	for q.Len() > 0 {
		q.PopBack()
	}
	q.Trim()
	require.LessOrEqual(t, q.Cap(), 512, "elements there is room for after a burst of %d, taken from the back", burst)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		q.Push([64]byte{})
		q.PopFront()
	}), "allocations of a steady queue")
	for range burst {
		q.Push([64]byte{})
	}
	for q.Len() > 3 {
		q.PopFront()
	}
	require.Zero(t, testing.AllocsPerRun(10, func() {
		for range burst / 2 {
			q.Push([64]byte{})
		}
		for q.Len() > 3 {
			q.PopFront()
		}
	}), "allocations of a queue that is long from time to time")
	for range 3 * burst {
		q.Push([64]byte{})
		q.PopFront()
	}
	require.LessOrEqual(t, q.Cap(), 512, "elements there is room for when three were enough for long")
}

// A queue holds on to nothing that was taken from it (invariant 40).
func TestNothingIsHeldOnTo(t *testing.T) {
	t.Parallel()
	for name, take := range map[string]func(q *queue.Queue[*[64]byte]){
		"from the front": func(q *queue.Queue[*[64]byte]) { q.PopFront() },
		"from the back":  func(q *queue.Queue[*[64]byte]) { q.PopBack() },
		"all":            func(q *queue.Queue[*[64]byte]) { q.Clear() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var q queue.Queue[*[64]byte]
			element := new([64]byte)
			taken := weak.Make(element)
			q.Push(element)
			take(&q)
			runtime.GC()
			require.Nil(t, taken.Value(), "what was taken, after a garbage collection")
			runtime.KeepAlive(&q)
		})
	}
}
