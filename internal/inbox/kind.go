package inbox

import (
	"math"

	"github.com/streamsafe/streamsafe/checkpoint"
)

// Kind is what an arriving message is to the stream. The whole table; the first line that fits decides:
//
//	position        control   since     room       Kind           it is
//	elsewhere       –         –         –          OtherLineage   refused; the attempt breaks
//	the highest     –         –         –          Exhausted      refused; the attempt breaks
//	low or last     no        –         –          Repeated       dropped, with what is held
//	last            yes       nothing   –          Bookmark       a position alone
//	low             yes       held      –          Repeated       dropped, with what is held
//	low or last     yes       –         –          Silent         dropped
//	skips           no        –         –          Gap            refused; the attempt breaks
//	next or skips   yes       –         –          Bookmark       a position alone
//	none            yes       –         –          Silent         dropped
//	next            no        –         –          Next           handed over, after what is held
//	none            no        –         unneeded   Next           handed over
//	none            no        –         yes        Held           kept until a position comes
//	none            no        –         no         Overflow       handed over, or refused: see Config
//
// A position is elsewhere if it is in another lineage. It is the highest if there is no higher number. It is low if the stream
// stands past it, and last if the stream stands there. It skips if numbers have no holes, and one is missing before it. Any
// other position is next.
//
// A control message is the protocol's own: a bookmark if it has a position. Since the last position nothing has come, or messages
// that were accepted, or some that are held. There is room if what may be held has room for the message. Room is unneeded if
// nothing is held back for a position.
//
// A bookmark that repeats the last number is current if nothing came since: its token may be new. If something did, the
// bookmark may be a heartbeat within a unit, and says nothing of it.
type Kind uint8

// The kinds, in the order of the table.
const (
	OtherLineage Kind = iota
	Exhausted
	Repeated
	Gap
	Bookmark
	Silent
	Next
	Held
	Overflow
)

// kindOf is the table. The first case that fits decides.
func (b *Inbox[A, M]) kindOf(in *Arrival[M]) Kind {
	have, got := &b.resumePoint, &in.Position
	switch {
	case !in.HasPosition:
		return b.kindWithoutPosition(in)
	case !have.IsZero() && got.Lineage != have.Lineage:
		return OtherLineage
	case got.Seq == math.MaxUint64:
		return Exhausted // no number follows: whatever came after would look like a repeated message
	case got.Seq != 0 && got.Seq <= have.Seq:
		return b.kindOfRepeated(in)
	case in.Control:
		return Bookmark
	case b.config.NoGaps && b.skips(got.Seq):
		return Gap
	default:
		return Next
	}
}

// kindWithoutPosition is the part of the table for messages without a position.
func (b *Inbox[A, M]) kindWithoutPosition(in *Arrival[M]) Kind {
	switch {
	case in.Control:
		return Silent
	case !b.config.Hold:
		return Next
	case b.heldSize+cost(in.Size) > b.config.HoldLimit:
		return Overflow
	default:
		return Held
	}
}

// kindOfRepeated is the part of the table for numbers that are low, or the last one.
func (b *Inbox[A, M]) kindOfRepeated(in *Arrival[M]) Kind {
	switch {
	case !in.Control:
		return Repeated
	case in.Position.Seq == b.resumePoint.Seq && b.uncovered == 0 && b.held.Len() == 0:
		return Bookmark
	case in.Position.Seq == b.resumePoint.Seq || b.held.Len() == 0:
		return Silent
	default:
		return Repeated
	}
}

// skips reports whether seq is not the number after the last one. At the beginning of a history that is number 1.
func (b *Inbox[A, M]) skips(seq uint64) bool {
	known := b.resumePoint.Seq > 0 || b.atStart && b.resumePoint.Token == ""
	return known && seq != 0 && seq != b.resumePoint.Seq+1
}

// Report is what the caller has to act on after Arrived: tell observers, and break the attempt if Breaks says so.
type Report struct {
	Kind  Kind
	Again bool                // a gap: the same one as on the attempt before
	Fails bool                // an overflow: the message is refused
	Count uint64              // messages dropped, or too many to be held
	Size  int                 // bytes too many to be held
	Have  checkpoint.Position // where the stream stands
	Got   checkpoint.Position // what the message says
}

// Breaks reports whether nothing more may be taken from the attempt.
func (r *Report) Breaks() bool {
	switch r.Kind {
	case OtherLineage, Exhausted, Gap:
		return true
	case Overflow:
		return r.Fails
	case Repeated, Bookmark, Silent, Next, Held:
		return false
	default:
		return false
	}
}

// take does what the table says with in: it may take the message or the position out of it. The caller holds mu.
func (b *Inbox[A, M]) take(kind Kind, in *Arrival[M]) *Report {
	switch kind {
	case OtherLineage, Exhausted:
		return b.reports(Report{Kind: kind, Got: in.Position})
	case Gap:
		again := b.gapped
		b.gapped = true
		return b.reports(Report{Kind: kind, Got: in.Position, Again: again})
	case Repeated:
		return b.drop(in)
	case Silent:
		*in = Arrival[M]{}
		return nil
	case Bookmark:
		in.Message = nil
		b.moved(&in.Position)
		return nil
	case Next:
		b.accept()
		if in.HasPosition {
			b.moved(&in.Position)
		}
		return nil
	case Held:
		b.hold(in)
		return nil
	case Overflow:
		return b.overflow(in)
	default:
		return nil
	}
}

// reports fills in what every report has.
func (b *Inbox[A, M]) reports(r Report) *Report {
	r.Have = b.resumePoint
	return &r
}

// moved makes p the place where the stream stands; what was held before it is ready.
func (b *Inbox[A, M]) moved(p *checkpoint.Position) {
	b.releaseHeld()
	if p.Seq != b.resumePoint.Seq { // a bookmark where the stream stands says nothing of what follows
		b.gapped = false
	}
	b.resumePoint, b.uncovered = *p, 0
}

// drop lets go of a message that has come before, and of what is held, which belongs to it.
func (b *Inbox[A, M]) drop(in *Arrival[M]) *Report {
	dropped := uint64(b.held.Len()) //nolint:gosec // not negative
	if !in.Control {
		dropped++
	}
	at := in.Position
	*in = Arrival[M]{}
	b.dropHeld()
	b.duplicates += dropped
	return b.reports(Report{Kind: Repeated, Count: dropped, Got: at})
}

// overflow has no room for in.
func (b *Inbox[A, M]) overflow(in *Arrival[M]) *Report {
	r := Report{
		Kind: Overflow, Fails: !b.config.DeliverOverflow,
		Count: uint64(b.held.Len()) + 1, Size: b.heldSize + cost(in.Size), //nolint:gosec // not negative
	}
	if !r.Fails {
		b.releaseHeld()
		b.accept()
	}
	return b.reports(r)
}

// hold keeps in until a position comes.
func (b *Inbox[A, M]) hold(in *Arrival[M]) {
	b.heldSize += cost(in.Size)
	b.held.Push(*in)
	*in = Arrival[M]{}
}

// releaseHeld makes ready what is held.
func (b *Inbox[A, M]) releaseHeld() {
	for b.held.Len() > 0 {
		in := b.held.PopFront()
		b.accept()
		b.enqueue(&in)
	}
	b.held.Trim()
	b.heldSize = 0
}

// dropHeld lets go of what is held: it comes again.
func (b *Inbox[A, M]) dropHeld() {
	b.held.Clear()
	b.heldSize = 0
}

// accept counts a message of the application's that has arrived for good.
func (b *Inbox[A, M]) accept() {
	b.accepted++
	b.uncovered++
}
