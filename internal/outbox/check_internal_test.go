package outbox

import (
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// This file has what the random scripts look at.

func (m *machine) counts() Counts {
	return Counts{
		Sent: m.ref.sent(), LastSeq: m.ref.last, Acked: m.ref.acked, Unacked: len(m.ref.kept()), UnackedSize: m.ref.size(),
		Ticks: m.ref.ticks, Outstanding: m.ref.owes(),
	}
}

// fields looks at what can be seen, and at what the comments on the fields say.
func (m *machine) fields(t *rapid.T) {
	o, r := m.box, &m.ref
	require.Equal(t, m.counts(), o.Stats(), "the statistics")
	require.LessOrEqual(t, o.acked, o.last, "acknowledged, and sent (invariant 7)")
	require.Equal(t, r.busy, o.busy, "whether something is on its way")
	require.Zero(t, o.waiters+o.waiting, "who waits")
	require.Equal(t, r.attempt, o.attempt, "the attempt")
	kept := r.kept()
	keys, want := make([]uint64, 0, len(kept)), make([]uint64, 0, len(kept))
	encoded := 0
	for i := range o.kept.Len() {
		k := o.kept.At(i)
		keys = append(keys, k.Seq)
		require.Equal(t, k.Encoded, k.Data != nil, "whether message %d has bytes", k.Seq)
		require.Equal(t, k.Data.Len(), k.size, "the size of message %d", k.Seq)
		if k.Encoded {
			encoded++
		}
	}
	for _, e := range kept {
		want = append(want, e.seq)
	}
	require.Equal(t, want, keys, "what is kept, in order")
	require.Equal(t, o.resend != nil, o.again.Load(), "whether bytes are known")
	m.receipts(t)
	if m.hand == nothing {
		require.Nil(t, o.inHand, "what is in hand")
		require.Nil(t, o.resend, "the bytes of what is in hand")
		require.Equal(t, encoded, m.ledger.inUse, "buffers in use (invariant 40): those of what is kept")
	}
}

// receipts looks at what is said of messages that have one: it is settled once, and the truth (invariants 31 and 32).
func (m *machine) receipts(t *rapid.T) {
	pending := 0
	for _, want := range m.ref.receipts {
		require.Equal(t, want.seq, want.receipt.Seq(), "the number of a message with a receipt")
		select {
		case <-want.receipt.Done():
			require.Equal(t, want.fate, want.receipt.Fate(), "what has become of message %d", want.seq)
		default:
			require.Equal(t, want.fate, FatePending, "what has become of message %d, whose receipt is pending", want.seq)
			pending++
		}
	}
	require.Equal(t, pending, m.box.receipts.Len(), "receipts that are pending")
}

// unacked reads what is kept, as an application does after the end.
func (m *machine) unacked(t *rapid.T) {
	var got []byte
	for seq := uint64(0); ; {
		k, _, ok := m.box.Next(seq)
		if !ok {
			break
		}
		if seq = k.Seq; k.Encoded {
			got = append(got, k.Data.Materialize()[0])
		}
		k.Data.Free()
	}
	var want []byte
	for _, e := range m.ref.kept() {
		if e.body > 0 {
			want = append(want, e.body)
		}
	}
	require.Equal(t, want, got, "what is kept, and can be read (invariants 29 and 32)")
}
