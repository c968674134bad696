package inbox

// This file stops an inbox while the next attempt is opened and the old one still lives. What the next attempt resumes from must
// not move (invariant 12), so nothing more is received. One call may be on its way: what it brings is set aside, and taken in if
// the old attempt goes on after all. If the next one takes over, that brings it again.

// Freeze stops the inbox, and reports whether it stands still: at once with now, or if the last message that arrived has a
// position. Otherwise it will stop after the next message that has one; see AwaitFrozen. Thaw and Detach end it.
func (b *Inbox[A, M]) Freeze(now bool) (at Standing, frozen bool) {
	b.lock()
	defer b.unlock()
	b.stops = true
	if now || b.uncovered == 0 {
		b.freeze()
	}
	return b.standing(), b.frozen
}

// freeze stops the inbox. The caller holds mu.
func (b *Inbox[A, M]) freeze() {
	b.stops, b.frozen = false, true
	b.changed() // AwaitFrozen may be waiting
}

// AwaitFrozen waits until the inbox has stopped, or the stream leaves or has ended, or over says so. Wake makes it ask over
// again.
func (b *Inbox[A, M]) AwaitFrozen(over func() bool) {
	b.lock()
	defer b.unlock()
	for !b.frozen && !b.leaving && b.ended == nil && !over() {
		b.wait()
	}
}

// Wake makes everybody who waits look again.
func (b *Inbox[A, M]) Wake() {
	b.lock()
	defer b.unlock()
	b.changed()
}

// Thaw lets the inbox go on. If something was set aside, it returns that, and the caller is busy: it calls Arrived with queue,
// and Settle if there is a report.
func (b *Inbox[A, M]) Thaw() (aside *Arrival[M]) {
	b.lock()
	defer b.unlock()
	aside = b.melt()
	if aside != nil {
		b.busy, b.since = true, b.ticks
	}
	b.changed() // Begin may be waiting
	return aside
}

// melt ends a freeze, and returns what was set aside. The caller holds mu.
func (b *Inbox[A, M]) melt() (aside *Arrival[M]) {
	aside, b.aside = b.aside, nil
	b.stops, b.frozen = false, false
	return aside
}

// setAside keeps in, which has arrived after the inbox stopped. There is one at most: nobody begins to receive any more.
func (b *Inbox[A, M]) setAside(in *Arrival[M]) {
	aside := *in
	b.aside, *in = &aside, Arrival[M]{}
	b.free()
}
