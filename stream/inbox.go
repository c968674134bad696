package stream

import (
	"fmt"
	"sync"
	"time"

	"github.com/streamsafe/streamsafe/checkpoint"
)

// inbox is the receiving half of a logical stream: the attempt that messages come from, the positions, and what has
// arrived and was not handed over yet.
type inbox[Req, Res any] struct {
	// set at construction, then read only
	holds        bool
	holdLimit    int
	overflow     Overflow
	gapDetection bool
	manual       bool   // the application says when it has processed what it was handed
	counted      func() // nil, or is told that a message was processed, while mu is held
	start        time.Time
	events       *events

	mu      sync.Mutex // guards the fields below; never held over I/O, a callback or a timer
	wake    sync.Cond  // on mu; signals every change of what somebody waits for
	waiters int        // how many wait for it

	attempt *attempt[Req, Res] // messages come from it; nil while there is none
	refused *attempt[Req, Res] // one that failed, or brought what must not be taken in: nothing more is taken from it
	busy    bool               // somebody is in RecvMsg of attempt, or hands over what it returned
	ticks   uint64             // of the timer that watches the limits
	since   uint64             // the tick that the RecvMsg began in
	leaving bool               // the stream's context is done: do not wait for what is on its way
	ended   error              // what Recv returns once ready is empty
	abrupt  bool               // what Recv returns at once

	ready      queue[arrival[Res]] // arrived, in order, not handed over
	readyBytes int                 // encoded size of ready, where it is known
	held       queue[arrival[Res]] // waiting for a position
	bytes      int                 // encoded size of held

	// Positions. Each is at or past the next: resumePoint >= delivered >= processed.
	resumePoint checkpoint.Position // of what has arrived for good: the next attempt starts here
	delivered   checkpoint.Position // of what was handed to the application
	processed   checkpoint.Position // of what the application has done with
	handedOver  bool                // a message was handed over since processed was set
	atStart     bool                // the server said that the stream begins where the history does

	received    uint64        // messages, this package's and repeated ones included
	deliveries  uint64        // messages handed to the application
	accepted    uint64        // messages for the application that have arrived for good
	uncovered   uint64        // of those, how many came after resumePoint
	duplicates  uint64        // messages dropped because they came again
	gapAt       gap           // the gap that ended an attempt, while it lasts
	fresh       bool          // no message has come from attempt yet
	clocked     bool          // somebody wants to know lastMessage: Stats was called
	lastMessage time.Duration // when the last message came, after start; zero: none since clocked was set
}

// arrival is a message that has arrived, or a position alone.
type arrival[Res any] struct {
	m        *Res // nil: a position alone
	position checkpoint.Position
	hasPos   bool
	control  bool
	size     int
}

// gap is a hole in the sequence: got came after have.
type gap struct{ have, got uint64 }

func (g gap) Error() string {
	return fmt.Sprintf("sequence number %d came after %d", g.got, g.have)
}

// lineageError is a change of the history that sequence numbers count in (invariant 17).
type lineageError struct{ have, got string }

func (e *lineageError) Error() string {
	return fmt.Sprintf("lineage %q was replaced by %q", e.have, e.got)
}

// Is makes it match ErrPositionLost.
func (e *lineageError) Is(target error) bool { return target == ErrPositionLost }

// begin waits until a message is ready or can be received. It returns the message, or the attempt to receive from:
// the caller is in RecvMsg then, until it calls arrived or refuse.
func (b *inbox[Req, Res]) begin() (*Res, *attempt[Req, Res], error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.handedOver && !b.manual { // a message counts as processed when the next Recv begins
		b.markProcessed()
		if b.counted != nil {
			b.counted()
		}
	}
	for {
		switch {
		case b.abrupt:
			return nil, nil, b.ended
		case b.ready.len() > 0:
			in := b.ready.popFront()
			b.readyBytes -= in.size
			b.changed() // claim may be waiting
			if m := b.handOver(&in); m != nil {
				return m, nil, nil
			}
			continue
		case b.ended != nil:
			return nil, nil, b.ended
		case b.attempt != nil && b.attempt != b.refused && !b.busy:
			b.busy, b.since = true, b.ticks
			return nil, b.attempt, nil
		}
		b.wait()
	}
}

// arrived takes in what RecvMsg of a returned. Where it reports true, m is the application's: the caller hands it over.
// A caller that is not the application says queue, and m waits in ready.
func (b *inbox[Req, Res]) arrived(a *attempt[Req, Res], in *arrival[Res], queue bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.busy, b.fresh = false, false
	if b.clocked {
		b.lastMessage = time.Since(b.start)
	}
	b.changed() // detach may be waiting
	b.received++
	if a == b.refused {
		return false
	}
	if l := b.admit(in); l != nil {
		a.fail(l)
		b.refused = a
		return false
	}
	if in.m == nil && !in.hasPos {
		return false
	}
	if !queue && b.ready.len() == 0 {
		return b.handOver(in) != nil
	}
	b.queue(*in)
	b.changed()
	return false
}

// queue puts in where Recv finds it.
func (b *inbox[Req, Res]) queue(in arrival[Res]) {
	b.readyBytes += in.size
	b.ready.push(in)
}

// What may wait for Recv where the application does not receive, and attempts die.
const (
	maxReady      = 1 << 16 // messages
	maxReadyBytes = 16 << 20
)

// isFull reports whether nothing more is to be received but by the application itself (invariant 8).
func (b *inbox[Req, Res]) isFull() bool {
	return b.ready.len() >= maxReady || b.readyBytes >= maxReadyBytes
}

// refuse ends a RecvMsg that failed, or, with received, one whose message is not taken in. Nothing more is taken from a:
// Recv waits for the next attempt, and does not ask the dead one again and again.
func (b *inbox[Req, Res]) refuse(a *attempt[Req, Res], received bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if received {
		b.received++
	}
	b.busy, b.refused = false, a
	b.changed()
}

// admit decides what becomes of in: it may take the message or the position out of it, where they are not to be handed
// over, or not yet. It returns the end of the attempt where in must not be taken in at all.
func (b *inbox[Req, Res]) admit(in *arrival[Res]) *loss {
	if in.hasPos {
		if l := b.checkOrder(in); l != nil || !in.hasPos {
			return l
		}
	}
	if b.holds && !in.hasPos && !in.control {
		return b.hold(in)
	}
	if in.control {
		in.m = nil
	} else {
		b.accepted++
		b.uncovered++
	}
	if in.hasPos {
		for b.held.len() > 0 {
			b.release(b.held.popFront())
		}
		if in.position.Seq != b.resumePoint.Seq { // a bookmark where the stream stands says nothing of what follows
			b.gapAt = gap{}
		}
		b.resumePoint, b.uncovered = in.position, 0
	}
	return nil
}

// checkOrder compares a position with the one before. It empties in where its message has come before.
func (b *inbox[Req, Res]) checkOrder(in *arrival[Res]) *loss {
	have, got := &b.resumePoint, &in.position
	switch {
	case have.IsZero():
		return nil
	case got.Lineage != have.Lineage:
		return &loss{op: "recv", err: &lineageError{have: have.Lineage, got: got.Lineage}, final: ReasonPositionLost}
	case got.Seq == 0 || have.Seq == 0:
		return nil
	case got.Seq <= have.Seq:
		b.repeated(in)
		return nil
	case b.gapDetection && !in.control && got.Seq > have.Seq+1:
		return b.missing(gap{have: have.Seq, got: got.Seq})
	default:
		return nil
	}
}

// repeated drops a message that has come before, and what was held with it. The position of a control message is
// taken where it is current: it repeats the last number, nothing came after that, and its token may be new. Where
// something is held, one that repeats the last number may be a heartbeat in the middle of a unit: that is kept.
func (b *inbox[Req, Res]) repeated(in *arrival[Res]) {
	again := in.position.Seq == b.resumePoint.Seq
	dropped := uint64(b.held.len())
	switch {
	case !in.control:
		dropped++
	case again:
		in.hasPos = b.uncovered == 0 && dropped == 0
		in.m = nil
		return
	case dropped == 0:
		*in = arrival[Res]{}
		return
	}
	b.dropHeld()
	b.duplicates += dropped
	b.events.publish(event{kind: eventDuplicate, count: dropped, position: in.position})
	*in = arrival[Res]{}
}

// missing ends the attempt at a gap; at the same gap for the second time, the stream.
func (b *inbox[Req, Res]) missing(g gap) *loss {
	b.events.publish(event{kind: eventGap, cause: g})
	if b.gapAt.have == g.have && b.gapAt.got != 0 {
		return &loss{op: "recv", err: g, final: ReasonGap}
	}
	b.gapAt = g
	return &loss{op: "recv", err: g, ours: true}
}

// minMessageSize is what a message counts for at the least, in bytes: an empty one takes memory, too.
const minMessageSize = 16

// hold keeps a message until one with a position comes.
func (b *inbox[Req, Res]) hold(in *arrival[Res]) *loss {
	in.size = max(in.size, minMessageSize)
	if b.bytes+in.size > b.holdLimit {
		b.events.publish(event{kind: eventHeldOverflow, count: uint64(b.held.len()) + 1, bytes: b.bytes + in.size})
		if b.overflow == OverflowFail {
			return &loss{op: "recv", final: ReasonHeldOverflow, err: fmt.Errorf(
				"%d messages of %d bytes came without a position", b.held.len()+1, b.bytes+in.size)}
		}
		for b.held.len() > 0 {
			b.release(b.held.popFront())
		}
		b.accepted++
		b.uncovered++
		return nil
	}
	b.held.push(*in)
	b.bytes += in.size
	*in = arrival[Res]{}
	return nil
}

// release makes a held message ready.
func (b *inbox[Req, Res]) release(in arrival[Res]) {
	b.bytes -= in.size
	b.accepted++
	b.uncovered++
	b.queue(in)
}

// wait waits for the next change. The caller holds mu, and looks again.
func (b *inbox[Req, Res]) wait() {
	b.waiters++
	b.wake.Wait()
	b.waiters--
}

// changed wakes whoever waits. It is called for each message, and most often nobody does.
func (b *inbox[Req, Res]) changed() {
	if b.waiters > 0 {
		b.wake.Broadcast()
	}
}

// markProcessed says that the application has done with all it was handed (invariant 3: a prefix, without holes).
func (b *inbox[Req, Res]) markProcessed() {
	b.processed, b.handedOver = b.delivered, false
}

func (b *inbox[Req, Res]) dropHeld() {
	b.held, b.bytes = queue[arrival[Res]]{}, 0
}

// handOver moves the positions past in, and only now (invariant 2), and returns its message.
func (b *inbox[Req, Res]) handOver(in *arrival[Res]) *Res {
	if in.hasPos {
		b.delivered = in.position
		if in.m == nil && !b.handedOver && !b.manual { // nothing before it is still in the application's hands
			b.processed = in.position
		}
	}
	if in.m != nil {
		b.deliveries++
		b.handedOver = true
	}
	return in.m
}
