package inbox

import "github.com/streamsafe/streamsafe/checkpoint"

// This file has what the owner of the attempts does to an inbox, and who receives in the application's place.

// Standing is where the receiving half stands between two attempts.
type Standing struct {
	Position  checkpoint.Position // where the next attempt starts
	Accepted  uint64              // messages that have arrived for the application so far
	Uncovered uint64              // how many of them came after Position: they may come again
	Busy      bool                // somebody is still in a call on the attempt: the stream is leaving
}

// Attach lets the application receive from a.
func (b *Inbox[A, M]) Attach(a A) {
	b.lock()
	defer b.unlock()
	b.attempt, b.fresh = a, true
	b.changed()
}

// standing returns where the receiving half stands. The caller holds mu.
func (b *Inbox[A, M]) standing() Standing {
	return Standing{Position: b.resumePoint, Accepted: b.accepted, Uncovered: b.uncovered, Busy: b.busy}
}

// Detach takes the attempt away and waits for what is on its way on it, unless the stream is leaving. What is held is
// dropped, as it comes again; with all (the server ended the stream), it is ready. Only what Detach returns then is where
// the next attempt starts (invariants 12 and 13).
func (b *Inbox[A, M]) Detach(all bool) Standing {
	b.lock()
	defer b.unlock()
	var none A
	b.attempt = none
	b.changed() // Claim may be waiting for room
	for b.busy && !b.leaving {
		b.wait()
	}
	b.left = b.busy
	if all {
		b.releaseHeld()
		b.changed() // Begin may be waiting
	}
	b.dropHeld()
	if b.melt() != nil { // it comes again
		b.received++
	}
	s := b.standing()
	b.uncovered = 0
	return s
}

// Leave makes Detach stop waiting. The stream's context is done.
func (b *Inbox[A, M]) Leave() {
	b.lock()
	defer b.unlock()
	b.leaving = true
	b.changed()
}

// Abandon makes every Begin return at once. If it has not come to the end of the stream, it returns closed.
func (b *Inbox[A, M]) Abandon(closed error) {
	b.lock()
	defer b.unlock()
	if b.ended == nil || b.ready.Len() > 0 && !b.abrupt {
		b.ended = closed
	}
	b.ready.Clear()
	b.readySize = 0
	b.abrupt = true
	b.changed()
}

// End makes every Begin return err: those to come after what is ready was handed over, or, if abrupt is set, at once.
func (b *Inbox[A, M]) End(err error, abrupt bool) {
	b.lock()
	defer b.unlock()
	var none A
	b.attempt = none
	if b.ended == nil {
		b.ended, b.abrupt = err, abrupt
	}
	b.changed()
}

// Claim makes the caller the one who is busy, in the application's place. It fails if the application receives, if a is gone,
// or while the inbox is frozen. With wait it waits while the application has a message in hand, or too much is ready: then it
// is the application who finds out what becomes of a. Without, it fails at once, and also if the application asks for a
// message.
func (b *Inbox[A, M]) Claim(a A, wait bool) bool {
	b.lock()
	defer b.unlock()
	for wait && (b.busy || b.isFull()) && b.attempt == a && b.refused != a && !b.leaving {
		b.wait()
	}
	if b.busy || b.frozen || b.attempt != a || b.refused == a || !wait && (b.asks || b.isFull()) {
		return false
	}
	b.busy, b.standIn, b.since = true, !wait, b.ticks
	return true
}

// AwaitAfter waits for an attempt that comes after a, and returns none if none does.
func (b *Inbox[A, M]) AwaitAfter(a A) A {
	b.lock()
	defer b.unlock()
	var none A
	for b.ended == nil && (b.attempt == none || b.attempt == a) {
		b.wait()
	}
	if b.ended != nil { // Abandon says so while a callback still runs, and the attempt is there
		return none
	}
	return b.attempt
}

// Tick counts one tick of the timer that watches the limits. It returns how many ticks the application has waited for a
// message, zero if it does not wait (a slow application is no dead server), and whether none has come from the attempt yet.
func (b *Inbox[A, M]) Tick() (waited uint64, fresh bool) {
	b.lock()
	defer b.unlock()
	b.ticks++
	if b.busy && (!b.standIn || b.asks) {
		waited = b.ticks - b.since
	}
	return waited, b.fresh
}

// Rewait makes the wait that is on count from the last tick: ticks have another length from now on.
func (b *Inbox[A, M]) Rewait() {
	b.lock()
	defer b.unlock()
	b.since = b.ticks - 1
}
