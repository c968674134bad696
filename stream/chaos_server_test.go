package stream_test

import (
	"errors"
	"io"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

const (
	heartbeat = failure + 1 + iota // a message that says nothing
	broken                         // what nobody has sent
)

const parcelHead = 20

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
