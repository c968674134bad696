package outbox

import (
	"math"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/mem"

	"github.com/streamsafe/streamsafe/internal/queue"
)

// Config says how a stream sends.
type Config struct {
	Replay       bool // messages are kept until they are acknowledged
	Messages     int  // how many may be kept
	Bytes        int  // and of what encoded size; the newest may go over it
	FailWhenFull bool // Begin returns Full rather than wait
	Explicit     bool // the caller numbers the messages
	Keys         int  // how many keys there may be
	KeyBytes     int  // and of what size, with their newest messages
}

// Kept is a message that may have to be sent again, encoded: what the caller does to it after Send does not matter
// (invariant 29).
type Kept struct {
	Seq     uint64
	Data    mem.BufferSlice
	Encoded bool // Data is there
	Refused bool // Send has returned an error for it: if it is refused again, it is let go

	size int // encoded
}

// Outbox is the sending half of a stream. A is an attempt, and its zero value none.
type Outbox[A comparable] struct {
	config Config // set at construction, then read only
	copies copies // of messages; safe for concurrent use

	mu      sync.Mutex // guards the fields below; never held over I/O, a callback or a timer
	wake    sync.Cond  // on mu; signals every change of what somebody waits for
	waiters int        // how many wait for it

	attempt A      // takes messages; none while there is none, or while it is being replayed to
	newest  A      // the attempt that is not detached yet: it takes what belongs to it alone, in a replay too
	busy    bool   // a message or a half-close is on its way
	asking  int    // how many wait in BeginOn
	granted bool   // one of them is busy: it has its turn
	waiting int    // how many calls of the application's wait: Begin, CloseSend and AwaitAcked
	urgent  bool   // Interrupt was called, and nobody has stopped waiting yet
	leaving bool   // the stream's context is done: do not wait for what is on its way
	ended   error  // what Send returns from now on
	ticks   uint64 // of the timer that watches the limits
	since   uint64 // the tick that what is on its way began in
	before  uint64 // what last was when the attempt was attached
	quiet   uint64 // the tick of the newest acknowledgement, or of the oldest message after it
	watched bool   // somebody calls Stalled from time to time
	flushes int    // how many of the waiting are in AwaitAcked
	seen    uint64 // how many messages were accepted when Stalled was called last
	had     uint64 // what acked was then

	sent     uint64 // messages with a number of their own that were accepted from the application
	others   uint64 // messages accepted that have none
	last     uint64 // highest sequence number ever sent in the stream
	acked    uint64 // highest one acknowledged; acked <= last (invariant 7)
	closed   bool   // CloseSend was called
	closedOn A      // the newest attempt that the half-close was sent on

	kept   queue.Queue[Kept] // sent and not acknowledged, in order of Seq; still there after the end (invariant 32)
	size   int               // encoded size of kept
	inHand any               // the message on its way, until the codec has seen it
	number uint64            // its sequence number
	states states            // of keys
	source source[A]         // of messages that are pulled

	receipts queue.Queue[*Receipt] // of messages whose fate is not settled, in order of seq

	resend mem.BufferSlice // its bytes, if they are known already
	coded  uint64          // the newest turn in which the codec has encoded anything

	// written while mu is held, read without it by the codec, for each message
	turn  atomic.Uint64 // counts what was in hand: a message that comes again has another one
	again atomic.Bool   // resend is set
}

// New returns an outbox without an attempt.
func New[A comparable](config Config) *Outbox[A] {
	o := &Outbox[A]{config: config}
	o.wake.L = &o.mu
	return o
}

// Ticket is the right to send one message on an attempt.
type Ticket[A comparable] struct {
	Attempt A
	Manner
	turn   uint64
	before uint64 // the highest sequence number before the message's
}

// Manner is how a message is sent. It is a field of its own because a struct of more than four is not kept in registers: a copy of
// the ticket for each message would cost as much as the outbox does.
type Manner struct {
	// Watch says that nobody calls Stalled: the caller has to see to it.
	Watch bool

	kind kind
}

// Verdict is what Begin says.
type Verdict uint8

const (
	// Go means: send it, and call Settle.
	Go Verdict = iota
	// Ended means that the stream has ended; Err tells how.
	Ended
	// Closed means that CloseSend was called before.
	Closed
	// OutOfOrder means that the number does not follow the last one.
	OutOfOrder
	// Exhausted means that no number is left.
	Exhausted
	// Full means that too much is not acknowledged (invariant 8).
	Full
	// NotYet means that there is no attempt to send on, or that another message is on its way.
	NotYet
	// Over means that the attempt that the message belongs to is gone.
	Over
	// Stored means that the message is kept for the next attempt, and there is nothing to send now.
	Stored
	// Sourced means that a source has the word: somebody pulls from it, or what was pulled is not acknowledged.
	Sourced
	// Acked means that there is nothing more to send: everything is acknowledged.
	Acked
)

// Begin asks for the turn of m. seq is its number if the caller numbers messages. With wait it waits while the verdict is
// Full (unless Config.FailWhenFull is set) or NotYet, or until Interrupt is called.
//
// If the verdict is Go, the caller is busy until it calls Settle, Complete or Forget.
func (o *Outbox[A]) Begin(m any, seq uint64, wait bool) (Ticket[A], Verdict) {
	o.mu.Lock()
	defer o.mu.Unlock()
	v := o.verdict(seq)
	for wait && (v == NotYet || v == Full && !o.config.FailWhenFull) {
		if o.urgent {
			o.urgent = false
			break
		}
		o.await()
		v = o.verdict(seq)
	}
	if v != Go {
		return Ticket[A]{}, v
	}
	if !o.config.Explicit {
		seq = o.last + 1
	}
	t := Ticket[A]{Attempt: o.attempt, Manner: Manner{Watch: !o.watched}, before: o.last}
	if !o.owesNow() {
		o.quiet = o.ticks
	}
	o.busy, o.since, o.watched = true, o.ticks, true // the wait for room and for an attempt does not count
	o.last = seq
	o.sent++
	if o.config.Replay { // before it can be on the wire, so that no acknowledgement comes too early
		o.kept.Add().Seq = seq
		o.inHand, o.number, t.turn = m, seq, o.turn.Add(1)
	}
	return t, Go
}

// Interrupt makes a Begin that waits, or the next one that would, return NotYet or Full instead, once.
func (o *Outbox[A]) Interrupt() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.urgent = true
	o.changed()
}

func (o *Outbox[A]) verdict(seq uint64) Verdict {
	var none A
	switch {
	case o.ended != nil:
		return Ended
	case o.closed:
		return Closed
	case o.source.active || o.sourceOwes():
		return Sourced
	case o.config.Explicit && seq <= o.last:
		return OutOfOrder
	case !o.config.Explicit && o.last == math.MaxUint64:
		return Exhausted
	case o.config.Replay && (o.kept.Len() >= o.config.Messages || o.size >= o.config.Bytes):
		return Full
	case o.busy || o.attempt == none:
		return NotYet
	default:
		return Go
	}
}

// Settle ends the sending of the message of t with what was said of it, and applies the table (outcome.go). With missed,
// the codec has not seen the message, which is kept: the caller encodes it and calls Complete.
func (o *Outbox[A]) Settle(t Ticket[A], said Said) (outcome Outcome, missed bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if t.kind != numbered {
		return o.settleOther(t, said), false
	}
	outcome = outcomeOf(said, o.encoded(t), o.config.Replay)
	switch outcome.Message {
	case TakenBack, Again:
		o.takeBack(t)
		o.free()
		return outcome, false
	case InDoubt:
		if k := o.after(t.before); k != nil {
			k.Refused = true
		}
	case Sent:
	}
	if o.inHand != nil {
		return outcome, true
	}
	o.free()
	return outcome, false
}

// encoded reports whether the codec has encoded the message of t, or what an interceptor has made of it.
func (o *Outbox[A]) encoded(t Ticket[A]) Encoded {
	switch {
	case !o.config.Replay:
		return Unknown
	case o.coded == t.turn:
		return Yes
	default:
		return No
	}
}

// Complete ends what Settle reported as missed: data is the message of t, encoded, or nil if it cannot be. Then it cannot be
// kept either.
func (o *Outbox[A]) Complete(m any, t Ticket[A], data mem.BufferSlice, ok bool) {
	if ok {
		o.Keep(m, t.turn, data).Free()
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if !ok {
		o.dropNewest(t)
	}
	o.free()
}

// Forget ends the sending of the message of t: the call that should have sent it did not return. The message is taken back,
// unless the codec has encoded it: then it may have reached the wire (invariant 34).
func (o *Outbox[A]) Forget(t Ticket[A]) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case t.kind != numbered:
		o.settleOther(t, Failed)
		return
	case o.encoded(t) != Yes:
		o.takeBack(t)
	case o.inHand != nil: // something was sent in its place, and nobody knows its bytes
		o.dropNewest(t)
	}
	o.free()
}

// takeBack makes the message of t one that was never sent.
func (o *Outbox[A]) takeBack(t Ticket[A]) {
	o.sent--
	o.last = t.before
	o.acked = min(o.acked, o.last) // the other end has acknowledged what it cannot have: the next one has this number
	o.dropNewest(t)
	o.untrack(t.before)
}

// dropNewest drops the message of t.
func (o *Outbox[A]) dropNewest(t Ticket[A]) {
	if o.kept.Len() > 0 && o.kept.Back().Seq > t.before {
		newest := o.kept.PopBack()
		o.drop(&newest)
	}
}

// free ends what is on its way.
func (o *Outbox[A]) free() {
	o.inHand = nil
	o.busy, o.granted = o.asking > 0, o.asking > 0 // who waits in BeginOn is next: others would always be faster
	if o.resend != nil {
		o.resend.Free()
		o.resend = nil
		o.again.Store(false)
	}
	o.changed()
}

// Abandon makes Begin wait for the next attempt: a is dead.
func (o *Outbox[A]) Abandon(a A) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.attempt == a {
		var none A
		o.attempt = none
		o.changed() // CloseSend may be waiting
	}
}

// Err returns what Send returns after the end, nil before.
func (o *Outbox[A]) Err() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.ended
}

// await waits for the next change, for the application, which looks again.
func (o *Outbox[A]) await() {
	o.waiting++
	o.wait()
	o.waiting--
}

// wait waits for the next change. The caller holds mu, and looks again.
func (o *Outbox[A]) wait() {
	o.waiters++
	o.wake.Wait()
	o.waiters--
}

// changed wakes whoever waits. Most often nobody does.
func (o *Outbox[A]) changed() {
	if o.waiters > 0 {
		o.wake.Broadcast()
	}
}
