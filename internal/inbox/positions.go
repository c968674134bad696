package inbox

import (
	"math"
	"time"

	"github.com/streamsafe/streamsafe/checkpoint"
)

// Begins takes over the position that the stream starts from anew.
func (b *Inbox[A, M]) Begins(p checkpoint.Position) {
	b.lock()
	defer b.unlock()
	b.moveTo(p)
}

// StartsFrom takes over a position that was processed before, by whatever owner.
func (b *Inbox[A, M]) StartsFrom(p checkpoint.Position) {
	b.lock()
	defer b.unlock()
	b.moveTo(p)
	b.processed = p
}

// moveTo makes p the position of the stream, once what has arrived before is handed over.
func (b *Inbox[A, M]) moveTo(p checkpoint.Position) {
	b.resumePoint, b.uncovered, b.gapped, b.atStart = p, 0, false, false
	b.lane.mode = 0
	if b.ended != nil { // what has arrived before is let go, and was not handed over
		return
	}
	in := Arrival[M]{Position: p, HasPosition: true}
	if b.ready.Len() > 0 {
		b.enqueue(&in)
		return
	}
	b.handOver(&in)
}

// Anchored is what an anchor is to a stream.
type Anchored uint8

const (
	// Fits means that the attempt begins where the stream stands, or before.
	Fits Anchored = iota
	// Replaced means that the history is another one: the position is lost.
	Replaced
	// Past means that the attempt begins after the position: what is between is lost.
	Past
	// Last means that the attempt begins at the highest number that there is: whatever came would look like a repeated message.
	Last
)

// Anchor takes in where the server said that the attempt begins. A stream without a place in a history takes it as its own.
// It returns what the anchor is to the position that the stream has, and that.
func (b *Inbox[A, M]) Anchor(p checkpoint.Position) (Anchored, checkpoint.Position) {
	b.lock()
	defer b.unlock()
	have := b.resumePoint
	placed := have.Seq != 0 || have.Token != "" || b.atStart // in a history, and not only of one
	switch {
	case !have.IsZero() && p.Lineage != have.Lineage:
		return Replaced, have
	case p.Seq == math.MaxUint64:
		return Last, have
	case !placed:
		b.moveTo(p)
		b.atStart = p.Seq == 0 && p.Token == ""
		return Fits, have
	case (have.Seq != 0 || have.Token == "") && p.Seq > have.Seq:
		return Past, have
	default:
		return Fits, have
	}
}

// Position returns where the next attempt starts.
func (b *Inbox[A, M]) Position() checkpoint.Position {
	b.lock()
	defer b.unlock()
	return b.resumePoint
}

// Committable returns the position that may be written to a store.
func (b *Inbox[A, M]) Committable() checkpoint.Position {
	b.lock()
	defer b.unlock()
	return b.processed
}

// ProcessAll marks all that was handed over as processed.
func (b *Inbox[A, M]) ProcessAll() {
	b.lock()
	defer b.unlock()
	b.markProcessed()
}

// Counts is a snapshot of an inbox.
type Counts struct {
	Received, Deliveries, Duplicates uint64
	Ready, Held, HeldSize            int
	Delivered, Processed             checkpoint.Position
	Ticks                            uint64    // of the timer that watches the limits
	LastMessage                      time.Time // of those since the first call of Stats; zero: none
}

// Stats returns a snapshot. From its first call on the time of the last message is kept.
func (b *Inbox[A, M]) Stats() Counts { return b.count(true) }

// Peek is Stats without that: it may be called again and again, and messages cost no more after it.
func (b *Inbox[A, M]) Peek() Counts { return b.count(false) }

func (b *Inbox[A, M]) count(clocked bool) Counts {
	b.lock()
	defer b.unlock()
	b.clocked = b.clocked || clocked
	c := Counts{
		Received: b.received, Deliveries: b.deliveries, Duplicates: b.duplicates,
		Ready: b.ready.Len(), Held: b.held.Len(), HeldSize: b.heldSize,
		Delivered: b.delivered, Processed: b.processed, Ticks: b.ticks,
	}
	if last := b.lane.last.Load(); last > 0 {
		c.LastMessage = b.start.Add(time.Duration(last))
	}
	return c
}
