package outbox

// This file stops an outbox while the next attempt is opened and the old one still lives. What was sent can still be
// acknowledged.

// Pause makes whoever wants to send wait, as if there were no attempt. What is on its way goes on. Unpause, Attach and Detach
// end it.
func (o *Outbox[A]) Pause() {
	o.mu.Lock()
	defer o.mu.Unlock()
	var none A
	o.attempt = none
	o.changed() // CloseSend may be waiting
}

// Unpause lets the application send on a again, if that is alive, and reports false. If it has called CloseSend meanwhile,
// Unpause reports true: then the caller sends the half-close on a, calls HalfClosed, and Unpause again.
func (o *Outbox[A]) Unpause(a A, alive bool) (halfClose bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.closed && o.closedOn != a && o.busy && !o.leaving {
		o.wait()
	}
	if o.closed && o.closedOn != a && !o.leaving {
		o.busy, o.since = true, o.ticks
		return true
	}
	if alive {
		o.attempt = a
		o.changed()
	}
	return false
}

// AwaitQuiet waits until nothing is on its way and, with acked, everything that was sent on the attempt is acknowledged; or
// until the stream has ended, or over says so. Wake makes it ask over again.
func (o *Outbox[A]) AwaitQuiet(acked bool, over func() bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.busy || acked && o.owesNow() {
		if o.ended != nil || over() {
			return
		}
		o.flushes++
		o.await()
		o.flushes--
	}
}

// SentOnAttempt reports whether a message was sent since the newest attempt was attached.
func (o *Outbox[A]) SentOnAttempt() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.last > o.before || o.source.active && o.source.on == o.newest
}
