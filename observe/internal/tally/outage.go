package tally

import "time"

// stable is how long an attempt has to stay attached to count as one that works, if it brings nothing.
const stable = 10 * time.Second

// Works tells whether an attempt that was attached at a time works by now: gRPC opens an attempt before the server has answered, so
// one that the server refuses is attached for a moment. The stream had received messages before it, and has received more by now.
func Works(attached, now time.Time, had, received uint64) bool {
	return !attached.IsZero() && (received > had || now.Sub(attached) >= stable)
}

// Outage follows whether a stream has an attempt that works. It is not safe for concurrent use.
type Outage struct {
	since    time.Time // since when there is no attempt that works; zero: there is one
	attached time.Time // when the newest attempt was attached; zero: there is none
	had      uint64    // messages received when the attempt before was lost
	worked   bool      // an attempt has worked
}

// Ended is an outage that is over, or the first open.
type Ended struct {
	Took  time.Duration // until the attempt that works was attached
	First bool          // no attempt had worked before
}

// From is the outage of a stream that was made at a time.
func From(began time.Time) Outage { return Outage{since: began} }

// Attached says that an attempt is attached.
func (o *Outage) Attached(at time.Time) { o.attached = at }

// Settle looks whether the newest attempt works by now. If that ends an outage it returns it.
func (o *Outage) Settle(now time.Time, received uint64) (Ended, bool) {
	if o.since.IsZero() || !Works(o.attached, now, o.had, received) {
		return Ended{}, false
	}
	ended := Ended{Took: o.attached.Sub(o.since), First: !o.worked}
	o.since, o.worked = time.Time{}, true
	return ended, true
}

// Lost says that the newest attempt was lost, or could not be opened. If it had worked, and that ends an outage, it returns
// that one: another begins.
func (o *Outage) Lost(at time.Time, received uint64) (Ended, bool) {
	ended, ok := o.Settle(at, received)
	if o.since.IsZero() {
		o.since = at
	}
	o.attached, o.had = time.Time{}, received
	return ended, ok
}

// Away returns for how long there is no attempt that works, and whether there never was one.
func (o *Outage) Away(now time.Time) (away time.Duration, first bool) {
	if o.since.IsZero() {
		return 0, false
	}
	return now.Sub(o.since), !o.worked
}
