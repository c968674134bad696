package stream_test

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync"

	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
)

// The server of the chaos: its database, whose state outlives handlers.

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

func (p parcel) payload() *testpb.Payload {
	body := make([]byte, parcelHead+p.size)
	body[0], body[1], body[2], body[3] = byte(p.kind), p.line, p.part, p.life
	binary.BigEndian.PutUint64(body[4:], p.seq)
	binary.BigEndian.PutUint64(body[12:], p.item)
	return &testpb.Payload{Body: body}
}

func (p parcel) request() *request { return &request{Payload: p.payload()} }

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
