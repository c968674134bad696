package stream

import (
	"errors"
	"fmt"
	"math"
	"sort"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
)

// outbox is the sending half of a logical stream: the attempt that takes messages, and what was sent and not yet
// acknowledged.
type outbox[Req, Res any] struct {
	// set at construction, then read only
	limits   ReplayLimits
	replay   bool // messages are kept
	codec    encoding.CodecV2
	explicit bool // the application numbers its messages
	events   *events

	copies copies // of messages; safe for concurrent use

	mu   sync.Mutex // guards the fields below; never held over I/O, a callback or a timer
	wake sync.Cond  // on mu; signals every change of what somebody waits for

	attempt *attempt[Req, Res] // takes messages; nil while there is none, or while it is being replayed to
	busy    bool               // a Send, a CloseSend or a replayed message is on its way
	ticks   uint64             // of the timer that watches the limit
	since   uint64             // the tick that it began in
	leaving bool               // the stream's context is done: do not wait for what is on its way
	ended   error              // what Send returns from now on

	sent   uint64 // messages accepted from the application
	last   uint64 // highest sequence number ever sent in the logical stream
	acked  uint64 // highest one acknowledged; acked <= last (invariant 7)
	closed bool   // CloseSend was called
	full   bool   // a Send waits for room

	kept   queue[keptMessage] // sent and not acknowledged, in order
	bytes  int                // encoded size of kept
	inHand any                // the message on its way, until the codec has seen it
	number uint64             // its sequence number
	resend mem.BufferSlice    // its bytes, where they are known already

	// written while mu is held, read without it by the codec, for each message
	turn  atomic.Uint64 // counts what was in hand: a message that comes again has another one
	again atomic.Bool   // resend is set
	coded atomic.Uint64 // the last turn in which the codec has encoded anything
}

// keptMessage is a message that may have to be sent again, encoded: what the caller does to it after Send does not
// matter (invariant 29).
type keptMessage struct {
	seq  uint64
	data mem.BufferSlice // nil until it is encoded
	size int

	refused bool // Send has said so: where it is refused again, it is let go
}

// ticket is the right to send one message on an attempt.
type ticket[Req, Res any] struct {
	attempt *attempt[Req, Res]
	turn    uint64
	before  uint64 // the highest sequence number before the message's
}

// begin waits until m can be sent. Where it returns no error, the caller sends m on the ticket's attempt and then
// calls done or forget.
func (o *outbox[Req, Res]) begin(m *Req, seq uint64) (ticket[Req, Res], error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.awaitTurn(seq); err != nil {
		return ticket[Req, Res]{}, err
	}
	if !o.explicit {
		seq = o.last + 1
	}
	t := ticket[Req, Res]{attempt: o.attempt, before: o.last}
	o.busy, o.full, o.since = true, false, o.ticks // the wait for room and for an attempt does not count
	o.last = seq
	o.sent++
	if o.replay { // before it can be on the wire, so that no acknowledgement comes too early
		o.kept.push(keptMessage{seq: seq})
		o.inHand, o.number, t.turn = m, seq, o.turn.Add(1)
	}
	return t, nil
}

func (o *outbox[Req, Res]) awaitTurn(seq uint64) error {
	for {
		switch {
		case o.ended != nil:
			return o.ended
		case o.closed:
			return refused(errors.New("Send after CloseSend"))
		case o.explicit && seq <= o.last:
			return refused(fmt.Errorf("sequence number %d does not follow %d", seq, o.last))
		case o.isFull():
			o.announceFull()
			if o.limits.FailWhenFull {
				return &Error{Op: "send", Reason: ReasonWindowFull, Cause: fmt.Errorf(
					"%d messages of %d bytes are not acknowledged", o.kept.len(), o.bytes)}
			}
		case !o.busy && o.attempt != nil:
			return nil
		}
		o.wake.Wait()
	}
}

// isFull reports whether the next message has to wait (invariant 8). One message may go over the limit of bytes,
// since its size is known only when it is encoded.
func (o *outbox[Req, Res]) isFull() bool {
	return o.replay && (o.kept.len() >= o.limits.Messages || o.bytes >= o.limits.Bytes)
}

func (o *outbox[Req, Res]) announceFull() {
	if !o.full {
		o.full = true
		o.events.publish(event{kind: eventWindowFull, count: uint64(o.kept.len()), bytes: o.bytes})
	}
}

// done ends the sending of m, which the stream answers for from now on. It fails where m cannot be encoded, and so not be
// kept.
func (o *outbox[Req, Res]) done(m *Req, t ticket[Req, Res]) error {
	o.mu.Lock()
	missed := o.inHand != nil
	if !missed {
		o.settle()
	}
	o.mu.Unlock()
	if !missed {
		return nil
	}
	// The codec has not seen m: an interceptor sent another message in its place, or none.
	data, err := o.codec.Marshal(m)
	if err == nil {
		o.keep(m, t.turn, data).Free()
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if err != nil {
		o.dropNewest(t)
	}
	o.settle()
	return err
}

// mayBeSent reports whether the codec has encoded the message of t, or what an interceptor has made of it.
func (o *outbox[Req, Res]) mayBeSent(t ticket[Req, Res]) bool {
	return o.replay && o.coded.Load() == t.turn
}

// markRefused notes that Send has refused the message of t, though it is kept.
func (o *outbox[Req, Res]) markRefused(t ticket[Req, Res]) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if k := o.after(t.before); k != nil {
		k.refused = true
	}
}

// dropNewest drops the message of t. The caller holds mu.
func (o *outbox[Req, Res]) dropNewest(t ticket[Req, Res]) {
	if o.kept.len() > 0 && o.kept.back().seq > t.before {
		o.drop(o.kept.popBack())
	}
}

// forget takes back the message of t, which the transport never had.
func (o *outbox[Req, Res]) forget(t ticket[Req, Res]) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sent--
	o.last = t.before
	o.dropNewest(t)
	o.settle()
}

// abandon makes Sends wait for the next attempt: this one is dead.
func (o *outbox[Req, Res]) abandon(a *attempt[Req, Res]) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.attempt == a {
		o.attempt = nil
	}
}

// settle ends what is on its way. The caller holds mu.
func (o *outbox[Req, Res]) settle() {
	o.busy, o.inHand = false, nil
	if o.resend != nil {
		o.resend.Free()
		o.resend = nil
		o.again.Store(false)
	}
	o.wake.Broadcast()
}

// encoded is called by the codec in the goroutine that sends, before it encodes v.
func (o *outbox[Req, Res]) encoded(v any) (data mem.BufferSlice, turn uint64) {
	turn = o.turn.Load()
	if !o.again.Load() {
		return nil, turn
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.inHand == nil || o.inHand != v || o.resend == nil {
		return nil, turn
	}
	o.inHand = nil
	o.resend.Ref()
	return o.resend, turn
}

// keep is called by the codec, which has encoded v and began at this turn. v may be another message than the one in hand,
// or late: an interceptor may send what it likes, in a goroutine of its own.
func (o *outbox[Req, Res]) keep(v any, turn uint64, data mem.BufferSlice) mem.BufferSlice {
	o.coded.Store(turn)
	data = o.copies.fit(data) // it may copy: not while mu is held
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.inHand == nil || o.inHand != v || o.turn.Load() != turn {
		return data
	}
	o.inHand = nil
	if k := o.after(o.number - 1); k != nil && k.seq == o.number { // else acknowledged, or the stream has ended
		data.Ref()
		k.data.Free()
		size := data.Len()
		o.bytes += size - k.size
		k.data, k.size = data, size
	}
	return data
}

// after returns the first kept message whose number is higher than seq, nil where there is none.
func (o *outbox[Req, Res]) after(seq uint64) *keptMessage {
	n := o.kept.len()
	if n == 0 || o.kept.back().seq <= seq {
		return nil
	}
	i := n - 1 // most often the newest
	if i > 0 && o.kept.at(i-1).seq > seq {
		i = sort.Search(n, func(i int) bool { return o.kept.at(i).seq > seq })
	}
	return o.kept.at(i)
}

// acknowledge drops what the server has. It reports whether seq is a number that was sent.
func (o *outbox[Req, Res]) acknowledge(seq uint64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if seq > o.last {
		return false
	}
	if seq <= o.acked {
		return true // stale
	}
	o.acked = seq
	for o.kept.len() > 0 && o.kept.front().seq <= seq {
		o.drop(o.kept.popFront())
	}
	o.wake.Broadcast()
	return true
}

// acknowledgeStart is acknowledge for what the server told in the handshake: before anything was sent, it is where the
// count starts.
func (o *outbox[Req, Res]) acknowledgeStart(seq uint64) bool {
	if !o.explicit && seq == math.MaxUint64 {
		return false // no number follows
	}
	o.mu.Lock()
	if o.sent == 0 {
		o.last = max(o.last, seq)
	}
	o.mu.Unlock()
	return o.acknowledge(seq)
}

// drop lets go of a message that is no longer kept. The caller holds mu.
func (o *outbox[Req, Res]) drop(k keptMessage) {
	o.bytes -= k.size
	k.data.Free()
}

// detach takes the attempt away and waits for what is on its way on it, unless the stream is leaving. It reports
// how many messages the application has sent so far, and up to which the server has them.
func (o *outbox[Req, Res]) detach() (sent, acked uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.attempt = nil
	for o.busy && !o.leaving {
		o.wake.Wait()
	}
	return o.sent, o.acked
}

// leave makes detach stop waiting. The stream's context is done.
func (o *outbox[Req, Res]) leave() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.leaving = true
	o.wake.Broadcast()
}

// end makes every Send, waiting or to come, return err, and lets go of what is kept.
func (o *outbox[Req, Res]) end(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended != nil {
		return
	}
	o.ended, o.attempt = err, nil
	for o.kept.len() > 0 {
		o.drop(o.kept.popFront())
	}
	o.wake.Broadcast()
}

// refused is the error of one message that cannot be sent, and that breaks nothing.
func refused(cause error) error {
	return &Error{Op: "send", Reason: ReasonMessage, Cause: cause}
}
