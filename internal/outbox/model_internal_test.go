package outbox

import (
	"errors"
	"math"
	"slices"
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

func (m *machine) acknowledge(t *rapid.T) {
	seq := rapid.SampledFrom([]uint64{m.ref.acked, m.ref.acked + 1, m.ref.last, m.ref.last - 1, m.ref.last + 1}).Draw(t, "acknowledged")
	require.Equal(t, m.ref.acknowledge(seq), m.box.Acknowledge(seq), "whether %d was sent (invariant 7)", seq)
}

// handshake is what the other end says of an attempt.
func (m *machine) handshake(t *rapid.T) {
	if m.hand != nothing || m.ref.attempt != 0 {
		return
	}
	switch rapid.SampledFrom([]string{"", "", "start", "start", "all"}).Draw(t, "handshake") {
	case "start":
		seq := rapid.SampledFrom([]uint64{0, m.ref.acked, m.ref.acked + 1, m.ref.last, 40, 1 << 63, maxStart}).Draw(t, "start")
		want := m.ref.sent() > 0 || m.ref.config.Explicit || seq <= math.MaxUint64/2
		if want {
			if m.ref.sent() == 0 {
				m.ref.last = max(m.ref.last, seq)
			}
			want = m.ref.acknowledge(seq)
		}
		require.Equal(t, want, m.box.AcknowledgeStart(seq), "whether a stream may begin at %d, or %d was sent", seq, seq)
	case "all":
		m.box.AcknowledgeAll()
		m.ref.acknowledge(m.ref.last)
	}
}

func (m *machine) lose(t *rapid.T) {
	if m.hand != nothing {
		return
	}
	if rapid.Bool().Draw(t, "suspected first") {
		m.box.Abandon(m.ref.attempt)
	}
	m.box.Abandon(m.next) // not the one that is there (invariant 10)
	m.ref.attempt, m.ref.newest = 0, 0
	require.Equal(t, m.counts(), m.box.Detach(), "what was sent")
}

// resume begins an attempt: it sends again what is kept, and then lets the application send.
func (m *machine) resume(t *rapid.T) {
	if m.hand != nothing || m.ref.attempt != 0 {
		return
	}
	attempt, alive := m.next, true
	m.next++
	m.box.Opened(attempt)
	m.ref.newest = attempt
	var dropped []uint64
	for seq := uint64(0); alive; {
		want := slices.IndexFunc(m.ref.kept(), func(e entry) bool { return e.seq > seq })
		k, acked, ok := m.box.Next(seq)
		require.Equal(t, m.ref.acked, acked, "what is acknowledged")
		require.Equal(t, want >= 0, ok, "whether something is kept after number %d", seq)
		if !ok {
			break
		}
		e := m.ref.kept()[want]
		seq = e.seq
		require.Equal(t, []any{e.seq, e.refused, e.body > 0}, []any{k.Seq, k.Refused, k.Encoded}, "the next kept message (no loss, in order)")
		require.Equal(t, e.body, k.Data.Materialize()[0], "its bytes (invariant 29)")
		switch rapid.SampledFrom([]string{"send", "send", "send", "drop", "change"}).Draw(t, "again") {
		case "drop":
			k.Data.Free()
			dropped = append(dropped, seq)
			continue
		case "change":
			k.Data.Free()
			k.Data = nil
		}
		m.sendOn(t)
		m.inHand, m.hand, m.again, m.ref.seen = &message{body: e.body}, replaying, seq, false
		require.True(t, m.box.Resume(m.inHand, seq, k.Data), "whether the message may go")
		m.ref.busy, m.ref.since = true, m.ref.ticks
		for range rapid.IntRange(0, 2).Draw(t, "encoded") {
			m.codec(t)
		}
		if rapid.IntRange(0, 5).Draw(t, "acknowledged meanwhile") == 0 {
			m.acknowledge(t)
		}
		said := rapid.SampledFrom([]Said{OK, OK, OK, OK, Dead, Rejected, Lost, Failed}).Draw(t, "said")
		becomes := m.box.Resumed(said)
		require.Equal(t, outcomeIn(m.ref.rows, said, Yes, true)[0].outcome.Attempt, becomes, "what becomes of the attempt")
		alive = becomes == Lives
		m.ref.busy, m.hand = false, nothing
	}
	for _, seq := range dropped {
		if e := m.ref.find(seq); e != nil {
			e.gone = true
		}
	}
	m.box.Discard(dropped)
	for alive = alive && !m.ref.ended; ; {
		halfClose := m.box.Attach(attempt, alive)
		require.Equal(t, m.ref.closed && m.ref.closedOn != attempt, halfClose, "whether the half-close comes first (invariant 15)")
		if !halfClose {
			break
		}
		m.ref.busy, m.ref.since = true, m.ref.ticks
		m.fields(t)
		m.box.HalfClosed(attempt)
		m.ref.closedOn, m.ref.busy = attempt, false
	}
	m.ref.quiet, m.ref.attached = m.ref.ticks, m.ref.last
	if alive {
		m.ref.attempt = attempt
	}
}

// outage is the loss of an attempt, and the next one.
func (m *machine) outage(t *rapid.T) {
	m.lose(t)
	m.resume(t)
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

func (m *machine) closeSend(t *rapid.T) {
	if m.hand != nothing || rapid.IntRange(0, 3).Draw(t, "close") > 0 {
		return
	}
	a, now := m.box.CloseSend()
	want := !m.ref.closed && m.ref.attempt != 0
	m.ref.closed = true
	require.Equal(t, want, now, "whether the half-close is sent now")
	if now {
		require.Equal(t, m.ref.attempt, a, "the attempt to send it on")
		m.ref.busy, m.ref.since, m.hand = true, m.ref.ticks, closing
	}
}

func (m *machine) end(t *rapid.T) {
	if rapid.IntRange(0, 5).Draw(t, "end") == 0 && m.hand == nothing {
		m.box.End(errEnd)
		m.box.End(errors.New("another end"))
		m.ref.ended, m.ref.attempt, m.ref.newest = true, 0, 0
		require.Equal(t, errEnd, m.box.Err(), "the first end counts")
	}
}

func (m *machine) look(t *rapid.T) {
	sending, unacked := m.ref.tick()
	gotSending, gotUnacked := m.box.Tick()
	require.Equal(t, []uint64{sending, unacked}, []uint64{gotSending, gotUnacked}, "for how many ticks a message is not taken, or not acknowledged")
	require.Equal(t, m.ref.watched, m.box.IsWatched(), "whether somebody looks for a Send that waits")
	if rapid.Bool().Draw(t, "watch") {
		require.Equal(t, !m.ref.watched, m.box.Watch(), "whether nobody looked")
		m.ref.watched = true
	}
	if rapid.Bool().Draw(t, "stalled") {
		accepted := m.ref.sent() + m.ref.others
		still := accepted == m.ref.counted
		m.ref.counted = accepted
		m.ref.watched = m.ref.busy || !still
		stalled, again := m.box.Stalled()
		require.Equal(t, []bool{m.ref.busy && still, m.ref.watched}, []bool{stalled, again}, "whether a Send stands still, and is looked after")
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
