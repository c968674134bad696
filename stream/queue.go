package stream

// queue is a first-in, first-out queue on a ring that grows and keeps its storage. The zero value is empty.
type queue[T any] struct {
	ring []T
	head int
	size int
}

func (q *queue[T]) len() int { return q.size }

func (q *queue[T]) push(v T) {
	if q.size == len(q.ring) {
		q.grow()
	}
	q.ring[(q.head+q.size)%len(q.ring)] = v
	q.size++
}

// at returns the i-th element, from 0. It may be changed in place until the next push.
func (q *queue[T]) at(i int) *T { return &q.ring[(q.head+i)%len(q.ring)] }

func (q *queue[T]) front() *T { return q.at(0) }

func (q *queue[T]) back() *T { return q.at(q.size - 1) }

func (q *queue[T]) popFront() T {
	var zero T
	v := q.ring[q.head]
	q.ring[q.head] = zero
	q.head = (q.head + 1) % len(q.ring)
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
