package outbox

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/mem"
)

func bytesOf(text string) mem.BufferSlice { return mem.BufferSlice{mem.SliceBuffer(text)} }

// newReplay returns an outbox with replay, and an attempt.
func newReplay() *scene {
	s := &scene{Outbox: New[int](Config{Replay: true, Messages: 9, Bytes: 1 << 20})}
	s.Attach(1, true)
	return s
}

// A codec that ends late, with the turn of another message, does not hide that the one in hand was encoded: it may have reached
// the wire (invariant 34).
func TestALateCodec(t *testing.T) {
	t.Parallel()
	s := newReplay()
	s.send()
	_, turn := s.Encoded("of an interceptor's")
	s.encode()
	s.settle(OK)
	s.send()
	s.encode()
	s.Keep("of an interceptor's", turn, bytesOf("late"))
	outcome, _ := s.Settle(s.ticket, Lost)
	require.Equal(t, Outcome{Sent, Suspect}, outcome, "what becomes of a message that was encoded")

	s = newReplay()
	s.send()
	first := s.message
	_, turn = s.Encoded(first)
	s.settle(Rejected)
	s.message = first // it is sent once more
	s.ticket, _ = s.Begin(first, 0, false)
	s.Keep(first, turn, bytesOf("late"))
	outcome, _ = s.Settle(s.ticket, Failed)
	require.Equal(t, Outcome{TakenBack, Lives}, outcome, "what becomes of a message that was encoded in an earlier turn only")
}

// The codec's bytes of a message are kept for that message, and no other: not for one that it is replaced with, not for one
// that was acknowledged, not in another turn.
func TestWhatIsKept(t *testing.T) {
	t.Parallel()
	s := newReplay()
	s.send()
	_, turn := s.Encoded(s.message)
	s.Keep(&message{}, turn, bytesOf("another"))
	require.Zero(t, s.Stats().UnackedSize, "bytes kept of a message that was replaced")
	s.Keep(s.message, turn+1, bytesOf("late"))
	require.Zero(t, s.Stats().UnackedSize, "bytes kept of another turn")
	s.Keep(s.message, turn, bytesOf("abc"))
	require.Equal(t, 3, s.Stats().UnackedSize, "bytes kept")
	s.Keep(s.message, turn, bytesOf("again"))
	require.Equal(t, 3, s.Stats().UnackedSize, "bytes kept, after the message was encoded twice")
	s.settle(OK)
	s.send()
	s.Acknowledge(2)
	s.encode()
	require.Equal(t, Counts{Sent: 2, LastSeq: 2, Acked: 2}, s.Stats(), "after a message was acknowledged before it was kept")
}

// An acknowledgement of a message that is taken back was for nothing: the next one has its number, and has to be acknowledged
// itself (invariant 7).
func TestAnAcknowledgementOfWhatWasTakenBack(t *testing.T) {
	t.Parallel()
	for _, explicit := range []bool{false, true} {
		s := &scene{Outbox: New[int](Config{Replay: true, Messages: 9, Bytes: 1 << 20, Explicit: explicit})}
		s.Attach(1, true)
		s.ticket, _ = s.Begin(&message{}, 5, false)
		require.True(t, s.Acknowledge(1), "whether the message in hand may be acknowledged")
		s.settle(Rejected)
		s.message = &message{}
		s.ticket, _ = s.Begin(s.message, 1, false)
		s.encode()
		s.settle(OK)
		require.Equal(t, 1, s.Stats().Unacked, "messages that are not acknowledged")
		require.True(t, s.Acknowledge(1), "whether the message was sent")
		require.Zero(t, s.Stats().Unacked, "messages that are not acknowledged")
	}
}

// Numbers end: none is used twice, and none is above the highest.
func TestTheLastNumber(t *testing.T) {
	t.Parallel()
	s := newReplay()
	require.False(t, s.AcknowledgeStart(maxStart+1), "whether a count may start where few numbers are left")
	require.True(t, s.AcknowledgeStart(maxStart), "whether a count may start there")
	s.last = math.MaxUint64 - 1
	s.send()
	require.Equal(t, uint64(math.MaxUint64), s.Stats().LastSeq, "the last number")
	s.encode()
	s.settle(OK)
	_, v := s.Begin(&message{}, 0, false)
	require.Equal(t, Exhausted, v, "the verdict on a message for which no number is left")

	s = &scene{Outbox: New[int](Config{Explicit: true})}
	s.Attach(1, true)
	require.True(t, s.AcknowledgeStart(1<<63), "whether the caller's numbers may start anywhere")
	_, v = s.Begin(&message{}, 1<<63, false)
	require.Equal(t, OutOfOrder, v, "the verdict on a number that the other end has")
	_, v = s.Begin(&message{}, math.MaxUint64, false)
	require.Equal(t, Go, v, "the verdict on the highest number, which the caller gives")
}

// What is kept is what is counted: bytes in buffers about as large, whatever the codec has put them in (invariant 40).
func TestKeptBytesFit(t *testing.T) {
	t.Parallel()
	var l ledger
	var c copies
	large := make([]byte, 2000, 5000)
	large[7] = 7
	l.inUse = 1
	kept := c.fit(mem.BufferSlice{mem.SliceBuffer("abc"), mem.NewBuffer(&large, &l)})
	require.Zero(t, l.inUse, "large buffers that are in use after their bytes were copied")
	require.Equal(t, append([]byte("abc"), large...), kept.Materialize(), "the bytes")
	require.Len(t, kept, 1, "buffers")
	require.LessOrEqual(t, cap(kept[0].ReadOnlyData()), 2*2003, "their capacity, for 2,003 bytes")
	kept.Free()

	s := newReplay()
	s.send()
	huge := make([]byte, 2000, 5000)
	l.inUse = 1
	_, turn := s.Encoded(s.message)
	s.Keep(s.message, turn, mem.BufferSlice{mem.NewBuffer(&huge, &l)})
	require.Zero(t, l.inUse, "large buffers that are in use after a message was kept")

	half := make([]byte, 2000, 4000)
	data := mem.BufferSlice{mem.NewBuffer(&half, &l)}
	require.Same(t, &half[0], &c.fit(data)[0].ReadOnlyData()[0], "bytes that fit are not copied")

	small := c.Get(1000)
	require.Len(t, *small, 1000, "a buffer")
	for _, length := range []int{1001, 499} {
		c.Put(small)
		b := c.Get(length)
		require.Len(t, *b, length, "a buffer")
		require.LessOrEqual(t, cap(*b), 2*length, "the capacity of a buffer of %d bytes", length)
		require.GreaterOrEqual(t, cap(*b), length, "the capacity of a buffer of %d bytes", length)
	}
}

// Messages are found by their numbers, though these have holes.
func TestNextAfterAHole(t *testing.T) {
	t.Parallel()
	s := &scene{Outbox: New[int](Config{Replay: true, Messages: 99, Bytes: 1 << 20, Explicit: true})}
	s.Attach(1, true)
	for seq := uint64(10); seq <= 100; seq += 10 {
		s.message = &message{}
		s.ticket, _ = s.Begin(s.message, seq, false)
		s.encode()
		s.settle(OK)
	}
	for after := range uint64(101) {
		k, _, ok := s.Next(after)
		require.Equal(t, after < 100, ok, "whether a message is kept after %d", after)
		if ok {
			require.Equal(t, after/10*10+10, k.Seq, "the first message after %d", after)
		}
	}
	s.Discard(nil)
	s.Acknowledge(15)
	s.Discard([]uint64{10, 20, 55, 70, 100}) // the first is gone, and the third was never kept
	var left []uint64
	for seq := uint64(0); ; {
		k, _, ok := s.Next(seq)
		if !ok {
			break
		}
		seq = k.Seq
		left = append(left, seq)
	}
	require.Equal(t, []uint64{30, 40, 50, 60, 80, 90}, left, "what is kept, in order")
	require.Equal(t, 6*3, s.Stats().UnackedSize, "its size")
}

// A call that never returned leaves nothing of a message that the codec has not seen. One that it has seen may have reached the
// wire, and counts as sent (invariant 34).
func TestACallThatNeverReturned(t *testing.T) {
	t.Parallel()
	s := newReplay()
	s.send()
	s.Forget(s.ticket)
	require.Equal(t, Counts{}, s.Stats(), "before the codec has seen the message")
	s.send()
	s.encode()
	s.Forget(s.ticket)
	require.Equal(t, Counts{Sent: 1, LastSeq: 1, Unacked: 1, UnackedSize: 3, Outstanding: true}, s.Stats(), "after it has")
	s.send()
	s.Keep("in its place", s.ticket.turn, bytesOf("another"))
	s.Forget(s.ticket)
	require.Equal(t, 1, s.Stats().Unacked, "what is kept, after another message was sent in its place: its bytes are not known")
	require.EqualValues(t, 2, s.Stats().LastSeq, "the last number, which the other one may have used")
	s = &scene{Outbox: New[int](Config{})}
	s.Attach(1, true)
	s.send()
	s.Forget(s.ticket)
	require.Zero(t, s.Stats().Sent, "messages sent, without a codec that knows")
}

// A message that is in doubt says so when it is sent again, and no other (invariant 34).
func TestAMessageInDoubt(t *testing.T) {
	t.Parallel()
	s := newReplay()
	for _, said := range []Said{OK, Failed, OK} {
		s.send()
		s.encode()
		s.settle(said)
	}
	for seq := range uint64(3) {
		k, _, ok := s.Next(seq)
		require.True(t, ok, "whether message %d is kept", seq+1)
		require.Equal(t, seq == 1, k.Refused, "whether Send has returned an error for message %d", seq+1)
	}
}

// The bytes of a message that is sent again are known, and each is the owner of its reference.
func TestBytesThatAreKnown(t *testing.T) {
	t.Parallel()
	var l ledger
	s := newReplay()
	s.send()
	_, turn := s.Encoded(s.message)
	s.Keep(s.message, turn, l.encode(1, 2000)).Free()
	s.settle(OK)
	s.Detach()
	for _, looked := range []bool{true, false} {
		k, _, _ := s.Next(0)
		m := &message{}
		s.Resume(m, 1, k.Data)
		data, turn := s.Encoded(&message{})
		require.Nil(t, data, "the bytes of another message than the one in hand")
		s.Keep("another", turn, bytesOf("another")).Free()
		if looked {
			data, _ = s.Encoded(m)
			require.Equal(t, byte(1), data.Materialize()[0], "the bytes of the message in hand")
			data.Free()
			data, _ = s.Encoded(m)
			require.Nil(t, data, "its bytes, after the codec has had them: it may have been changed since")
		}
		s.Resumed(OK)
		require.Equal(t, 1, l.inUse, "buffers that are in use: the one that is kept")
	}
	s.Acknowledge(1)
	require.Zero(t, l.inUse, "buffers that are in use, after an acknowledgement")
}

// The message in hand is dropped when it is taken back, and no other: it may have been discarded before.
func TestOnlyTheMessageInHandIsTakenBack(t *testing.T) {
	t.Parallel()
	s := newReplay()
	s.send()
	s.encode()
	s.settle(OK)
	s.send()
	s.Discard([]uint64{2})
	s.Forget(s.ticket)
	require.Equal(t, Counts{Sent: 1, LastSeq: 1, Unacked: 1, UnackedSize: 3, Outstanding: true}, s.Stats(), "what is left")
}

// A message that is acknowledged while it is sent again leaves the bytes of the others as they are.
func TestAcknowledgedWhileItIsSentAgain(t *testing.T) {
	t.Parallel()
	s := newReplay()
	for range 3 {
		s.send()
		s.encode()
		s.settle(OK)
	}
	s.Detach()
	m := &message{}
	s.Resume(m, 2, nil)
	_, turn := s.Encoded(m)
	s.Acknowledge(2)
	s.Keep(m, turn, bytesOf("changed by a callback")).Free()
	s.Resumed(OK)
	k, acked, ok := s.Next(0)
	require.True(t, ok, "whether something is kept")
	require.Equal(t, []uint64{2, 3}, []uint64{acked, k.Seq}, "acknowledged, and kept")
	require.Equal(t, "abc", string(k.Data.Materialize()), "the bytes of message 3 (invariant 29)")
}

// What the other end says before anything was sent is where the count starts. It does not go back (invariant 7).
func TestTheStartDoesNotGoBack(t *testing.T) {
	t.Parallel()
	s := newReplay()
	require.True(t, s.AcknowledgeStart(40), "whether the count may start at 40")
	require.True(t, s.AcknowledgeStart(7), "whether the other end may say less on the next attempt")
	require.Equal(t, Counts{LastSeq: 40, Acked: 40}, s.Stats(), "where the stream stands")
}

// Each time that a message is sent again is a turn of its own: a codec that began in an earlier one keeps nothing.
func TestALateCodecOfAReplay(t *testing.T) {
	t.Parallel()
	s := newReplay()
	s.send()
	s.encode()
	s.settle(OK)
	s.Detach()
	m := &message{} // a callback returns it each time
	s.Resume(m, 1, nil)
	_, turn := s.Encoded(m)
	s.Resumed(Dead)
	s.Resume(m, 1, nil)
	s.Keep(m, turn, bytesOf("late"))
	s.Resumed(OK)
	k, _, _ := s.Next(0)
	require.Equal(t, "abc", string(k.Data.Materialize()), "the bytes that are kept")
}
