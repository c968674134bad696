package outbox

import (
	"errors"
	"math"
	"slices"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// This file has what the other end and the owner of the attempts do in a random script.

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
			m.ref.settleReceipts(FateDropped, func(n uint64) bool { return n == seq })
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
		m.ref.settleReceipts(FateEnded, func(uint64) bool { return true })
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
		still, unacked := accepted == m.ref.counted, m.ref.acked == m.ref.had
		m.ref.counted, m.ref.had = accepted, m.ref.acked
		m.ref.watched = m.ref.busy || m.ref.tracks() || !still
		stalled, again := m.box.Stalled()
		require.Equal(t, []bool{m.ref.busy && still || m.ref.tracks() && unacked, m.ref.watched}, []bool{stalled, again},
			"whether a Send or a receipt stands still, and is looked after")
	}
}
