package inbox

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/streamsafe/streamsafe/checkpoint"
)

var (
	errEnd    = errors.New("the end of the stream")
	errClosed = errors.New("closed")
)

// machine runs one random script on an inbox, on an inbox whose fast lane is shut before each call, and on the reference.
type machine struct {
	boxes   [2]*Inbox[int, int]
	counted [2]uint64
	moved   [2]uint64
	ref     reference

	closely bool // look at the fields after each step: that shuts the lane, too
	report  *Report
	holder  int // the attempt of whoever is busy
	next    int // the next attempt
	sent    int // messages so far
}

func newMachine(t *rapid.T, rows []row) *machine {
	m := &machine{next: 1, closely: rapid.Bool().Draw(t, "look closely")}
	config := Config{
		Hold:            rapid.Bool().Draw(t, "hold"),
		HoldLimit:       rapid.SampledFrom([]int{0, 300, 1000, 1 << 20}).Draw(t, "hold limit"),
		DeliverOverflow: rapid.Bool().Draw(t, "deliver overflow"),
		NoGaps:          rapid.Bool().Draw(t, "no gaps"),
		Manual:          rapid.Bool().Draw(t, "manual"),
		MaxReady:        rapid.SampledFrom([]int{1, 3, 100}).Draw(t, "max ready"),
		MaxReadySize:    rapid.SampledFrom([]int{1, 400, 1 << 20}).Draw(t, "max ready size"),
	}
	m.ref = reference{config: config, rows: rows}
	for i := range m.boxes {
		config.Counted = func() { m.counted[i]++ }
		config.Moved = func() { m.moved[i]++ }
		m.boxes[i] = New[int, int](config)
	}
	return m
}

// shut closes the fast lane of b: nothing opens it until the next call has let go of the lock.
func shut(b *Inbox[int, int]) {
	b.lock()
	b.mu.Unlock()
}

// same calls f for both inboxes and returns what it returns, which has to be the same.
func same[R any](t require.TestingT, m *machine, what string, f func(b *Inbox[int, int]) R) R {
	fast := within(t, what, func() R { return f(m.boxes[0]) })
	shut(m.boxes[1])
	slow := within(t, what, func() R { return f(m.boxes[1]) })
	require.Equal(t, slow, fast, "%s with the fast lane, against the same with the lane shut", what)
	return fast
}

// within returns what f returns, and does not wait for ever.
func within[R any](t require.TestingT, what string, f func() R) (r R) {
	done := make(chan struct{})
	go func() { defer close(done); r = f() }()
	timer := time.NewTimer(10 * time.Second)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		require.FailNow(t, what+" waits for ever, though it has nothing to wait for")
	}
	return r
}

// begun is what Begin returns.
type begun struct {
	Message *int
	Attempt int
	Err     error
}

func (m *machine) begin(t *rapid.T) {
	if m.ref.busy && !m.ref.standIn || m.ref.wouldWait() {
		return
	}
	got := same(t, m, "Begin", func(b *Inbox[int, int]) (r begun) {
		r.Message, r.Attempt, r.Err = b.Begin()
		return r
	})
	var want begun
	want.Message, want.Attempt, want.Err = m.ref.begin()
	require.Equal(t, want, got, "what Begin returns: the next message in order (no loss, no repeat), else the attempt")
	if got.Attempt != 0 {
		m.holder = got.Attempt
	}
}

// arrived is what Arrived returns, and what it leaves of the message.
type arrived struct {
	Mine   bool
	Report *Report
	Left   *int
}

func (m *machine) arrive(t *rapid.T, in Arrival[int], queue bool) {
	attempt := m.holder
	got := same(t, m, "Arrived", func(b *Inbox[int, int]) (r arrived) {
		in := in
		r.Mine, r.Report = b.Arrived(attempt, &in, queue)
		if r.Report != nil {
			report := *r.Report // it is the inbox's own
			r.Report = &report
		}
		if r.Mine {
			r.Left = in.Message
		}
		return r
	})
	var want arrived
	want.Mine, want.Report = m.ref.arrive(in, queue)
	if want.Mine {
		want.Left = in.Message
	}
	require.Equal(t, want, got, "what Arrived says of %+v", in)
	m.report = want.Report
}

// settle acts on the report of the last message, if there is one.
func (m *machine) settle(t *rapid.T) {
	if m.report == nil {
		return
	}
	require.True(t, m.boxes[0].busy || !m.ref.busy, "Arrived with a report leaves the caller busy")
	broken := m.report.Breaks()
	for _, b := range m.boxes {
		b.Settle(m.holder, broken)
	}
	m.ref.busy, m.ref.standIn, m.report = false, false, nil
	if broken {
		m.ref.refused = m.holder
	}
}

// message draws what arrives. Most often it is next, and has a position.
func (m *machine) message(t *rapid.T) Arrival[int] {
	m.sent++
	number := m.sent
	at := m.ref.resume()
	in := Arrival[int]{Message: &number, Size: rapid.SampledFrom([]int{0, 10, 150, 500}).Draw(t, "size"), HasPosition: true}
	in.Control = rapid.IntRange(0, 5).Draw(t, "control") == 0
	switch rapid.SampledFrom([]string{
		"next", "next", "next", "none", "none", "skip", "last", "low", "token", "other lineage", "highest",
	}).Draw(t, "position") {
	case "next":
		at.Seq++
		at.Token = rapid.SampledFrom([]string{"", "t"}).Draw(t, "token")
	case "none":
		at, in.HasPosition = checkpoint.Position{}, false
	case "skip":
		at.Seq += 3
	case "last":
		at.Token = "again"
	case "low":
		at.Seq -= min(at.Seq, 2)
		at.Token = "low" // no zero position: the caller takes that for none
	case "token":
		at.Seq, at.Token = 0, "alone"
	case "other lineage":
		at.Lineage += "x"
	case "highest":
		at.Seq = math.MaxUint64
	}
	in.Position = at
	return in
}

// receive is one message of the application's: Begin, and if that returns the attempt, Arrived and Settle.
func (m *machine) receive(t *rapid.T) {
	if m.begin(t); m.ref.busy && !m.ref.standIn {
		m.arrive(t, m.message(t), false)
		m.settle(t)
	}
}

// flood is the way of messages that are next, for which the fast lane is.
func (m *machine) flood(t *rapid.T) {
	positions := rapid.Bool().Draw(t, "positions")
	for range rapid.IntRange(1, 9).Draw(t, "messages") {
		if m.begin(t); !m.ref.busy || m.ref.standIn {
			return
		}
		m.sent++
		number := m.sent
		in := Arrival[int]{Message: &number}
		if positions {
			in.Position, in.HasPosition = m.ref.resume(), true
			in.Position.Seq++
		}
		m.arrive(t, in, false)
		m.settle(t)
	}
}

func (m *machine) refuse(t *rapid.T) {
	if !m.ref.busy || m.report != nil {
		return
	}
	received := rapid.Bool().Draw(t, "received")
	for _, b := range m.boxes {
		b.Refuse(m.holder, received)
	}
	m.ref.busy, m.ref.standIn, m.ref.refused = false, false, m.holder
	if received {
		m.ref.received++
	}
}

// claim is Claim, if that would not wait, and one message.
func (m *machine) claim(t *rapid.T) {
	wait := rapid.Bool().Draw(t, "wait")
	a := m.ref.attempt
	if rapid.IntRange(0, 5).Draw(t, "of an old attempt") == 0 {
		a--
	}
	if a == 0 {
		return
	}
	if wait && a == m.ref.attempt && a != m.ref.refused && !m.ref.leaving && (m.ref.busy || m.ref.full()) {
		return
	}
	want := !m.ref.busy && a == m.ref.attempt && a != m.ref.refused && (wait || !m.ref.full())
	got := same(t, m, "Claim", func(b *Inbox[int, int]) bool { return b.Claim(a, wait) })
	require.Equal(t, want, got, "whether Claim(%d, %t) lets somebody receive in the application's place", a, wait)
	if got {
		m.ref.busy, m.ref.standIn, m.ref.since = true, !wait, m.ref.ticks
		m.holder = a
	}
}

// Whatever happens, in whatever order: the application sees each message that arrived for good once, in order, and the
// positions, the counters and what is told stand where lists of everything say, with the fast lane and without (invariants
// 2, 3, 5, 6, 12, 13 and 17).
func TestAnInboxIsLists(t *testing.T) {
	t.Parallel()
	rows, err := kindTable()
	require.NoError(t, err)
	rapid.Check(t, func(t *rapid.T) {
		m := newMachine(t, rows)
		t.Repeat(map[string]func(*rapid.T){
			"receive": m.receive, "receive again": m.receive, "flood": m.flood, "flood again": m.flood,
			"begin": m.begin, "refuse": m.refuse, "claim": m.claim,
			"arrive": func(t *rapid.T) {
				if m.ref.busy && m.report == nil {
					m.arrive(t, m.message(t), m.ref.standIn || m.ref.attempt != m.holder)
				}
			},
			"settle": m.settle, "detach": m.detach, "attach": m.attach, "begins": m.begins,
			"end": m.end, "tick": m.tick,
			"process all": func(*rapid.T) {
				for _, b := range m.boxes {
					b.ProcessAll()
				}
				m.ref.done = len(m.ref.handed)
			},
			"look": m.check,
			"": func(t *rapid.T) {
				if m.closely {
					m.check(t)
				}
			},
		})
		m.check(t)
	})
}
