package outbox

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// setting is what a key is set to.
type setting struct {
	key     string
	body    byte
	refused bool
}

// keyMachine runs one random script on an outbox with keys, and on a list of what each key is set to.
type keyMachine struct {
	box    *Outbox[int]
	config Config
	ledger ledger
	want   []setting

	attempt, next int
	bodies        byte
	ended         bool
}

func (m *keyMachine) set(in setting, last bool) {
	i := slices.IndexFunc(m.want, func(s setting) bool { return s.key == in.key })
	switch {
	case last && i >= 0:
		m.want = slices.Delete(m.want, i, i+1)
	case last:
	case i >= 0:
		m.want[i] = in
	default:
		m.want = append(m.want, in)
	}
}

// fits reports whether key may be set: all messages have 2000 bytes, and all keys one.
func (m *keyMachine) fits(key string) bool {
	keys := len(m.want)
	if !slices.ContainsFunc(m.want, func(s setting) bool { return s.key == key }) {
		keys++
	}
	return keys <= m.config.Keys && keys*2001 <= m.config.KeyBytes
}

func (m *keyMachine) send(t *rapid.T) {
	m.bodies++
	in := setting{key: rapid.SampledFrom([]string{"a", "b", "c", "d", "e"}).Draw(t, "key"), body: m.bodies}
	last := rapid.IntRange(0, 3).Draw(t, "last") == 0
	v := &message{body: in.body}
	want := Go
	switch {
	case m.ended:
		want = Ended
	case !last && !m.fits(in.key):
		want = Full
	case m.attempt == 0:
		want = Stored
	}
	ticket, got := m.box.BeginKey(v, in.key, last, m.ledger.encode(in.body, 2000))
	require.Equal(t, want, got, "the verdict on key %s, last %v", in.key, last)
	if got == Stored {
		m.set(in, last)
	}
	if got != Go {
		return
	}
	require.Equal(t, m.attempt, ticket.Attempt, "the attempt to send on")
	encoded := No
	switch rapid.SampledFrom([]string{"", "encoded", "encoded", "replaced"}).Draw(t, "codec") {
	case "encoded":
		data, _ := m.box.Encoded(v)
		require.Equal(t, in.body, data.Materialize()[0], "the bytes that are sent")
		data.Free()
		encoded = Yes
	case "replaced": // by an interceptor
		other := new(message)
		data, turn := m.box.Encoded(other)
		require.Nil(t, data, "bytes that are known, of another message")
		m.box.Keep(other, turn, m.ledger.encode(99, 2000)).Free()
		encoded = Yes
	}
	said := rapid.SampledFrom([]Said{OK, OK, OK, Dead, Rejected, Lost, Failed}).Draw(t, "said")
	outcome := outcomeOf(said, encoded, true)
	if said == Failed && rapid.Bool().Draw(t, "does not return") {
		m.box.Forget(ticket)
	} else {
		settled, missed := m.box.Settle(ticket, said)
		require.Equal(t, outcome, settled)
		require.False(t, missed, "the bytes are known")
	}
	if outcome.Message != TakenBack {
		in.refused = outcome.Message == InDoubt
		m.set(in, last)
	}
}

func (m *keyMachine) lose(*rapid.T) {
	m.box.Detach()
	m.attempt = 0
}

// resume begins an attempt, and may lose it in its replay.
func (m *keyMachine) resume(t *rapid.T) {
	if m.attempt != 0 || m.ended {
		return
	}
	a := m.next
	m.next++
	m.box.Opened(a)
	var dropped []string
	defer func() {
		for _, key := range dropped {
			m.set(setting{key: key}, true)
		}
	}()
	for i := 0; ; i++ {
		k, key, ok := m.box.NextState()
		require.Equal(t, i < len(m.want), ok, "whether there is more to send, after %d", i)
		if !ok {
			break
		}
		require.Equal(t, m.want[i], setting{key: key, body: k.Data.Materialize()[0], refused: k.Refused}, "what is sent %d. again", i+1)
		v := &message{body: m.want[i].body}
		require.True(t, m.box.Resume(v, 0, k.Data))
		data, _ := m.box.Encoded(v)
		data.Free()
		m.box.Resumed(OK)
		require.Equal(t, NotYet, m.box.verdictOnKey(&state{key: "a"}, true), "the verdict on a key during a replay (invariant 13)")
		switch rapid.IntRange(0, 9).Draw(t, "then") {
		case 0:
			m.lose(t)
			return
		case 1:
			m.box.DropState(key)
			dropped = append(dropped, key)
		}
	}
	require.False(t, m.box.Attach(a, true))
	m.attempt = a
}

func (m *keyMachine) end(t *rapid.T) {
	if rapid.IntRange(0, 9).Draw(t, "end") == 0 {
		m.box.End(errEnd)
		m.ended, m.attempt = true, 0
	}
}

func (m *keyMachine) check(t *rapid.T) {
	var got []setting
	for e := m.box.states.order.Front(); e != nil; e = e.Next() {
		got = append(got, setting{key: stateOf(e).key, body: stateOf(e).data.Materialize()[0], refused: stateOf(e).refused})
	}
	require.Equal(t, len(m.want), len(got), "keys")
	for i := range got {
		require.Equal(t, m.want[i], got[i], "key %d, in the order in which they were first sent", i)
	}
	counts := m.box.Stats()
	require.Equal(t, []int{len(got), 2001 * len(got)}, []int{counts.Keys, counts.KeysSize}, "the statistics")
	require.Equal(t, len(got), m.ledger.inUse, "buffers in use (invariant 40)")
	require.Zero(t, counts.Sent, "messages with numbers")
	require.False(t, counts.Outstanding, "there is nothing to acknowledge")
}

// Whatever happens: each key has its newest message, in the order in which the keys were first sent, and each attempt gets exactly
// these (invariants 8, 13, 29, 34 and 40).
func TestKeysAreAList(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		config := Config{
			Keys:     rapid.IntRange(1, 6).Draw(t, "keys"),
			KeyBytes: rapid.SampledFrom([]int{2001, 3 * 2001, 1 << 20}).Draw(t, "bytes"),
		}
		m := &keyMachine{box: New[int](config), config: config, next: 1}
		t.Repeat(map[string]func(*rapid.T){
			"send": m.send, "send again": m.send, "and again": m.send, "lose": m.lose, "resume": m.resume, "end": m.end, "": m.check,
		})
	})
}
