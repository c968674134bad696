package inbox

import (
	"slices"

	"github.com/streamsafe/streamsafe/checkpoint"
)

// This file has what an inbox is compared with: the same rules, told with lists of everything that ever arrived.

// item is a message or a position alone that arrived for good.
type item struct {
	message *int // nil: a position alone
	at      checkpoint.Position
	placed  bool // at is there
	size    int
}

func itemOf(in Arrival[int]) item {
	return item{message: in.Message, at: in.Position, placed: in.HasPosition, size: in.Size}
}

// reference is an inbox by lists.
type reference struct {
	config Config
	rows   []row // the table of kinds

	arrived []item // everything, in order
	ready   []item // the end of it that was not handed over
	handed  []item // what was handed over
	done    int    // so many of that are processed
	from    int    // the attempt began after so many of arrived
	held    []item

	gapAt   uint64 // the number before the gap that ended an attempt, while that lasts
	gapOpen bool
	atStart bool

	attempt, refused int
	busy, standIn    bool
	leaving, abrupt  bool
	left             bool // nothing more is taken in
	ended            error

	received, duplicates, counted, moved, ticks, since uint64
	fresh                                              bool
}

// last returns the position of the last item that has one.
func last(items []item) checkpoint.Position {
	for _, it := range slices.Backward(items) {
		if it.placed {
			return it.at
		}
	}
	return checkpoint.Position{}
}

// messages counts the messages of items.
func messages(items []item) (n uint64) {
	for _, it := range items {
		if it.message != nil {
			n++
		}
	}
	return n
}

// sizeOf adds up what items count for.
func sizeOf(items []item) (n int) {
	for _, it := range items {
		n += max(it.size, 96)
	}
	return n
}

func (r *reference) resume() checkpoint.Position { return last(r.arrived) }

// uncovered counts what came on the attempt after the last position.
func (r *reference) uncovered() uint64 {
	for i := len(r.arrived); i > r.from; i-- {
		if r.arrived[i-1].placed {
			return messages(r.arrived[i:])
		}
	}
	return messages(r.arrived[r.from:])
}

// facts returns what the table of kinds asks for.
func (r *reference) facts(in Arrival[int]) (facts [4]string) {
	have, got := r.resume(), in.Position
	known := have.Seq > 0 || r.atStart && have.Token == ""
	switch {
	case !in.HasPosition:
		facts[0] = "none"
	case got.Lineage != have.Lineage && have != checkpoint.Position{}:
		facts[0] = "elsewhere"
	case got.Seq == 1<<64-1:
		facts[0] = "the highest"
	case got.Seq > 0 && got.Seq < have.Seq:
		facts[0] = "low"
	case got.Seq > 0 && got.Seq == have.Seq:
		facts[0] = "last"
	case r.config.NoGaps && known && got.Seq > 0 && got.Seq > have.Seq+1:
		facts[0] = "skips"
	default:
		facts[0] = "next"
	}
	facts[1] = map[bool]string{true: "yes", false: "no"}[in.Control]
	switch {
	case len(r.held) > 0:
		facts[2] = "held"
	case r.uncovered() > 0:
		facts[2] = "accepted"
	default:
		facts[2] = "nothing"
	}
	switch {
	case !r.config.Hold:
		facts[3] = "unneeded"
	case sizeOf(r.held)+max(in.Size, 96) <= r.config.HoldLimit:
		facts[3] = "yes"
	default:
		facts[3] = "no"
	}
	return facts
}

// arrive takes in what was received.
func (r *reference) arrive(in Arrival[int], queue bool) (mine bool, report *Report) {
	r.received++
	r.fresh = false
	if r.left {
		r.busy, r.standIn = false, false
		return false, nil
	}
	is, ok := kindIn(r.rows, r.facts(in))
	if !ok {
		return false, nil
	}
	have := r.resume()
	switch is.kind {
	case OtherLineage, Exhausted:
		return false, &Report{Kind: is.kind, Have: have, Got: in.Position}
	case Gap:
		again := r.gapOpen && r.gapAt == have.Seq
		r.gapAt, r.gapOpen = have.Seq, true
		return false, &Report{Kind: Gap, Have: have, Got: in.Position, Again: again}
	case Overflow:
		report = &Report{
			Kind: Overflow, Fails: !r.config.DeliverOverflow, Have: have,
			Count: messages(r.held) + 1, Size: sizeOf(r.held) + max(in.Size, 96),
		}
		if report.Fails {
			return false, report
		}
		return r.accept(append(r.held, itemOf(in)), queue), report
	case Repeated:
		n := messages(r.held)
		if !in.Control {
			n++
		}
		r.held = nil
		r.duplicates += n
		return false, &Report{Kind: Repeated, Have: have, Got: in.Position, Count: n}
	case Bookmark:
		in.Message = nil
		fallthrough
	case Next:
		if in.HasPosition && in.Position.Seq != have.Seq {
			r.gapOpen = false
		}
		mine = r.accept(append(r.held, itemOf(in)), queue)
	case Held:
		r.held = append(r.held, itemOf(in))
	case Silent:
	}
	r.busy, r.standIn = false, false
	return mine, nil
}

// accept takes items in for good: those that were held, and the one that just came. It reports whether that is the caller's.
func (r *reference) accept(items []item, queue bool) (mine bool) {
	r.held = nil
	r.arrived = append(r.arrived, items...)
	if queue || len(r.ready) > 0 || len(items) > 1 {
		r.ready = append(r.ready, items...)
		return false
	}
	r.hand(items[0])
	return items[0].message != nil
}

// hand hands it over. Positions alone are processed at once, if nothing before them is in the application's hands.
func (r *reference) hand(it item) {
	r.handed = append(r.handed, it)
	if !r.config.Manual && messages(r.handed[r.done:]) == 0 {
		r.done = len(r.handed)
		r.moved++
	}
}

// moveTo makes p the position.
func (r *reference) moveTo(p checkpoint.Position) {
	r.gapOpen, r.atStart = false, false
	it := item{at: p, placed: true}
	r.arrived = append(r.arrived, it)
	switch {
	case r.ended != nil:
	case len(r.ready) > 0:
		r.ready = append(r.ready, it)
	default:
		r.hand(it)
	}
}

// canReceive reports whether Begin would return the attempt, if nothing is ready.
func (r *reference) canReceive() bool { return r.attempt != 0 && r.attempt != r.refused && !r.busy }

// wouldWait reports whether Begin would wait.
func (r *reference) wouldWait() bool {
	return r.ended == nil && messages(r.ready) == 0 && !r.canReceive()
}

// begin is Begin, which does not wait.
func (r *reference) begin() (*int, int, error) {
	if !r.config.Manual && messages(r.handed[r.done:]) > 0 {
		r.done = len(r.handed)
		r.counted++
	}
	for !r.abrupt && len(r.ready) > 0 {
		it := r.ready[0]
		r.ready = r.ready[1:]
		r.hand(it)
		if it.message != nil {
			return it.message, 0, nil
		}
	}
	if r.ended != nil {
		return nil, 0, r.ended
	}
	r.busy, r.standIn, r.since = true, false, r.ticks
	return nil, r.attempt, nil
}

// detach is Detach, which does not wait.
func (r *reference) detach(all bool) Standing {
	r.attempt = 0
	if all {
		r.arrived = append(r.arrived, r.held...)
		r.ready = append(r.ready, r.held...)
	}
	r.held = nil
	r.left = r.busy
	s := Standing{Position: r.resume(), Accepted: messages(r.arrived), Uncovered: r.uncovered(), Busy: r.busy}
	r.from = len(r.arrived)
	return s
}

// anchor is Anchor.
func (r *reference) anchor(p checkpoint.Position) (Anchored, checkpoint.Position) {
	have := r.resume()
	switch {
	case have != checkpoint.Position{} && have.Lineage != p.Lineage:
		return Replaced, have
	case have.Seq == 0 && have.Token == "" && !r.atStart:
		r.moveTo(p)
		r.atStart = p.Seq == 0 && p.Token == ""
		return Fits, have
	case p.Seq > have.Seq && (have.Seq > 0 || have.Token == ""): // a token alone is compared with nothing
		return Past, have
	}
	return Fits, have
}

// full reports whether too much is ready.
func (r *reference) full() bool {
	return len(r.ready) >= r.config.MaxReady || sizeOf(r.ready) >= r.config.MaxReadySize
}
