package outbox

import "math"

// This file has what the owner of the attempts does to an outbox, the half-close, and what watches it.

// Opened says that a is the newest attempt from now on. The replay begins: Attach ends it.
func (o *Outbox[A]) Opened(a A) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.newest, o.states.cursor = a, o.states.order.Front()
	o.changed()
}

// calm waits until nothing is on its way. It reports false if the stream leaves before.
func (o *Outbox[A]) calm() bool {
	for o.busy && !o.leaving {
		o.wait()
	}
	return !o.busy
}

// Attach lets the application send on a, if that is alive, and reports false. If the half-close has to come first (invariant
// 15), it reports true: then the caller sends that on a, calls HalfClosed, and Attach again.
func (o *Outbox[A]) Attach(a A, alive bool) (halfClose bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed && o.closedOn != a && o.calm() {
		o.busy, o.since = true, o.ticks
		return true
	}
	o.quiet, o.before = o.ticks, o.last
	if alive {
		o.attempt = a
		o.changed()
	}
	return false
}

// CloseSend remembers that the application has nothing more to send. If it returns true, there is an attempt: the caller
// sends the half-close on it, and calls HalfClosed.
func (o *Outbox[A]) CloseSend() (a A, now bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var none A
	for !o.closed && o.busy && o.attempt != none {
		o.await()
	}
	if o.closed {
		return none, false
	}
	o.closed = true
	o.changed()                                       // a Send that waits is too late
	if o.attempt == none || o.closedOn == o.attempt { // a pass has done it
		return none, false
	}
	o.busy, o.since = true, o.ticks
	return o.attempt, true
}

// HalfClosed ends the half-close of a.
func (o *Outbox[A]) HalfClosed(a A) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closedOn = a
	o.free()
}

// IsClosed reports whether CloseSend was called, or the end of a source was sent.
func (o *Outbox[A]) IsClosed() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.closed || o.source.closing
}

// Detach takes the attempt away and waits for what is on its way on it, unless the stream is leaving. Only what it returns
// then is what was sent.
func (o *Outbox[A]) Detach() Counts {
	o.mu.Lock()
	defer o.mu.Unlock()
	var none A
	o.attempt, o.newest = none, none
	o.changed() // CloseSend may be waiting
	for o.busy && !o.leaving {
		o.wait()
	}
	return o.counts()
}

// Leave makes Detach stop waiting. The stream's context is done.
func (o *Outbox[A]) Leave() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.leaving = true
	o.changed()
}

// End makes every Send, waiting or to come, return err. What is kept stays: it can be read with Next (invariant 32).
func (o *Outbox[A]) End(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended != nil {
		return
	}
	var none A
	o.ended, o.attempt, o.newest = err, none, none
	o.settleUpTo(math.MaxUint64, FateEnded)
	o.changed()
}

// Tick counts one tick of the timer that watches the limits. It returns for how many ticks the transport has not taken what
// is on its way, and for how many something is unacknowledged and nothing was acknowledged; zero if there is none.
func (o *Outbox[A]) Tick() (sending, unacked uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ticks++
	var none A
	if o.busy {
		sending = o.ticks - o.since
	}
	if o.attempt != none && o.owesNow() {
		unacked = o.ticks - o.quiet
	}
	return sending, unacked
}

// Watch says that the caller calls Stalled from time to time. It reports false if somebody does that already.
func (o *Outbox[A]) Watch() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.watched {
		return false
	}
	o.watched = true
	return true
}

// Stalled reports whether a call of the application's waits, and nothing has happened that it waits for since Stalled was
// called last: no message was accepted, or, for AwaitAcked, none was acknowledged. A receipt waits as AwaitAcked does. With again
// false nothing was sent at all, and nothing waits: the caller need not call it any more.
func (o *Outbox[A]) Stalled() (stalled, again bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	accepted := o.sent + o.others
	still, unacked := accepted == o.seen, o.acked == o.had
	o.seen, o.had = accepted, o.acked
	pending, tracked := o.busy || o.waiting > 0, o.receipts.Len() > 0
	if o.watched = pending || tracked || !still; !o.watched {
		o.kept.Trim()
	}
	return pending && still || (o.flushes > 0 || tracked) && unacked, o.watched
}

// Owes reports whether an acknowledgement is to be expected on this attempt.
func (o *Outbox[A]) Owes() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.owesNow()
}

// IsWatched reports whether something was sent, or waited, when Stalled was called last, or since.
func (o *Outbox[A]) IsWatched() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.watched
}

// Counts is a snapshot of an outbox.
type Counts struct {
	Sent, LastSeq, Acked uint64
	Unacked, UnackedSize int
	Keys, KeysSize       int    // keys that have a message, and of what size
	Ticks                uint64 // of the timer that watches the limits
	Outstanding          bool   // something that was sent is not acknowledged
	FromSource           uint64 // of Sent, those that a source has
	Pulled               bool   // a source has messages that are not acknowledged
	PulledAgain          uint64 // messages that a source was asked for again
}

// Stats returns a snapshot.
func (o *Outbox[A]) Stats() Counts {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.counts()
}

func (o *Outbox[A]) counts() Counts {
	return Counts{
		FromSource: o.source.new, Pulled: o.sourceOwes(), PulledAgain: o.source.again,
		Sent: o.sent + o.source.new, LastSeq: o.last, Acked: o.acked,
		Keys: o.states.order.Len(), KeysSize: o.states.size,
		Unacked: o.kept.Len(), UnackedSize: o.size, Outstanding: o.owes(), Ticks: o.ticks,
	}
}
