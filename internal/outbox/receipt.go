package outbox

// This file has receipts: each tells of one message whether it was acknowledged. They are few, and in order of their numbers, so an
// acknowledgement that settles none costs one comparison.

// Fate is what has become of a message with a receipt. It is settled once, and stays.
type Fate uint8

const (
	// FatePending means that nobody knows yet.
	FatePending Fate = iota
	// FateAcked means that it is acknowledged.
	FateAcked
	// FateDropped means that it was dropped from what is kept: it is not sent again.
	FateDropped
	// FateEnded means that the stream has ended before.
	FateEnded
)

// Receipt is the receipt of one message.
type Receipt struct {
	seq  uint64        // set at construction, then read only
	done chan struct{} // closed by settle
	fate Fate          // guarded by Outbox.mu until done is closed, then read only
}

// Done is closed when the fate of the message is settled.
func (r *Receipt) Done() <-chan struct{} { return r.done }

// Seq returns the number of the message.
func (r *Receipt) Seq() uint64 { return r.seq }

// Fate returns what has become of the message. Call it after Done is closed.
func (r *Receipt) Fate() Fate { return r.fate }

func (r *Receipt) settle(fate Fate) {
	r.fate = fate
	close(r.done)
}

// Track returns a receipt of the message in hand, which has a number and is kept. Call it after Begin, before the message can be on
// the wire. If the message is taken back, the receipt is worth nothing: the number is given to another one.
func (o *Outbox[A]) Track() *Receipt {
	o.mu.Lock()
	defer o.mu.Unlock()
	r := &Receipt{seq: o.last, done: make(chan struct{})} // the newest: nothing begins while it is in hand
	switch {
	case o.ended != nil:
		r.settle(FateEnded)
	case o.acked >= r.seq: // by an end that cannot have it
		r.settle(FateAcked)
	default:
		o.receipts.Push(r)
	}
	return r
}

// untrack forgets the receipt of the message after that number, if it has one: the message is taken back.
func (o *Outbox[A]) untrack(before uint64) {
	if n := o.receipts.Len(); n > 0 && (*o.receipts.Back()).seq > before {
		o.receipts.PopBack()
	}
}

// settleUpTo settles the receipts of the messages up to that number.
func (o *Outbox[A]) settleUpTo(seq uint64, fate Fate) {
	for o.receipts.Len() > 0 && (*o.receipts.Front()).seq <= seq {
		r := o.receipts.PopFront()
		r.settle(fate)
	}
}

// settleDropped settles the receipts of messages that were dropped, in order of their numbers.
func (o *Outbox[A]) settleDropped(dropped []uint64) {
	for range o.receipts.Len() { // once around
		r := o.receipts.PopFront()
		for len(dropped) > 0 && dropped[0] < r.seq {
			dropped = dropped[1:]
		}
		if len(dropped) > 0 && dropped[0] == r.seq {
			r.settle(FateDropped)
		} else {
			o.receipts.Push(r)
		}
	}
}
