package outbox

import (
	"math"
	"slices"
)

// This file has what an outbox is compared with: the same rules, told with a list of everything that was ever sent.

// entry is a message that Begin has accepted.
type entry struct {
	seq     uint64
	body    byte // what its bytes say; zero: it is not encoded yet
	size    int
	refused bool // Send has returned an error for it
	gone    bool // acknowledged, discarded, or not to be encoded
}

// reference is an outbox by a list. The caller of Begin, or of Resume, does one thing after the other.
type reference struct {
	config Config
	rows   []row // the table of outcomes

	entries []entry // never those that were taken back
	last    uint64
	acked   uint64

	attempt, closedOn int
	newest            int // takes what belongs to it alone
	others            uint64
	closed, ended     bool

	busy    bool
	before  uint64 // what last was before the message in hand
	touched bool   // the codec has encoded something since it is in hand
	seen    bool   // the codec has seen it

	ticks, since, quiet uint64
	attached            uint64 // what last was when the attempt was attached
	watched             bool
	counted             uint64 // messages accepted, when somebody looked last
	had                 uint64 // what acked was then

	receipts []*tracked // but for those that are worth nothing
}

// tracked is a receipt, and what it should say.
type tracked struct {
	receipt *Receipt
	seq     uint64
	fate    Fate
}

// settleReceipts gives the pending receipts that fit a fate.
func (r *reference) settleReceipts(fate Fate, fits func(seq uint64) bool) {
	for _, t := range r.receipts {
		if t.fate == FatePending && fits(t.seq) {
			t.fate = fate
		}
	}
}

// tracks reports whether a receipt is pending.
func (r *reference) tracks() bool {
	return slices.ContainsFunc(r.receipts, func(t *tracked) bool { return t.fate == FatePending })
}

func (r *reference) sent() uint64 { return uint64(len(r.entries)) }

// kept returns what may have to be sent again.
func (r *reference) kept() (kept []entry) {
	if !r.config.Replay {
		return nil
	}
	for _, e := range r.entries {
		if !e.gone {
			kept = append(kept, e)
		}
	}
	return kept
}

func (r *reference) size() (n int) {
	for _, e := range r.kept() {
		n += e.size
	}
	return n
}

func (r *reference) owes() bool {
	if r.config.Replay {
		return len(r.kept()) > 0
	}
	return r.last > r.acked
}

// owesNow is owes for the attempt: without replay, what was sent before it may be lost, and is not waited for.
func (r *reference) owesNow() bool { return r.owes() && (r.config.Replay || r.last > r.attached) }

// find returns the entry with a number, nil if it is gone.
func (r *reference) find(seq uint64) *entry {
	i := slices.IndexFunc(r.entries, func(e entry) bool { return e.seq == seq && !e.gone })
	if i < 0 {
		return nil
	}
	return &r.entries[i]
}

// verdict says what becomes of a message with this number.
func (r *reference) verdict(seq uint64) Verdict {
	kept := len(r.kept())
	for _, rule := range []struct {
		fits bool
		is   Verdict
	}{
		{r.ended, Ended},
		{r.closed, Closed},
		{r.config.Explicit && seq <= r.last, OutOfOrder},
		{!r.config.Explicit && r.last == math.MaxUint64, Exhausted},
		{r.config.Replay && kept >= r.config.Messages, Full},
		{r.config.Replay && r.size() >= r.config.Bytes, Full},
		{r.busy, NotYet},
		{r.attempt == 0, NotYet},
	} {
		if rule.fits {
			return rule.is
		}
	}
	return Go
}

// begin accepts a message, whose verdict was Go.
func (r *reference) begin(seq uint64) {
	if !r.config.Explicit {
		seq = r.last + 1
	}
	if !r.owesNow() {
		r.quiet = r.ticks
	}
	r.before = r.last
	r.last = seq
	r.entries = append(r.entries, entry{seq: seq})
	r.busy, r.since, r.touched, r.seen, r.watched = true, r.ticks, false, false, true
}

// takeBack makes the newest message one that was never sent.
func (r *reference) takeBack() {
	r.entries = r.entries[:len(r.entries)-1]
	r.receipts = slices.DeleteFunc(r.receipts, func(t *tracked) bool { return t.seq == r.last && t.fate == FatePending })
	r.last = r.before
	r.acked = min(r.acked, r.last) // an acknowledgement of it was for nothing (invariant 7)
}

// settle applies the table to the message in hand.
func (r *reference) settle(said Said) (outcome Outcome, missed bool) {
	encoded := Unknown
	if r.config.Replay {
		encoded = map[bool]Encoded{true: Yes, false: No}[r.touched]
	}
	fit := outcomeIn(r.rows, said, encoded, r.config.Replay)
	outcome = fit[0].outcome
	switch outcome.Message {
	case TakenBack, Again:
		r.takeBack()
		r.busy = false
		return outcome, false
	case InDoubt:
		r.entries[len(r.entries)-1].refused = true
	case Sent:
	}
	missed = r.config.Replay && !r.seen
	r.busy = missed
	return outcome, missed
}

// acknowledge drops what the other end has.
func (r *reference) acknowledge(seq uint64) bool {
	if seq > r.last {
		return false
	}
	if seq <= r.acked {
		return true
	}
	r.acked, r.quiet = seq, r.ticks
	r.settleReceipts(FateAcked, func(n uint64) bool { return n <= seq })
	for i := range r.entries {
		if r.entries[i].seq <= seq {
			r.entries[i].gone = true
		}
	}
	return true
}

// tick is Tick.
func (r *reference) tick() (sending, unacked uint64) {
	r.ticks++
	if r.busy {
		sending = r.ticks - r.since
	}
	if r.attempt != 0 && r.owesNow() {
		unacked = r.ticks - r.quiet
	}
	return sending, unacked
}
