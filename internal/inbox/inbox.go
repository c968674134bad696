package inbox

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/internal/queue"
)

// Config says how a stream receives.
type Config struct {
	Hold            bool   // messages without a position wait for one
	HoldLimit       int    // how many bytes may wait for one
	DeliverOverflow bool   // hand over what may not be held, rather than break
	NoGaps          bool   // each message with a position has the number after the one before
	Manual          bool   // the application says when it has processed what it was handed
	Counted         func() // nil, or is told that a message was processed; it takes no lock and does not wait
	Moved           func() // nil, or is told that the processed position has moved without a message; the same
	MaxReady        int    // how many messages may wait for the application. Zero: 65,536
	MaxReadySize    int    // and how many bytes. Zero: 16 MiB
}

// The defaults of what may wait for an application that does not receive.
const (
	maxReady     = 1 << 16
	maxReadySize = 16 << 20
)

// MinSize is what a message that waits counts for at the least, in bytes: an empty one takes memory, too (invariant 40).
const MinSize = 96

// cost returns what a message of that encoded size counts for while it waits.
func cost(size int) int { return max(size, MinSize) }

// Arrival is a message that has arrived, or a position alone.
type Arrival[M any] struct {
	Message     *M // nil: a position alone
	Position    checkpoint.Position
	HasPosition bool
	Control     bool   // it is the protocol's own, and not handed over
	Size        int    // encoded, in bytes
	Epoch       uint64 // of the attempt that it came from
}

// Inbox is the receiving half of a stream. A is an attempt, and its zero value none; M is the type of messages.
type Inbox[A comparable, M any] struct {
	config Config    // set at construction, then read only
	start  time.Time // set at construction, then read only

	lane lane[A] // the way of a message that is next; see lane.go

	mu      sync.Mutex // guards the fields below; never held over I/O, a callback or a timer
	wake    sync.Cond  // on mu; signals every change of what somebody waits for
	waiters int        // how many wait for it

	attempt A      // messages come from it; none while the stream is detached
	refused A      // the newest that failed, or brought what must not be taken in: nothing more is taken from it
	busy    bool   // somebody is in RecvMsg of an attempt, or acts on what it returned
	standIn bool   // that is not the application, which does not receive now
	asks    bool   // the application waits in Begin
	ticks   uint64 // of the timer that watches the limits
	since   uint64 // the tick that the application began to wait in
	leaving bool   // the stream's context is done: do not wait for what is on its way
	left    bool   // Detach did not wait: nothing more is taken in, as what was held before it is gone (invariant 5)
	ended   error  // what Begin returns once ready is empty
	abrupt  bool   // it returns that at once

	stops  bool        // it is to freeze after the next message with a position
	frozen bool        // nothing more is received: the next attempt is being opened; see freeze.go
	aside  *Arrival[M] // what has arrived since; nil if nothing has

	ready     queue.Queue[Arrival[M]] // arrived, in order, not handed over
	readySize int                     // cost of ready
	held      queue.Queue[Arrival[M]] // waiting for a position
	heldSize  int                     // cost of held

	// Positions. Each is at or past the next: resumePoint >= delivered >= processed.
	resumePoint checkpoint.Position // of what has arrived for good: the next attempt starts here
	delivered   checkpoint.Position // of what was handed to the application
	processed   checkpoint.Position // of what the application has done with
	handedOver  bool                // a message was handed over since processed was set
	atStart     bool                // the server said that the stream begins where the history does

	received   uint64 // messages, the protocol's and repeated ones included
	deliveries uint64 // messages handed to the application
	accepted   uint64 // messages for the application that have arrived for good
	uncovered  uint64 // of those, how many came after resumePoint
	duplicates uint64 // messages dropped because they came again
	gapped     bool   // a gap ended an attempt, and the stream has not moved since
	fresh      bool   // no message has come from attempt yet
	clocked    bool   // somebody wants to know when the last message came: Stats was called

	// The epoch of the message handed over last. Written while mu is held; read without it. The fast lane leaves it alone: the
	// first message of an attempt never takes that.
	from atomic.Uint64
}

// New returns an inbox at the zero position, without an attempt.
func New[A comparable, M any](config Config) *Inbox[A, M] {
	if config.MaxReady == 0 {
		config.MaxReady = maxReady
	}
	if config.MaxReadySize == 0 {
		config.MaxReadySize = maxReadySize
	}
	b := &Inbox[A, M]{config: config, start: time.Now()}
	b.wake.L = &b.mu
	return b
}

// Begin waits until a message is ready or can be received. It returns the message, or the attempt to receive from: the
// caller is busy then, until it calls Arrived, and Settle if there is a report, or Refuse.
func (b *Inbox[A, M]) Begin() (*M, A, error) {
	if a, ok := b.beginFast(); ok {
		return nil, a, nil
	}
	b.lock()
	defer b.unlock()
	if b.handedOver && !b.config.Manual { // a message counts as processed when the next Recv begins
		b.markProcessed()
		b.counted()
	}
	var none A
	for {
		switch {
		case b.abrupt:
			return nil, none, b.ended
		case b.ready.Len() > 0:
			in := b.ready.PopFront()
			b.ready.Trim()
			b.readySize -= cost(in.Size)
			b.changed() // Claim may be waiting
			if m := b.handOver(&in); m != nil {
				return m, none, nil
			}
			continue
		case b.ended != nil:
			return nil, none, b.ended
		case b.attempt != none && b.attempt != b.refused && !b.busy && !b.frozen:
			b.busy, b.standIn, b.since = true, false, b.ticks
			return nil, b.attempt, nil
		}
		b.ask()
	}
}

// Await waits until Begin would not wait, for the application. It takes nothing.
func (b *Inbox[A, M]) Await() {
	b.lock()
	defer b.unlock()
	var none A
	for !b.abrupt && b.ready.Len() == 0 && b.ended == nil && (b.attempt == none || b.attempt == b.refused || b.busy) {
		b.ask()
	}
}

// Yield ends what Begin began, if nothing was received.
func (b *Inbox[A, M]) Yield() {
	b.lock()
	defer b.unlock()
	b.free()
}

// From returns the epoch of the attempt that the message handed over last came from, zero before the first one.
func (b *Inbox[A, M]) From() uint64 { return b.from.Load() }

// ask waits for the next change, for the application. It waits for a message from now on, though another receives it.
func (b *Inbox[A, M]) ask() {
	if b.standIn {
		b.since = b.ticks
	}
	b.asks = true
	b.wait()
	b.asks = false
}

// counted tells that a message was processed.
func (b *Inbox[A, M]) counted() {
	if b.config.Counted != nil {
		b.config.Counted()
	}
}

// Arrived takes in what was received from a. If it reports true, the message is the application's: the caller hands it
// over. A caller that is not the application says queue, and the message waits for Begin. If there is a report, the caller
// stays busy until it calls Settle.
func (b *Inbox[A, M]) Arrived(a A, in *Arrival[M], queue bool) (mine bool, r *Report) {
	if !queue && b.arriveFast(in) {
		return true, nil
	}
	b.lock()
	defer b.unlock()
	if b.frozen && !b.left {
		b.setAside(in)
		return false, nil
	}
	b.fresh = false
	b.received++
	b.noteTime()
	if b.left {
		b.free()
		return false, nil
	}
	kind := b.kindOf(in)
	if r = b.take(kind, in); r == nil {
		b.free()
	}
	if r != nil && r.Breaks() {
		return false, r
	}
	b.lane.mode = modeOf(kind, in)
	if b.stops && b.uncovered == 0 {
		b.freeze()
	}
	return b.deliver(in, queue), r
}

// deliver hands in over, or puts it where Begin finds it. It reports whether there was a message, and it was handed over.
func (b *Inbox[A, M]) deliver(in *Arrival[M], queue bool) bool {
	switch {
	case in.Message == nil && !in.HasPosition:
		return false
	case !queue && b.ready.Len() == 0:
		return b.handOver(in) != nil
	default:
		b.enqueue(in) // whoever ends what is going on wakes Begin
		return false
	}
}

// Settle ends what a report began: the caller has acted on it. With broken, nothing more is taken from a.
func (b *Inbox[A, M]) Settle(a A, broken bool) {
	b.lock()
	defer b.unlock()
	if broken {
		b.refused = a
	}
	b.free()
}

// Refuse ends a RecvMsg that failed, or, with received, one whose message is not taken in. Nothing more is taken from a:
// Begin waits for the next attempt, and does not return the dead one again and again.
func (b *Inbox[A, M]) Refuse(a A, received bool) {
	b.lock()
	defer b.unlock()
	if received {
		b.received++
	}
	b.refused = a
	b.free()
}

// free ends what somebody was busy with.
func (b *Inbox[A, M]) free() {
	b.busy, b.standIn = false, false
	b.changed() // Detach may be waiting
}

// enqueue puts in where Begin finds it.
func (b *Inbox[A, M]) enqueue(in *Arrival[M]) {
	b.readySize += cost(in.Size)
	b.ready.Push(*in)
}

// isFull reports whether nothing more is to be received but by the application itself (invariants 8 and 40).
func (b *Inbox[A, M]) isFull() bool {
	return b.ready.Len() >= b.config.MaxReady || b.readySize >= b.config.MaxReadySize
}

// handOver moves the positions past in, and only now (invariant 2), and returns its message.
func (b *Inbox[A, M]) handOver(in *Arrival[M]) *M {
	if in.HasPosition {
		b.delivered = in.Position
		if in.Message == nil && !b.handedOver && !b.config.Manual { // nothing before it is still in the application's hands
			b.processed = in.Position
			if b.config.Moved != nil {
				b.config.Moved()
			}
		}
	}
	if in.Message != nil {
		b.deliveries++
		b.handedOver = true
		b.from.Store(in.Epoch)
	}
	return in.Message
}

// markProcessed says that the application has done with all it was handed (invariant 3: a prefix, without holes).
func (b *Inbox[A, M]) markProcessed() { b.processed, b.handedOver = b.delivered, false }

// lock takes mu and closes the fast lane: the fields are up to date.
func (b *Inbox[A, M]) lock() {
	b.mu.Lock()
	b.fold()
}

// unlock opens the fast lane, if nothing else is going on, and lets go of mu.
func (b *Inbox[A, M]) unlock() {
	b.arm()
	b.mu.Unlock()
}

// wait waits for the next change. The caller holds mu, and looks again. While somebody waits the fast lane stays closed.
func (b *Inbox[A, M]) wait() {
	b.waiters++
	b.wake.Wait()
	b.waiters--
}

// changed wakes whoever waits. Most often nobody does.
func (b *Inbox[A, M]) changed() {
	if b.waiters > 0 {
		b.wake.Broadcast()
	}
}
