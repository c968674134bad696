package stream

import (
	"fmt"

	"github.com/streamsafe/streamsafe/checkpoint"
)

// This file has what the lifecycle goroutine does to an inbox, between attempts and at the end.

// standing is where the receiving half stands between two attempts.
type standing struct {
	position  checkpoint.Position // where the next attempt starts
	accepted  uint64              // messages that have arrived for the application so far
	uncovered uint64              // how many of them came after position: they may come again
}

// begins takes over the position that the stream starts from: the store's, or one that Lost told.
func (b *inbox[Req, Res]) begins(p checkpoint.Position) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.moveTo(p)
}

// startsFrom takes over the store's position: it was processed before, by whatever owner.
func (b *inbox[Req, Res]) startsFrom(p checkpoint.Position) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.moveTo(p)
	b.processed = p
}

// moveTo makes p the position of the stream, once what has arrived before is handed over.
func (b *inbox[Req, Res]) moveTo(p checkpoint.Position) {
	b.resumePoint, b.uncovered, b.gapAt, b.atStart = p, 0, gap{}, false
	if b.ended != nil { // what has arrived before is let go, and was not handed over
		return
	}
	in := arrival[Res]{position: p, hasPos: true}
	if b.ready.len() > 0 {
		b.queue(in)
		return
	}
	b.handOver(&in)
}

// anchor takes in where the server said that the attempt begins. It returns the end of the attempt where that shows
// that the position is lost.
func (b *inbox[Req, Res]) anchor(p checkpoint.Position) *loss {
	b.mu.Lock()
	defer b.mu.Unlock()
	have := b.resumePoint
	placed := have.Seq != 0 || have.Token != "" || b.atStart // in a history, and not only of one
	switch {
	case !have.IsZero() && p.Lineage != have.Lineage:
		return &loss{op: "resume", err: &lineageError{have: have.Lineage, got: p.Lineage}, final: ReasonPositionLost}
	case !placed:
		b.moveTo(p)
		b.atStart = p.Seq == 0 && p.Token == ""
		return nil
	case (have.Seq != 0 || have.Token == "") && p.Seq > have.Seq:
		return &loss{op: "resume", final: ReasonPositionLost, err: fmt.Errorf(
			"%w: the stream begins at %d, past %d", ErrPositionLost, p.Seq, have.Seq)}
	default:
		return nil
	}
}

// attach lets the application receive from a.
func (b *inbox[Req, Res]) attach(a *attempt[Req, Res]) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.attempt, b.fresh = a, true
	b.changed()
}

// hasRefused reports whether nothing more is taken from a.
func (b *inbox[Req, Res]) hasRefused(a *attempt[Req, Res]) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.refused == a
}

// awaitAfter waits for an attempt that comes after a, and returns nil where none does.
func (b *inbox[Req, Res]) awaitAfter(a *attempt[Req, Res]) *attempt[Req, Res] {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.ended == nil && (b.attempt == nil || b.attempt == a) {
		b.wait()
	}
	if b.ended != nil { // Close says so while a callback still runs, and the attempt is there
		return nil
	}
	return b.attempt
}

// claim makes the caller the one who is in RecvMsg of a. It fails where the application is, or where a is gone.
func (b *inbox[Req, Res]) claim(a *attempt[Req, Res]) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for (b.busy || b.isFull()) && b.attempt == a && !b.leaving { // the application has a message in hand, or will find out
		b.wait()
	}
	if b.busy || b.attempt != a || b.refused == a {
		return false
	}
	b.busy, b.since = true, b.ticks
	return true
}

// detach takes the attempt away and waits for what is on its way on it, unless the stream is leaving. What is held is
// dropped, as it comes again; where that was all (the server ended the stream), it is ready. Only what detach returns
// then is where the next attempt starts (invariants 12 and 13).
func (b *inbox[Req, Res]) detach(thatWasAll bool) standing {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.attempt = nil
	for b.busy && !b.leaving {
		b.wait()
	}
	for thatWasAll && b.held.len() > 0 {
		b.release(b.held.popFront())
	}
	b.dropHeld()
	s := standing{position: b.resumePoint, accepted: b.accepted, uncovered: b.uncovered}
	b.uncovered = 0
	return s
}

// leave makes detach stop waiting. The stream's context is done.
func (b *inbox[Req, Res]) leave() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.leaving = true
	b.changed()
}

// abandon makes every Recv return at once. Where it has not come to the end of the stream it returns closed.
func (b *inbox[Req, Res]) abandon(closed error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended == nil || b.ready.len() > 0 && !b.abrupt {
		b.ended = closed
	}
	b.ready, b.readyBytes = queue[arrival[Res]]{}, 0
	b.abrupt = true
	b.changed()
}

// end makes every Recv return err: those to come after what is ready was handed over, or, where abrupt is set, at once.
func (b *inbox[Req, Res]) end(err error, abrupt bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.attempt = nil
	if b.ended == nil {
		b.ended, b.abrupt = err, abrupt
	}
	b.changed()
}

// position returns where the next attempt starts.
func (b *inbox[Req, Res]) position() checkpoint.Position {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.resumePoint
}

// committable returns the position that may be written to the store.
func (b *inbox[Req, Res]) committable() checkpoint.Position {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.processed
}

// processAll marks all that was handed over as processed.
func (b *inbox[Req, Res]) processAll() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.markProcessed()
}
