package stream_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

const (
	heartbeat = failure + 1 + iota // a message that says nothing
	broken                         // what nobody has sent
)

// parcel is a message of the chaos tests. The client's hello has its position, its attempt as item, and its life; the
// server's has how many messages it has.
type parcel struct {
	kind kind
	line byte   // lineage, from 1; zero: none
	part byte   // of a unit: zero for the numbered message that ends it
	life byte   // of the client
	seq  uint64 // number of the message, or of what it is about
	item uint64 // names what the application sends
	size int    // of the padding
}

const parcelHead = 20

func (p parcel) payload() *testpb.Payload {
	body := make([]byte, parcelHead+p.size)
	body[0], body[1], body[2], body[3] = byte(p.kind), p.line, p.part, p.life
	binary.BigEndian.PutUint64(body[4:], p.seq)
	binary.BigEndian.PutUint64(body[12:], p.item)
	return &testpb.Payload{Body: body}
}

func (p parcel) request() *request   { return &request{Payload: p.payload()} }
func (p parcel) response() *response { return &response{Payload: p.payload()} }

func parcelOf(m interface{ GetPayload() *testpb.Payload }) parcel {
	b := m.GetPayload().GetBody()
	if len(b) < parcelHead {
		return parcel{kind: broken}
	}
	return parcel{
		kind: kind(b[0]), line: b[1], part: b[2], life: b[3], seq: binary.BigEndian.Uint64(b[4:]),
		item: binary.BigEndian.Uint64(b[12:]), size: len(b) - parcelHead,
	}
}

// database is the server: it outlives handlers and restarts.
type database struct {
	testpb.UnimplementedTestServiceServer

	sc      *schedule      // set at construction, then read only, as run is
	run     *chaosRun      // is told of what happens
	readers sync.WaitGroup // the goroutines of handlers that receive

	mu       sync.Mutex    // guards the fields below, and those of visits
	changed  chan struct{} // closed, and replaced, when a history grows or is replaced
	line     byte          // the current lineage
	grown    uint64        // answers in the history, with echo
	stored   []uint64      // items that clients have sent, by number
	visits   []*visit
	mistakes []string // what clients have done that they must not do
}

// visit is what one handler saw and did.
type visit struct {
	life    byte
	attempt uint64
	seen    []sighting // in order
	base    uint64     // number of the message before the first one seen
	told    uint64     // highest number acknowledged

	highest parcel // of what it sent, the one furthest in the history; kind is hello where there is none
	over    bool
	err     error // with which it ended; where it said so in a message, that

	wake   chan struct{} // buffered; written by the reader, read by the handler
	half   bool          // the client has closed its sending side
	failed error         // of the reader
}

// sighting is a message that a handler has received.
type sighting struct {
	item, number uint64
	at           int64 // by the journal's clock
}

func newDatabase(sc *schedule, run *chaosRun) *database {
	return &database{sc: sc, run: run, changed: make(chan struct{}), line: 1}
}

// FullDuplexCall is a handler.
func (db *database) FullDuplexCall(s bidi) error {
	m, err := s.Recv()
	if err != nil {
		return err
	}
	from := parcelOf(m)
	v, c := db.begin(from)
	h := &handler{bidi: s, db: db, visit: v, conduct: c, at: from}
	err = h.serve()
	db.mu.Lock()
	defer db.mu.Unlock()
	v.over, v.err = true, err
	return err
}

// begin notes a new handler.
func (db *database) begin(from parcel) (*visit, conduct) {
	db.mu.Lock()
	defer db.mu.Unlock()
	v := &visit{life: from.life, attempt: from.item, wake: make(chan struct{}, 1), base: uint64(len(db.stored))}
	if db.sc.handshake {
		v.told = v.base
	}
	db.visits = append(db.visits, v)
	if from.kind != hello {
		db.mistakes = append(db.mistakes, fmt.Sprintf("ordered: the first message of attempt %d is %+v", v.attempt, from))
	}
	c := conduct{quitsAt: -1}
	if n := len(db.visits); n <= len(db.sc.conduct) {
		c = db.sc.conduct[n-1]
	}
	if c.replaces {
		db.replaceLocked()
	}
	return v, c
}

// replace gives the server another history.
func (db *database) replace() {
	db.mu.Lock()
	defer db.mu.Unlock()
	db.replaceLocked()
}

func (db *database) replaceLocked() {
	db.line++
	db.announce()
}

func (db *database) announce() {
	close(db.changed)
	db.changed = make(chan struct{})
}

// length is how many numbers the current history has. The caller holds mu.
func (db *database) length() uint64 {
	if db.sc.echo {
		return db.grown
	}
	return uint64(db.sc.history)
}

// items are the messages that the server has, by number.
func (db *database) items() []uint64 {
	db.mu.Lock()
	defer db.mu.Unlock()
	return slices.Clone(db.stored)
}

// take stores what a handler has received. It fails where a newer handler has come.
func (db *database) take(v *visit, p parcel) error {
	db.mu.Lock()
	defer db.mu.Unlock()
	number := p.seq
	if db.sc.numbers == byBoth {
		number = v.base + uint64(len(v.seen)) + 1
	}
	v.seen = append(v.seen, sighting{item: p.item, number: number, at: db.run.journal.now()})
	newest := db.visits[len(db.visits)-1]
	switch have := uint64(len(db.stored)); {
	case p.kind != data:
		db.mistakes = append(db.mistakes, fmt.Sprintf("nothing is made up: attempt %d of process %d brought %+v", v.attempt, v.life, p))
		return nil
	case db.sc.promise != replayed:
		return nil
	case v.life != newest.life, db.sc.numbers == byBoth && v != newest: // what it told the newest stays true (invariant 12)
		return status.Error(codes.Aborted, "fenced")
	case number == 0 || number > have+1:
		db.mistakes = append(db.mistakes, fmt.Sprintf("nothing lost in the middle: the server has %d messages, and attempt %d of "+
			"process %d brought message %d as number %d", have, v.attempt, v.life, p.item, number))
	case number <= have && db.stored[number-1] != p.item:
		db.mistakes = append(db.mistakes, fmt.Sprintf("a number is one message: number %d was message %d, and in attempt %d of "+
			"process %d it was message %d", number, db.stored[number-1], v.attempt, v.life, p.item))
	case number == have+1:
		db.stored = append(db.stored, p.item)
		db.grown++
		db.announce()
	}
	return nil
}

// handler is one that is at work. Its fields are owned by its goroutine; the reader uses the visit.
type handler struct {
	bidi
	db      *database
	visit   *visit
	conduct conduct

	at     parcel // the last message of the history that was sent, or before which it begins
	line   byte   // the lineage it sends from
	parts  int    // messages of the unit of the next number that were sent
	count  int    // messages sent
	passed int    // numbered messages sent
	marked int    // passed when a bookmark was sent last
	left   bool   // its end was announced
	stale  bool   // an older acknowledgement was sent again
}

// errQuits says that the handler has come to the place where it quits.
var errQuits = errors.New("quits")

func (h *handler) serve() error {
	if h.conduct.quitsAt == 0 {
		return h.quit()
	}
	if err := h.greet(); err != nil {
		return err
	}
	h.db.readers.Go(h.read) // ends with the handler, or before; the end of the run waits for it
	for {
		again, err := h.turn()
		switch {
		case errors.Is(err, errQuits):
			return h.quit()
		case err != nil:
			return h.orReader(err)
		case !again:
			return nil
		}
	}
}

// orReader is err, or what the reader says of why a message could not be sent.
func (h *handler) orReader(err error) error {
	h.db.mu.Lock()
	defer h.db.mu.Unlock()
	if h.visit.failed != nil {
		return h.visit.failed
	}
	return err
}

// greet answers the hello and finds where to begin.
func (h *handler) greet() error {
	h.db.mu.Lock()
	h.line = h.db.line
	h.db.mu.Unlock()
	from := h.at
	if lost := from.line != 0 && from.line != h.line; lost || from.line == 0 {
		if lost && h.conduct.tells == byStatus {
			return status.Error(codes.OutOfRange, "compacted")
		}
		h.at.seq = 0
	}
	if h.at.seq > h.conduct.repeats {
		h.at.seq -= h.conduct.repeats
	} else {
		h.at.seq = 0
	}
	if !h.db.sc.handshake {
		return nil
	}
	answer := parcel{kind: hello, seq: h.visit.base}
	if h.conduct.tells == byAnchor {
		answer.line, answer.item = h.line, h.at.seq
	}
	return h.Send(answer.response())
}

// read receives until that fails.
func (h *handler) read() {
	for {
		m, err := h.Recv()
		if err == nil {
			if err = h.db.take(h.visit, parcelOf(m)); err == nil {
				h.db.run.reached(stored)
			}
		}
		h.db.mu.Lock()
		h.visit.half = errors.Is(err, io.EOF)
		if err != nil && !h.visit.half {
			h.visit.failed = err
		}
		h.db.mu.Unlock()
		select {
		case h.visit.wake <- struct{}{}:
		default:
		}
		if err != nil {
			return
		}
	}
}

// turn sends what is due, or waits until something is. It reports false where all is done.
func (h *handler) turn() (bool, error) {
	db, v := h.db, h.visit
	db.mu.Lock()
	length, changed, half, err := db.length(), db.changed, v.half, v.failed
	if h.line != db.line && h.parts == 0 { // the history was replaced
		h.line, h.at, h.parts = db.line, parcel{}, 0
	}
	have := uint64(len(db.stored))
	due := have >= v.told+uint64(db.sc.acks.every) || half && have > v.told && !db.sc.acks.silent
	steps := len(v.seen) + h.count
	db.mu.Unlock()
	switch {
	case err != nil:
		return false, err
	case h.conduct.quitsAt > 0 && steps >= h.conduct.quitsAt:
		return false, errQuits
	case h.conduct.bye > 0 && !h.left && steps >= h.conduct.bye:
		h.left = true
		return true, h.send(parcel{kind: goodbye})
	case due && db.sc.promise == replayed:
		return true, h.acknowledge(have)
	case h.marks():
		return true, h.send(parcel{kind: bookmark, line: h.line, seq: h.at.seq})
	case h.at.seq < length:
		return true, h.next()
	case half:
		return false, nil
	}
	select {
	case <-v.wake:
	case <-changed:
	case <-h.Context().Done():
		return false, h.Context().Err()
	}
	return true, nil
}

// acknowledge tells how many messages the server has.
func (h *handler) acknowledge(have uint64) error {
	if h.conduct.overAcks {
		have += 1000
	}
	h.db.mu.Lock()
	h.visit.told = have
	h.db.mu.Unlock()
	if err := h.send(parcel{kind: ack, seq: have}); err != nil {
		return err
	}
	if h.stale = h.db.sc.acks.stale && !h.stale; h.stale {
		if err := h.send(parcel{kind: ack, seq: have / 2}); err != nil {
			return err
		}
		return h.send(parcel{kind: heartbeat})
	}
	return nil
}

// marks reports whether a bookmark is due, and counts it.
func (h *handler) marks() bool {
	every := h.db.sc.bookmarks
	due := every > 0 && h.passed >= h.marked+every && h.parts == min(1, h.db.sc.units) // in the middle of a unit, where there are any
	if due {
		h.marked = h.passed
	}
	return due
}

// next sends the next message of the history.
func (h *handler) next() error {
	seq := h.at.seq + 1
	if h.db.sc.missing[seq] {
		h.at = parcel{seq: seq}
		if h.db.sc.bookmarks > 0 {
			return h.send(parcel{kind: bookmark, line: h.line, seq: seq})
		}
		return nil
	}
	if h.parts < h.db.sc.units {
		h.parts++
		return h.send(parcel{kind: fragment, line: h.line, seq: seq, part: byte(h.parts), size: h.db.sc.paddingOf(seq)})
	}
	h.parts, h.at.seq = 0, seq
	if h.passed++; h.passed == h.conduct.leaves {
		h.marked = h.passed // a bookmark would say that it has come
		return nil
	}
	return h.send(parcel{kind: data, line: h.line, seq: seq, size: h.db.sc.paddingOf(seq)})
}

func (h *handler) send(p parcel) error {
	if p.kind == data || p.kind == fragment {
		h.db.mu.Lock()
		if h.visit.highest.before(p) {
			h.visit.highest = p
		}
		h.db.mu.Unlock()
	}
	h.count++
	return h.Send(p.response())
}

// before reports whether p comes before q in what the server sends.
func (p parcel) before(q parcel) bool {
	place := func(p parcel) [3]uint64 { // a numbered message comes after the others of its unit
		return [3]uint64{uint64(p.line), p.seq, uint64(p.part - 1)}
	}
	a, b := place(p), place(q)
	for i := range a {
		if a[i] != b[i] {
			return a[i] < b[i]
		}
	}
	return false
}

// paddingOf is the size of the padding of a message.
func (sc *schedule) paddingOf(n uint64) int { return int(n*131) % (sc.padding + 1) }

// quit ends the handler as its conduct has it.
func (h *handler) quit() error {
	if h.conduct.inAFrame {
		_ = h.send(parcel{kind: failure, seq: uint64(h.conduct.says)}) // where that is lost the status says the same
	}
	if !h.conduct.asks {
		return status.Error(h.conduct.says, "quits") // nil for OK
	}
	st, err := status.New(h.conduct.says, "busy").WithDetails(&errdetails.RetryInfo{
		RetryDelay: durationpb.New(2 * time.Millisecond),
	})
	if err != nil {
		return err
	}
	return st.Err()
}
