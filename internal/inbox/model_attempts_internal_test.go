package inbox

import (
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/streamsafe/streamsafe/checkpoint"
)

// What the owner of the attempts does in a random script.

func (m *machine) detach(t *rapid.T) {
	if m.ref.busy && !m.ref.leaving || m.report != nil {
		return // it would wait
	}
	all := rapid.IntRange(0, 3).Draw(t, "all") == 0
	got := same(t, m, "Detach", func(b *Inbox[int, int]) Standing { return b.Detach(all) })
	require.Equal(t, m.ref.detach(all), got, "where the stream stands (invariant 12)")
}

// attach begins the next attempt, after what Resume learned of it and what it has received.
func (m *machine) attach(t *rapid.T) {
	if m.ref.attempt != 0 || m.ref.busy || m.report != nil {
		return
	}
	a := m.next
	m.next++
	for range rapid.IntRange(-4, 3).Draw(t, "delivered by Resume") {
		m.holder = a
		m.arrive(t, m.message(t), true)
		m.settle(t)
		if m.ref.refused == a {
			break
		}
	}
	for _, b := range m.boxes {
		b.Attach(a)
	}
	m.ref.attempt, m.ref.fresh = a, true
}

func (m *machine) position(t *rapid.T) checkpoint.Position {
	p := m.ref.resume()
	p.Seq = rapid.SampledFrom([]uint64{0, p.Seq, p.Seq + 1, 1}).Draw(t, "seq")
	p.Token = rapid.SampledFrom([]string{"", "t"}).Draw(t, "token")
	p.Lineage += rapid.SampledFrom([]string{"", "", "y"}).Draw(t, "lineage")
	return p
}

// begins is RestartFrom, WithPosition, or an anchor.
func (m *machine) begins(t *rapid.T) {
	if m.ref.attempt != 0 || m.ref.busy || m.report != nil || len(m.ref.held) > 0 {
		return
	}
	p := m.position(t)
	switch rapid.SampledFrom([]string{"begins", "starts", "anchor"}).Draw(t, "how") {
	case "begins":
		for _, b := range m.boxes {
			b.Begins(p)
		}
		m.ref.moveTo(p)
	case "starts":
		if len(m.ref.arrived) > 0 || m.ref.ended != nil {
			return // it is the first thing that happens
		}
		for _, b := range m.boxes {
			b.StartsFrom(p)
		}
		m.ref.moveTo(p)
		m.ref.done = len(m.ref.handed)
	case "anchor":
		type result struct {
			Anchored
			Have checkpoint.Position
		}
		got := same(t, m, "Anchor", func(b *Inbox[int, int]) (r result) {
			r.Anchored, r.Have = b.Anchor(p)
			return r
		})
		is, have := m.ref.anchor(p)
		require.Equal(t, result{is, have}, got, "what the anchor %+v is to the stream (invariant 1)", p)
	}
}

// end ends the stream, in one way or the other.
func (m *machine) end(t *rapid.T) {
	switch rapid.SampledFrom([]string{"", "", "", "", "leave", "end", "abrupt", "abandon"}).Draw(t, "end") {
	case "leave":
		for _, b := range m.boxes {
			b.Leave()
		}
		m.ref.leaving = true
	case "end", "abrupt":
		abrupt := rapid.Bool().Draw(t, "abrupt")
		for _, b := range m.boxes {
			b.End(errEnd, abrupt)
		}
		m.ref.attempt = 0
		if m.ref.ended == nil {
			m.ref.ended, m.ref.abrupt = errEnd, abrupt
		}
	case "abandon":
		for _, b := range m.boxes {
			b.Abandon(errClosed)
		}
		if m.ref.ended == nil || len(m.ref.ready) > 0 && !m.ref.abrupt {
			m.ref.ended = errClosed
		}
		m.ref.ready, m.ref.abrupt = nil, true
	}
}

func (m *machine) tick(t *rapid.T) {
	type ticked struct {
		Waited uint64
		Fresh  bool
	}
	got := same(t, m, "Tick", func(b *Inbox[int, int]) (r ticked) {
		r.Waited, r.Fresh = b.Tick()
		return r
	})
	m.ref.ticks++
	want := ticked{Fresh: m.ref.fresh}
	if m.ref.busy && !m.ref.standIn {
		want.Waited = m.ref.ticks - m.ref.since
	}
	require.Equal(t, want, got, "for how many ticks the application has waited")
	if rapid.IntRange(0, 3).Draw(t, "rewait") == 0 {
		for _, b := range m.boxes {
			b.Rewait()
		}
		m.ref.since = m.ref.ticks - 1
	}
}
