package inbox

import (
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// This file has what the random scripts look at.

// check compares everything that can be seen with the reference.
func (m *machine) check(t *rapid.T) {
	r := &m.ref
	got := same(t, m, "Stats", func(b *Inbox[int, int]) Counts {
		c := b.Stats()
		c.LastMessage = time.Time{} // they are not the same
		return c
	})
	require.Equal(t, Counts{
		Received: r.received, Deliveries: messages(r.handed), Duplicates: r.duplicates,
		Ready: len(r.ready), Held: len(r.held), HeldSize: sizeOf(r.held),
		Delivered: last(r.handed), Processed: last(r.handed[:r.done]), Ticks: r.ticks,
	}, got, "the statistics (invariants 2 and 3)")
	require.Equal(t, r.resume(), m.boxes[0].Position(), "where the next attempt starts")
	require.Equal(t, last(r.handed[:r.done]), m.boxes[0].Committable(), "what may be committed (invariant 3)")
	for i, b := range m.boxes {
		require.Equal(t, r.counted, m.counted[i], "processed messages that the committer was told of")
		require.Equal(t, r.moved, m.moved[i], "positions alone that the committer was told of")
		m.fields(t, b)
	}
}

// fields looks at what the comments on the fields say.
func (m *machine) fields(t *rapid.T, b *Inbox[int, int]) {
	b.lock()
	defer b.unlock()
	r := &m.ref
	require.Zero(t, b.lane.word.Load(), "the lane while the lock is held")
	require.Zero(t, b.waiters, "who waits")
	require.Equal(t, r.busy, b.busy, "whether somebody is in RecvMsg")
	require.Equal(t, r.standIn, b.standIn, "whether that is not the application")
	require.Equal(t, r.attempt, b.attempt, "the attempt")
	require.Equal(t, sizeOf(r.ready), b.readySize, "the cost of what is ready (invariant 40)")
	require.Equal(t, messages(r.arrived), b.accepted, "messages that have arrived for good")
	require.Equal(t, r.uncovered(), b.uncovered, "messages after the last position")
	require.Equal(t, messages(r.handed[r.done:]) > 0, b.handedOver,
		"whether a message is in the application's hands")
}
