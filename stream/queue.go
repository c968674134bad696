package stream

// queue is a first-in, first-out queue on a ring that grows and keeps its storage. The zero value is empty.
type queue[T any] struct {
	ring []T // its length is a power of two
	head int
	size int
}

func (q *queue[T]) len() int { return q.size }

func (q *queue[T]) push(v T) {
	if q.size == len(q.ring) {
		q.grow()
	}
	q.ring[q.index(q.size)] = v
	q.size++
}

// at returns the i-th element, from 0. It may be changed in place until the next push.
func (q *queue[T]) at(i int) *T { return &q.ring[q.index(i)] }

// index returns where the i-th element is in the ring.
func (q *queue[T]) index(i int) int { return (q.head + i) & (len(q.ring) - 1) }

func (q *queue[T]) front() *T { return q.at(0) }

func (q *queue[T]) back() *T { return q.at(q.size - 1) }

func (q *queue[T]) popFront() T {
	var zero T
	v := q.ring[q.head]
	q.ring[q.head] = zero
	q.head = q.index(1)
	q.size--
	return v
}

func (q *queue[T]) popBack() T {
	var zero T
	last := q.back()
	v := *last
	*last = zero
	q.size--
	return v
}

func (q *queue[T]) grow() {
	ring := make([]T, max(16, 2*len(q.ring)))
	for i := range q.size {
		ring[i] = *q.at(i)
	}
	q.ring, q.head = ring, 0
}
