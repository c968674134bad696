// Package queue has a first-in, first-out queue that keeps its storage for the next message, and gives it back after a
// burst.
package queue

// Queue is a first-in, first-out queue on a ring. The zero value is empty. It is not safe for concurrent use.
type Queue[T any] struct {
	ring []T // its length is a power of two, or zero
	head int
	size int
	low  int // how many elements were taken in a row while an eighth of the ring, or less, was in use
}

const (
	smallest = 16  // the length of the first ring
	spared   = 512 // a ring up to this length is not given back: what comes and goes in batches does not move each time
)

// Len returns how many elements there are.
func (q *Queue[T]) Len() int { return q.size }

// Push adds v at the back.
func (q *Queue[T]) Push(v T) { *q.Add() = v }

// Add adds a zero element at the back, and returns it. It may be changed in place until the next Push, Add or Pop.
func (q *Queue[T]) Add() *T {
	if q.size == len(q.ring) {
		q.resize(max(smallest, 2*len(q.ring)))
	}
	q.size++
	return q.Back()
}

// At returns the i-th element, from 0. It may be changed in place until the next Push or Pop.
func (q *Queue[T]) At(i int) *T { return &q.ring[q.index(i)] }

// Front returns the first element.
func (q *Queue[T]) Front() *T { return q.At(0) }

// Back returns the last element.
func (q *Queue[T]) Back() *T { return q.At(q.size - 1) }

// PopFront removes the first element and returns it.
func (q *Queue[T]) PopFront() T {
	v := *q.Front()
	q.DropFront()
	return v
}

// PopBack removes the last element and returns it.
func (q *Queue[T]) PopBack() T {
	v := *q.Back()
	var none T
	*q.Back() = none // the ring holds on to nothing
	q.size--
	q.shrink()
	return v
}

// DropFront removes the first element.
func (q *Queue[T]) DropFront() {
	var none T
	*q.Front() = none // the ring holds on to nothing
	q.head = q.index(1)
	q.size--
	q.shrink()
}

// Clear removes every element and gives the storage back.
func (q *Queue[T]) Clear() { *q = Queue[T]{} }

// index returns where the i-th element is in the ring.
func (q *Queue[T]) index(i int) int { return (q.head + i) & (len(q.ring) - 1) }

// Trim gives the storage of a burst back, if the queue is empty. It is for whoever knows that the burst is over.
func (q *Queue[T]) Trim() {
	if q.size == 0 && len(q.ring) > spared {
		q.Clear()
	}
}

// shrink gives half of the storage back when an eighth of it was enough for as many elements as it has room for. So a queue
// that is long from time to time does not move its elements each time.
func (q *Queue[T]) shrink() {
	if len(q.ring) <= spared {
		return
	}
	if q.size > len(q.ring)/8 {
		q.low = 0
		return
	}
	if q.low++; q.low >= len(q.ring) {
		q.resize(len(q.ring) / 2)
	}
}

func (q *Queue[T]) resize(length int) {
	ring := make([]T, length)
	for i := range q.size {
		ring[i] = *q.At(i)
	}
	q.ring, q.head, q.low = ring, 0, 0
}

// Cap returns how many elements there is room for.
func (q *Queue[T]) Cap() int { return len(q.ring) }
