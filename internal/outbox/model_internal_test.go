package outbox

import (
	"errors"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/mem"
	"pgregory.net/rapid"
)

var errEnd = errors.New("the end of the stream")

// ledger counts the buffers that are in use: each is given back once, when the last reference to it is gone.
type ledger struct{ inUse int }

// Get implements mem.BufferPool.
func (l *ledger) Get(length int) *[]byte { return new(make([]byte, length)) }

// Put implements mem.BufferPool.
func (l *ledger) Put(*[]byte) { l.inUse-- }

// encode returns bytes that say body. They are so many that grpc counts the references.
func (l *ledger) encode(body byte, size int) mem.BufferSlice {
	l.inUse++
	b := make([]byte, size)
	b[0] = body
	return mem.BufferSlice{mem.NewBuffer(&b, l)}
}

// message is what the application sends.
type message struct{ body byte }

// machine runs one random script on an outbox and on the reference.
type machine struct {
	box    *Outbox[int]
	ref    reference
	ledger ledger

	ticket Ticket[int]
	inHand *message
	hand   hand
	next   int // the next attempt
	bodies byte
	late   uint64 // a turn that the codec began in and has not ended
	again  uint64 // the number of the message that is sent again
}

// hand is what the caller is busy with.
type hand uint8

const (
	nothing hand = iota
	sending
	missing // the codec has not seen the message: Complete comes
	replaying
	closing
)

func newMachine(t *rapid.T, rows []row) *machine {
	config := Config{
		Replay:   rapid.IntRange(0, 3).Draw(t, "replay") > 0,
		Messages: rapid.IntRange(1, 6).Draw(t, "messages"),
		Bytes:    rapid.SampledFrom([]int{1, 5000, 1 << 20}).Draw(t, "bytes"),
		Explicit: rapid.Bool().Draw(t, "explicit"),
	}
	return &machine{box: New[int](config), ref: reference{config: config, rows: rows}, next: 1}
}

func (m *machine) begin(t *rapid.T) {
	var seq uint64
	if m.ref.config.Explicit {
		seq = m.ref.last + rapid.SampledFrom([]uint64{0, 1, 1, 1, 5, math.MaxUint64}).Draw(t, "number")
	}
	m.bodies++
	v := &message{body: m.bodies}
	want := m.ref.verdict(seq)
	ticket, got := m.box.Begin(v, seq, false)
	require.Equal(t, want, got, "the verdict on a message with number %d", seq)
	if got != Go {
		return
	}
	require.Equal(t, m.ref.attempt, ticket.Attempt, "the attempt to send on")
	require.Equal(t, !m.ref.watched, ticket.Watch, "whether somebody has to look for a Send that waits")
	m.ref.begin(seq)
	m.ticket, m.inHand, m.hand = ticket, v, sending
	if m.ref.config.Replay && rapid.IntRange(0, 2).Draw(t, "tracked") == 0 {
		if rapid.IntRange(0, 5).Draw(t, "acknowledged at once") == 0 { // by an end that cannot have it
			m.acknowledge(t)
		}
		m.track()
	}
}

// track makes a receipt of the message in hand.
func (m *machine) track() {
	of := &tracked{receipt: m.box.Track(), seq: m.ref.last}
	if m.ref.acked >= of.seq {
		of.fate = FateAcked
	}
	m.ref.receipts = append(m.ref.receipts, of)
}

// sendOn sends a message that belongs to one attempt: nothing is numbered, kept or dropped because of it.
func (m *machine) sendOn(t *rapid.T) {
	a := m.next - rapid.SampledFrom([]int{1, 1, 1, 2, 0}).Draw(t, "how old the attempt is")
	want := Go
	switch {
	case m.ref.ended:
		want = Ended
	case a == 0 && m.ref.newest == 0:
		return // no attempt at all
	case a != m.ref.newest:
		want = Over
	case m.ref.closed:
		want = Closed
	case m.ref.busy:
		want = NotYet
	}
	ticket, got := m.box.BeginOn(a, false)
	require.Equal(t, want, got, "the verdict on a message for attempt %d", a)
	if got != Go {
		return
	}
	require.Equal(t, a, ticket.Attempt, "the attempt to send on")
	m.ref.busy, m.ref.since, m.ref.watched = true, m.ref.ticks, true
	m.ref.others++
	if v := new(message); m.ref.config.Replay && rapid.Bool().Draw(t, "encoded") { // the codec keeps nothing of it
		if data, turn := m.box.Encoded(v); data == nil && turn > 0 {
			m.box.Keep(v, turn, m.ledger.encode(98, 2000)).Free()
		}
	}
	m.fields(t)
	if rapid.IntRange(0, 4).Draw(t, "does not return") == 0 {
		m.box.Forget(ticket)
	} else {
		said := rapid.SampledFrom([]Said{OK, OK, Dead, Rejected, Lost, Failed}).Draw(t, "said")
		outcome, missed := m.box.Settle(ticket, said)
		require.Equal(t, outcomeIn(m.ref.rows, said, Unknown, false)[0].outcome, outcome, "what %s means", saidNames[said])
		require.False(t, missed, "it is not kept")
	}
	m.ref.busy = false
}

// encode is what a codec does with v: it asks for the bytes, or encodes, and lets the outbox keep them.
func (m *machine) encode(t *rapid.T, v *message) {
	size := rapid.IntRange(2000, 3000).Draw(t, "size")
	var e *entry
	switch m.hand {
	case sending, missing:
		e = m.ref.find(m.ref.last)
	case replaying:
		e = m.ref.find(m.again)
	case nothing, closing:
	}
	data, turn := m.box.Encoded(v)
	mine := v == m.inHand && !m.ref.seen && (m.hand == sending || m.hand == replaying)
	switch {
	case data != nil:
		require.True(t, mine && m.hand == replaying, "bytes that are known, of a message that is not the one in hand")
		require.Equal(t, v.body, data.Materialize()[0], "what is sent again")
	case turn > 0:
		body := v.body + 100
		if m.hand == sending {
			body = v.body
		}
		data = m.box.Keep(v, turn, m.ledger.encode(body, size))
		if mine && e != nil {
			e.body, e.size = body, size
		}
	default:
		require.False(t, m.ref.config.Replay && m.hand != nothing, "there is a turn while a message is in hand")
	}
	if m.hand == sending {
		m.ref.touched = true
		m.ref.seen = m.ref.seen || v == m.inHand
	}
	if m.hand == replaying && mine {
		m.ref.seen = true
	}
	if rapid.IntRange(0, 5).Draw(t, "late") == 0 {
		m.late = turn
	}
	data.Free()
}

func (m *machine) codec(t *rapid.T) {
	if m.hand != sending && m.hand != replaying {
		return
	}
	v := m.inHand
	if rapid.IntRange(0, 4).Draw(t, "replaced by an interceptor") == 0 {
		v = &message{body: 99}
	}
	m.encode(t, v)
}

// keepLate is a codec that ends what it began in another turn.
func (m *machine) keepLate(*rapid.T) {
	if m.late > 0 && m.late < m.box.turn.Load() && m.hand == sending {
		m.box.Keep(m.inHand, m.late, m.ledger.encode(77, 2000)).Free()
	}
}

func (m *machine) settle(t *rapid.T) {
	switch m.hand {
	case sending:
		said := rapid.SampledFrom([]Said{OK, OK, OK, Dead, Rejected, Lost, Failed}).Draw(t, "said")
		outcome, missed := m.ref.settle(said)
		got, gotMissed := m.box.Settle(m.ticket, said)
		require.Equal(t, outcome, got, "what %s means", saidNames[said])
		require.Equal(t, missed, gotMissed, "whether the message is missed")
		m.hand = nothing
		if missed {
			m.hand = missing
		}
	case missing:
		ok := rapid.Bool().Draw(t, "encodable")
		var data mem.BufferSlice
		e := m.ref.find(m.ref.last)
		switch {
		case ok:
			data = m.ledger.encode(m.inHand.body, 2000)
			if e != nil {
				e.body, e.size = m.inHand.body, 2000
			}
		case e != nil:
			e.gone = true
		}
		m.box.Complete(m.inHand, m.ticket, data, ok)
		m.ref.busy, m.hand = false, nothing
	case closing:
		m.box.HalfClosed(m.ref.attempt)
		m.ref.closedOn, m.ref.busy, m.hand = m.ref.attempt, false, nothing
	case nothing, replaying:
	}
}

func (m *machine) forget(*rapid.T) {
	if m.hand == sending {
		m.box.Forget(m.ticket)
		switch e := m.ref.find(m.ref.last); {
		case !m.ref.config.Replay || !m.ref.touched:
			m.ref.takeBack()
		case !m.ref.seen && e != nil:
			e.gone = true
		}
		m.ref.busy, m.hand = false, nothing
	}
}

// send sends some messages, from Begin to Settle.
func (m *machine) send(t *rapid.T) {
	for range rapid.IntRange(1, 4).Draw(t, "messages") {
		if m.hand != nothing {
			return
		}
		m.begin(t)
		m.codec(t)
		m.settle(t)
	}
}

// Whatever happens, in whatever order: what is kept, numbered, acknowledged and given back is what a list of everything that
// was sent says (invariants 7, 8, 13, 15, 29, 32, 34 and 40).
func TestAnOutboxIsAList(t *testing.T) {
	t.Parallel()
	require.False(t, mem.IsBelowBufferPoolingThreshold(2000), "or grpc does not count the references to a message")
	rows, err := outcomeTable()
	require.NoError(t, err)
	rapid.Check(t, func(t *rapid.T) {
		m := newMachine(t, rows)
		t.Repeat(map[string]func(*rapid.T){
			"begin": m.begin, "begin again": m.begin, "codec": m.codec, "codec again": m.codec, "keep late": m.keepLate,
			"settle": m.settle, "settle again": m.settle, "forget": m.forget, "acknowledge": m.acknowledge,
			"handshake": m.handshake, "lose": m.lose, "resume": m.resume, "close": m.closeSend,
			"break": m.outage, "break again": m.outage,
			"end": m.end, "look": m.look, "unacked": m.unacked,
			"send on": m.sendOn, "send": m.send, "send again": m.send, "and again": m.send,
			"": m.fields,
		})
		m.unacked(t)
	})
}
