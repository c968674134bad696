package inbox

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/streamsafe/streamsafe/checkpoint"
)

// lane is the way of a message that is next, while nothing else goes on: an attempt is there, nothing waits, nothing is
// held, nobody waits. Begin is one compare-and-swap of word then, and Arrived another; no lock is taken.
//
// While the lane is open, word stands in for the fields of the inbox: busy, handedOver, and how many messages have come
// since it opened. Every other method takes mu by Inbox.lock, which closes the lane and brings the fields up to date
// (fold). Inbox.unlock opens it again (arm), if all is calm.
//
// Why that is safe:
//
//  1. Arrived, on its way, has read word (busy, n messages), and writes the next position into slots[(n+1)&1].
//  2. A method that takes the lock swaps word for zero. It reads slots[n&1] only, since somebody is busy.
//  3. The compare-and-swap of Arrived fails. It takes the lock, and does everything again with the fields.
//
// The word cannot come back to what Arrived has read: the lane is not opened while somebody is busy. In Begin it can, and
// does no harm: the attempt is read after the swap, and nobody changes it while somebody is busy.
type lane[A comparable] struct {
	word  atomic.Uint64
	slots [2]checkpoint.Position // of message n in slots[n&1]; the position before the first one in slots[0]
	from  A                      // the attempt; written while the lane is closed
	last  atomic.Int64           // when the last message came, a time.Duration after the start; zero: not known
	mode  uint64                 // what the last message was like: withPositions, plain, or 0; guarded by the inbox's mu
}

// The bits of the word. The count of messages is above them.
const (
	open          = 1 << iota // the lane is open
	occupied                  // the application is busy
	handed                    // a message was handed over since the last Begin
	withPositions             // messages have positions
	plain                     // they have none
	timed                     // note when the last message came
	countShift    = iota
)

// beginFast is Begin in the open lane.
func (b *Inbox[A, M]) beginFast() (a A, ok bool) {
	w := b.lane.word.Load()
	if w&(open|occupied) != open {
		return a, false
	}
	next := w | occupied
	if !b.config.Manual {
		next &^= handed
	}
	if !b.lane.word.CompareAndSwap(w, next) {
		return a, false
	}
	if next&handed != w&handed {
		b.counted()
	}
	return b.lane.from, true
}

// arriveFast is Arrived in the open lane, for a message that is next.
func (b *Inbox[A, M]) arriveFast(in *Arrival[M]) bool {
	w := b.lane.word.Load()
	if w&(open|occupied) != open|occupied || in.Control || in.Message == nil || in.HasPosition != (w&withPositions != 0) {
		return false
	}
	if in.HasPosition {
		n := w >> countShift
		if !b.follows(&b.lane.slots[n&1], &in.Position) {
			return false
		}
		b.lane.slots[(n+1)&1] = in.Position
	}
	if w&timed != 0 {
		b.lane.last.Store(int64(time.Since(b.start)))
	}
	return b.lane.word.CompareAndSwap(w, w&^occupied|handed+1<<countShift)
}

// follows reports whether got is plainly the next position after have, which has a number.
func (b *Inbox[A, M]) follows(have, got *checkpoint.Position) bool {
	return got.Seq > have.Seq && got.Seq < math.MaxUint64 && got.Lineage == have.Lineage &&
		(got.Seq == have.Seq+1 || !b.config.NoGaps)
}

// modeOf returns what the lane would be opened for after a message of this kind: nothing while messages are held, or after a gap.
func modeOf[M any](kind Kind, in *Arrival[M]) uint64 {
	switch {
	case kind != Next:
		return 0
	case in.HasPosition && in.Position.Seq == 0:
		return 0
	case in.HasPosition:
		return withPositions
	default:
		return plain
	}
}

// arm opens the lane if all is calm. The caller holds mu, and lets go of it.
//
// Nobody waits then: who waits has looked at the fields, gets mu back without a fold, and would find them out of date.
func (b *Inbox[A, M]) arm() {
	var none A
	calm := b.lane.mode != 0 && !b.busy && !b.left && !b.frozen && !b.stops && b.waiters == 0 && b.ended == nil && !b.fresh &&
		b.attempt != none && b.attempt != b.refused && b.ready.Len() == 0
	if !calm {
		return
	}
	w := open | b.lane.mode
	if b.handedOver {
		w |= handed
	}
	if b.clocked {
		w |= timed
	}
	b.lane.slots[0], b.lane.from = b.resumePoint, b.attempt
	b.lane.word.Store(w)
}

// fold closes the lane and brings the fields up to date. The caller holds mu.
func (b *Inbox[A, M]) fold() {
	if b.lane.word.Load() == 0 {
		return
	}
	w := b.lane.word.Swap(0)
	n := w >> countShift
	if w&occupied != 0 {
		b.busy, b.since = true, b.ticks // no tick has passed since the lane was opened
	}
	processed := b.delivered // before the last message was handed over
	if n > 0 {
		b.received += n
		b.deliveries += n
		b.accepted += n
		b.uncovered += n
	}
	if n > 0 && w&withPositions != 0 {
		b.resumePoint, b.uncovered = b.lane.slots[n&1], 0
		b.delivered = b.resumePoint
		if w&occupied == 0 {
			processed = b.lane.slots[(n-1)&1]
		}
	}
	switch {
	case b.config.Manual:
		b.handedOver = w&handed != 0
	case w&handed == 0:
		b.markProcessed()
	case n > 0:
		b.processed, b.handedOver = processed, true
	}
}

// noteTime notes when a message has come, if somebody wants to know. The caller holds mu.
func (b *Inbox[A, M]) noteTime() {
	if b.clocked {
		b.lane.last.Store(int64(time.Since(b.start)))
	}
}
