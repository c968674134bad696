package outbox

import (
	"math"
	"sort"
	"sync"

	"google.golang.org/grpc/mem"
)

// This file has what is kept: encoded by the codec, dropped by acknowledgements, sent again on the next attempt.

// Encoded is called by the codec in the goroutine that sends, before it encodes v. It returns the bytes of v, with a
// reference for the caller, if v is the message in hand and they are known already; and the turn, zero if there was none.
func (o *Outbox[A]) Encoded(v any) (data mem.BufferSlice, turn uint64) {
	turn = o.turn.Load()
	if !o.again.Load() {
		return nil, turn
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.inHand == nil || o.inHand != v || o.resend == nil {
		return nil, turn
	}
	o.inHand = nil
	o.resend.Ref()
	return o.resend, turn
}

// Keep is called by the codec, which has encoded v and began at this turn. It takes data over and returns what to send in
// its place. v may be another message than the one in hand, or late: an interceptor may send what it likes, in a goroutine
// of its own.
func (o *Outbox[A]) Keep(v any, turn uint64, data mem.BufferSlice) mem.BufferSlice {
	data = o.copies.fit(data) // it may copy: not while mu is held
	o.mu.Lock()
	defer o.mu.Unlock()
	o.coded = max(o.coded, turn) // a late one says nothing of the message in hand
	if o.inHand == nil || o.inHand != v || o.turn.Load() != turn {
		return data
	}
	o.inHand = nil
	if k := o.after(o.number - 1); k != nil && k.Seq == o.number { // else acknowledged
		data.Ref()
		k.Data.Free()
		size := data.Len()
		o.size += size - k.size
		k.Data, k.Encoded, k.size = data, true, size
	}
	return data
}

// after returns the first kept message whose number is higher than seq, nil if there is none.
func (o *Outbox[A]) after(seq uint64) *Kept {
	n := o.kept.Len()
	if n == 0 || o.kept.Back().Seq <= seq {
		return nil
	}
	i := n - 1 // most often the newest
	if i > 0 && o.kept.At(i-1).Seq > seq {
		i = sort.Search(n, func(i int) bool { return o.kept.At(i).Seq > seq })
	}
	return o.kept.At(i)
}

// Acknowledge drops what the other end has. It reports whether seq is a number that was sent.
func (o *Outbox[A]) Acknowledge(seq uint64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.acknowledge(seq)
}

func (o *Outbox[A]) acknowledge(seq uint64) bool {
	if seq > o.last {
		return false
	}
	if seq <= o.acked {
		return true // stale
	}
	o.acked, o.quiet = seq, o.ticks
	for o.kept.Len() > 0 && o.kept.Front().Seq <= seq {
		o.drop(o.kept.Front())
		o.kept.DropFront()
	}
	o.settleUpTo(seq, FateAcked)
	if !o.watched {
		o.kept.Trim()
	}
	o.changed()
	return true
}

// maxStart is the highest number that the count of messages may start from: so many are left that none is used twice.
const maxStart = math.MaxUint64 / 2

// AcknowledgeStart is Acknowledge for what the other end told in the handshake: before anything was sent, it is where the
// count starts.
func (o *Outbox[A]) AcknowledgeStart(seq uint64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.sent+o.source.new == 0 {
		if !o.config.Explicit && seq > maxStart {
			return false
		}
		o.last = max(o.last, seq)
	}
	return o.acknowledge(seq)
}

// AcknowledgeAll is Acknowledge for everything that was sent.
func (o *Outbox[A]) AcknowledgeAll() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.acknowledge(o.last)
}

// drop lets go of a message that is no longer kept.
func (o *Outbox[A]) drop(k *Kept) {
	o.size -= k.size
	k.Data.Free()
}

// Next returns the first kept message after seq, with a reference to its data for the caller, and what is acknowledged.
func (o *Outbox[A]) Next(seq uint64) (k Kept, acked uint64, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	found := o.after(seq)
	if found == nil {
		return Kept{}, o.acked, false
	}
	found.Data.Ref()
	return *found, o.acked, true
}

// Resume notes that the kept message with this number is on its way again, as m; data are its bytes if they are known, and a
// reference that the outbox takes over. The caller is busy until it calls Resumed. It waits while a message that belongs to the
// attempt alone is on its way, and reports false if the stream leaves meanwhile: then there is nothing to send.
func (o *Outbox[A]) Resume(m any, seq uint64, data mem.BufferSlice) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.calm() {
		data.Free()
		return false
	}
	o.busy, o.since = true, o.ticks
	o.inHand, o.number, o.resend = m, seq, data
	o.turn.Add(1)
	o.again.Store(data != nil)
	return true
}

// Resumed ends what Resume began. It returns what becomes of the attempt; the message stays kept.
func (o *Outbox[A]) Resumed(said Said) Attempt {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.free()
	return outcomeOf(said, Yes, true).Attempt
}

// Discard drops kept messages, in order: the other end has them, or will never take them.
func (o *Outbox[A]) Discard(dropped []uint64) {
	if len(dropped) == 0 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.settleDropped(dropped)
	for range o.kept.Len() { // once around
		k := o.kept.PopFront()
		for len(dropped) > 0 && dropped[0] < k.Seq { // acknowledged since
			dropped = dropped[1:]
		}
		if len(dropped) > 0 && dropped[0] == k.Seq {
			o.drop(&k)
		} else {
			o.kept.Push(k)
		}
	}
	o.changed()
}

// owes reports whether something that was sent is not acknowledged.
func (o *Outbox[A]) owes() bool { return o.owesUpTo(math.MaxUint64) }

// owesUpTo reports whether something that was sent, with a number up to last, is not acknowledged. A message may have been
// taken back since that was its number.
func (o *Outbox[A]) owesUpTo(last uint64) bool {
	if o.config.Replay {
		return o.kept.Len() > 0 && o.kept.Front().Seq <= last
	}
	return min(last, o.last) > o.acked
}

// owesNow is owes for the attempt: without replay, what was sent before it may be lost, and is not waited for.
func (o *Outbox[A]) owesNow() bool {
	if o.sourceOwes() { // and the pass tells what was sent on the attempt
		return o.source.on == o.newest && o.source.at > o.acked
	}
	return o.owes() && (o.config.Replay || o.last > o.before)
}

// AwaitAcked waits until everything that was sent before is acknowledged, and reports true; or until the stream has ended, or
// over says so, and reports false. Wake makes it ask over again.
func (o *Outbox[A]) AwaitAcked(over func() bool) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for last := o.last; o.owesUpTo(last); {
		if o.ended != nil || over() {
			return false
		}
		o.flushes++
		o.await()
		o.flushes--
	}
	return true
}

// Wake makes everybody who waits look again.
func (o *Outbox[A]) Wake() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.changed()
}

// copies makes copies of what is kept, in buffers about as large as what they hold, and uses each again when the last
// reference to it is gone. It is a mem.BufferPool. The zero value is ready.
type copies struct{ pool sync.Pool }

// fit returns data in buffers about as large as what they hold, so that what is kept is what is counted. It takes data
// over: if that is copied, its large buffers are free at once, and soon used again.
func (c *copies) fit(data mem.BufferSlice) mem.BufferSlice {
	for _, b := range data {
		if bytes := b.ReadOnlyData(); cap(bytes) > 2*len(bytes) {
			fitting := c.Get(data.Len())
			data.CopyTo(*fitting)
			data.Free()
			return mem.BufferSlice{mem.NewBuffer(fitting, c)}
		}
	}
	return data
}

// Get implements mem.BufferPool.
func (c *copies) Get(length int) *[]byte {
	if b, ok := c.pool.Get().(*[]byte); ok && length <= cap(*b) && cap(*b) <= 2*length {
		*b = (*b)[:length]
		return b
	}
	b := make([]byte, length)
	return &b
}

// Put implements mem.BufferPool.
func (c *copies) Put(b *[]byte) { c.pool.Put(b) }
