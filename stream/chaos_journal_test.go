package stream_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream"
)

// ledger is what the client's side has done and seen, over all its processes.
type ledger struct {
	sc *schedule // set at construction, then read only

	mu        sync.Mutex // guards the fields below
	clock     int64
	chapters  []*chapter
	line      []uint64 // items by number: those that were sent, or may have been
	found     []string // faults that were found on the way
	doing     map[string]string
	denials   map[*restrained]int
	closed    bool // a step of the schedule has called Close
	cancelled bool // a step of the schedule has ended the context
}

// chapter is what one client process has done and seen.
type chapter struct {
	life    byte
	began   checkpoint.Position // in the store
	attempt map[uint64]int64    // when the Resume callback of each began
	sends   []*sendNote
	got     []parcel
	done    parcel   // the last numbered message that the application has done with
	lost    bool     // it was asked about a lost position
	left    bool     // it has closed its stream
	kept    []uint64 // items that are not acknowledged, after the end
	end     error
	stats   stream.Stats
	opened  bool
}

// sendNote is one call of Send.
type sendNote struct {
	item, number uint64
	began        int64
	over         bool
	err          error
	counted      bool // the stream had given the number away when Send returned
}

func newLedger(sc *schedule) *ledger {
	return &ledger{sc: sc, doing: map[string]string{}, denials: map[*restrained]int{}}
}

// now is the time by the ledger's clock, which counts events.
func (j *ledger) now() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.tick()
}

func (j *ledger) tick() int64 {
	j.clock++
	return j.clock
}

// finds notes a fault.
func (j *ledger) finds(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.note(format, args...)
}

func (j *ledger) note(format string, args ...any) {
	j.found = append(j.found, fmt.Sprintf(format, args...))
}

// will notes that a step is about to end the stream.
func (j *ledger) will(what *bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	*what = true
}

// does notes what a goroutine of the test is about to wait for.
func (j *ledger) does(who, format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.doing[who] = fmt.Sprintf(format, args...)
}

// chapter returns that of a life. The caller holds mu.
func (j *ledger) chapter(life byte) *chapter { return j.chapters[life-1] }

// begins notes a new process, which starts from a position in the store.
func (j *ledger) begins(life byte, at checkpoint.Position) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.chapters = append(j.chapters, &chapter{
		life: life, began: at, attempt: map[uint64]int64{}, done: parcel{line: lineOf(at), seq: at.Seq},
	})
}

// resumes notes that an attempt is being opened: nothing is on its way any more on those before it.
func (j *ledger) resumes(life byte, attempt uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.chapter(life).attempt[attempt] = j.tick()
}

// loses notes that a position was lost.
func (j *ledger) loses(life byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.chapter(life).lost = true
}

// resend returns the item that a new process sends first, where the server has so many messages.
func (j *ledger) resend(p promise, acked uint64) uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	if p == replayed && acked <= uint64(len(j.line)) {
		j.line = j.line[:acked]
	}
	if len(j.line) == 0 {
		return 1
	}
	return j.line[len(j.line)-1] + 1
}

// sends notes that a Send begins, and returns the number of the message.
func (j *ledger) sends(life byte, item uint64) uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.line = append(j.line, item)
	n := &sendNote{item: item, number: uint64(len(j.line)), began: j.tick()}
	p := j.chapter(life)
	p.sends = append(p.sends, n)
	j.doing["sender"] = fmt.Sprintf("Send of message %d in process %d", item, life)
	return n.number
}

// sent notes what Send returned, and whether its number is given away. It reports whether the stream has ended.
func (j *ledger) sent(life byte, item uint64, err error, counted bool, now stream.State) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.doing["sender"] = ""
	p := j.chapter(life)
	n := p.sends[len(p.sends)-1]
	n.over, n.err, n.counted = true, err, counted
	if isDenied(err) && counted {
		j.note("what was not sent is not there: message %d of process %d was denied, and has number %d", item, life, n.number)
	}
	if n.notSent() && !counted {
		j.line = j.line[:len(j.line)-1] // the next message has its number
	}
	return err != nil && !n.notSent() && (!n.inDoubt() || now == stream.Closed)
}

// inDoubt reports whether Send has said that the message may have been sent, and counts as sent.
func (n *sendNote) inDoubt() bool {
	e, ok := errors.AsType[*stream.Error](n.err)
	return ok && e.Reason == stream.ReasonSendsInDoubt
}

// notSent reports whether Send has said that the message was not sent, and that the stream goes on.
func (n *sendNote) notSent() bool {
	e, ok := errors.AsType[*stream.Error](n.err)
	return ok && (e.Reason == stream.ReasonMessage || e.Reason == stream.ReasonWindowFull || e.Reason == stream.ReasonDenied)
}

// denied notes that a policy has denied a call.
func (j *ledger) denied(by *restrained, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.denials[by]++
	if wrong := by.unfounded(err); wrong != nil {
		j.note("a denial is one of a policy: %v", wrong)
	}
}

// receives notes that a Recv begins: the application has done with what it has.
func (j *ledger) receives(life byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.chapter(life).hasDone()
	j.doing["receiver"] = fmt.Sprintf("Recv in process %d", life)
}

// hasDone notes that the application has done with all it has got.
func (p *chapter) hasDone() {
	for i := len(p.got) - 1; i >= 0; i-- {
		if p.got[i].kind == data {
			p.done = p.got[i]
			return
		}
	}
}

// got notes what Recv returned.
func (j *ledger) got(life byte, m parcel) {
	j.mu.Lock()
	defer j.mu.Unlock()
	p := j.chapter(life)
	p.got = append(p.got, m)
	j.doing["receiver"] = ""
}

// committing sees that only what was processed is committed.
func (j *ledger) committing(at checkpoint.Position) {
	j.mu.Lock()
	defer j.mu.Unlock()
	p := j.chapters[len(j.chapters)-1]
	if n := j.sc.between(p.done, lineOf(at), at.Seq); n > 0 {
		j.note("commits are processed: process %d commits %v, and has done with %d of lineage %d", p.life, at, p.done.seq, p.done.line)
	}
}

// committedAll sees that all that was handed over is committed.
func (j *ledger) committedAll(life byte, at checkpoint.Position) {
	j.mu.Lock()
	defer j.mu.Unlock()
	p := j.chapter(life)
	p.hasDone()
	if p.lost && lineOf(at) != p.done.line {
		return // what was handed over is of a history that is gone
	}
	if n := j.sc.between(parcel{line: lineOf(at), seq: at.Seq}, p.done.line, p.done.seq); n > 0 {
		j.note("commits are complete: Commit of process %d left %v in the store, and %d of lineage %d was handed over",
			life, at, p.done.seq, p.done.line)
	}
}

// between counts the numbers that come after from, up to seq of a lineage.
func (sc *schedule) between(from parcel, line byte, seq uint64) (n int) {
	after := from.seq
	switch {
	case line < from.line:
		return 0
	case line > from.line:
		after = 0
	}
	for after = sc.following(after); after <= seq; after = sc.following(after) {
		n++
	}
	return n
}

// following is the next number that a history has.
func (sc *schedule) following(seq uint64) uint64 {
	for seq++; sc.missing[seq]; seq++ {
	}
	return seq
}

// closes notes that a process closes its stream itself, after a Commit or not.
func (j *ledger) closes(life byte, commits bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	p := j.chapter(life)
	p.left = true
	if commits {
		p.hasDone()
	}
}

// ends notes how a stream has ended: what Recv returned, or Resilient.
func (j *ledger) ends(life byte, err error, s *client) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.doing["receiver"] = ""
	p := j.chapter(life)
	p.end, p.opened = err, s != nil
	if s != nil {
		p.stats = s.Stats()
		return
	}
	for attempt := range p.attempt {
		p.stats.Attempts = max(p.stats.Attempts, attempt)
	}
}

// leaves notes what a stream says of itself when all is over.
func (j *ledger) leaves(life byte, s *client) {
	j.mu.Lock()
	defer j.mu.Unlock()
	p := j.chapter(life)
	p.stats = s.Stats()
	for number, m := range s.Unacked() {
		kept := parcelOf(m)
		p.kept = append(p.kept, kept.item)
		if n := int(number); n > len(j.line) || j.line[n-1] != kept.item {
			j.note("a number is one message: Unacked has message %d as number %d", kept.item, number)
		}
	}
}

// accepted are the items that Send has accepted in a process.
func (j *ledger) accepted(life byte) []uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.chapter(life).accepted()
}

// String is the ledger in short.
func (j *ledger) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var b strings.Builder
	for _, p := range j.chapters {
		fmt.Fprintf(&b, "  process %d began at %v, attempts %d, ended with %v\n", p.life, p.began, len(p.attempt), p.end)
		fmt.Fprintf(&b, "    stats: %+v\n", p.stats)
		fmt.Fprintf(&b, "    sent:")
		for _, n := range p.sends {
			fmt.Fprintf(&b, " %d", n.item)
			if n.number != n.item {
				fmt.Fprintf(&b, " as %d", n.number)
			}
			if n.err != nil {
				fmt.Fprintf(&b, " (%v)", n.err)
			} else if !n.over {
				fmt.Fprint(&b, " (did not return)")
			}
		}
		fmt.Fprintf(&b, "\n    received: %s\n", parcels(p.got))
	}
	for _, who := range []string{"main", "sender", "receiver"} {
		if what := j.doing[who]; what != "" {
			fmt.Fprintf(&b, "  the %s was in %s\n", who, what)
		}
	}
	return b.String()
}

// parcels are received messages in short: number, part of a unit, and the lineage where it changes.
func parcels(got []parcel) string {
	var b strings.Builder
	line := byte(1)
	for _, p := range got {
		if p.line != line {
			line = p.line
			fmt.Fprintf(&b, " lineage %d:", line)
		}
		fmt.Fprintf(&b, " %d", p.seq)
		if p.part > 0 {
			fmt.Fprintf(&b, ".%d", p.part)
		}
	}
	return b.String()
}

// String is what the handlers saw and did, in short.
func (db *database) String() string {
	db.mu.Lock()
	defer db.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "  the server has: %v\n", db.stored)
	for i, v := range db.visits {
		fmt.Fprintf(&b, "  handler %d: process %d, attempt %d, began with %d, told %d, over %v with %v; sent up to %d.%d of lineage %d; saw:",
			i+1, v.life, v.attempt, v.base, v.told, v.over, v.err, v.highest.seq, v.highest.part, v.highest.line)
		for _, s := range v.seen {
			fmt.Fprintf(&b, " %d", s.item)
		}
		fmt.Fprintln(&b)
	}
	return b.String()
}

// accepted are the items that a process has sent without an error, in order.
func (p *chapter) accepted() []uint64 {
	var items []uint64
	for _, n := range p.sends {
		if n.over && n.err == nil {
			items = append(items, n.item)
		}
	}
	return items
}

// visitOf is that of an attempt; nil where its hello has not arrived.
func (db *database) visitOf(life byte, attempt uint64) *visit {
	i := slices.IndexFunc(db.visits, func(v *visit) bool { return v.life == life && v.attempt == attempt })
	if i < 0 {
		return nil
	}
	return db.visits[i]
}
