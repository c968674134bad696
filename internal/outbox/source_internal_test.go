package outbox

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// puller runs one random script on an outbox with a source, and on a few numbers.
type puller struct {
	box *Outbox[int]

	attempt, next, on int
	at                uint64 // where the pass is
	last, acked       uint64
	highest, floor    uint64 // the highest number of the source, and the highest of Send's before it
	doubtful, fresh   uint64
	again             uint64
	active, passing   bool
	ended             bool
}

func (p *puller) owes() bool { return p.highest > p.acked }

func (p *puller) start(*rapid.T) {
	if p.active {
		return
	}
	p.active = true
	if p.last > p.highest {
		p.floor = p.last
	}
}

// pass begins a pass, if that does not wait.
func (p *puller) pass(t *rapid.T) {
	want := Go
	if !p.active {
		want = Go
		if p.ended {
			want = Ended
		}
		require.Equal(t, want, p.box.StartSource(), "whether a source may start")
		if want == Go {
			p.start(t)
			require.Equal(t, Sourced, p.box.StartSource(), "a second source")
		}
		return
	}
	sent := rapid.Bool().Draw(t, "the source has come to its end")
	switch {
	case sent && !p.owes():
		want = Acked
	case p.ended:
		want = Ended
	case p.attempt == 0:
		return // it would wait
	}
	a, after, got := p.box.BeginPass(sent)
	require.Equal(t, want, got, "the verdict on a pass")
	if got != Go {
		return
	}
	if p.on != p.attempt {
		p.on, p.at = p.attempt, 0
	}
	p.at = max(p.at, p.acked, p.floor)
	require.Equal(t, p.attempt, a, "the attempt of the pass")
	require.Equal(t, p.at, after, "the number to go on after")
	p.passing = true
}

func (p *puller) pull(t *rapid.T) {
	if !p.active || !p.passing {
		return
	}
	want := Go
	switch {
	case p.ended:
		want = Ended
	case p.attempt != p.on:
		want = Over
	}
	ticket, got := p.box.BeginPulled(p.on, 0)
	require.Equal(t, want, got, "the verdict on a message of the pass on attempt %d", p.on)
	if got != Go {
		p.passing = false
		return
	}
	at, last, highest, fresh, again := p.at, p.last, p.highest, p.fresh, p.again
	p.at++
	if p.at > p.last {
		p.fresh++
	} else {
		p.again++
	}
	p.last, p.highest = max(p.last, p.at), max(p.highest, p.at)
	p.acknowledge(t) // before Send returns
	said := rapid.SampledFrom([]Said{OK, OK, OK, OK, OK, Dead, Rejected, Lost, Failed}).Draw(t, "said")
	if rapid.IntRange(0, 19).Draw(t, "does not return") == 0 {
		said = Failed
		p.box.Forget(ticket)
	} else {
		outcome, missed := p.box.Settle(ticket, said)
		require.Equal(t, outcomeOf(said, Unknown, true), outcome)
		require.False(t, missed)
	}
	if said == Rejected {
		p.at, p.last, p.highest, p.fresh, p.again = at, last, highest, fresh, again
		p.acked = min(p.acked, p.last)
	}
}

// send is what the application sends besides.
func (p *puller) send(t *rapid.T) {
	want := Go
	switch {
	case p.ended:
		want = Ended
	case p.active || p.owes():
		want = Sourced
	case p.attempt == 0:
		want = NotYet
	}
	ticket, got := p.box.Begin(nil, 0, false)
	require.Equal(t, want, got, "the verdict on a message of the application's")
	if got == Go {
		p.box.Settle(ticket, OK)
		p.last++
		p.doubtful++
	}
}

func (p *puller) acknowledge(t *rapid.T) {
	seq := rapid.SampledFrom([]uint64{0, p.acked, p.acked + 1, p.at, p.last, p.last + 1}).Draw(t, "acknowledged")
	require.Equal(t, seq <= p.last, p.box.Acknowledge(seq), "whether %d was ever sent (invariant 7)", seq)
	if seq <= p.last {
		p.acked = max(p.acked, seq)
	}
}

func (p *puller) lose(*rapid.T) {
	p.box.Detach()
	p.attempt = 0
}

func (p *puller) resume(*rapid.T) {
	if p.attempt == 0 && !p.ended {
		p.box.Opened(p.next)
		p.box.Attach(p.next, true)
		p.attempt = p.next
		p.next++
	}
}

func (p *puller) finish(t *rapid.T) {
	if p.active && rapid.IntRange(0, 3).Draw(t, "finish") == 0 {
		p.box.FinishSource(false)
		p.active, p.passing = false, false
	}
}

func (p *puller) end(t *rapid.T) {
	if rapid.IntRange(0, 19).Draw(t, "end") == 0 {
		p.box.End(errEnd)
		p.ended, p.attempt = true, 0
	}
}

func (p *puller) check(t *rapid.T) {
	got := p.box.Stats()
	require.Equal(t, Counts{
		Sent: p.fresh + p.doubtful, FromSource: p.fresh, LastSeq: p.last, Acked: p.acked, Outstanding: p.last > p.acked,
		Pulled: p.owes(), PulledAgain: p.again,
	}, got, "the statistics")
	if p.active && p.passing && p.attempt == p.on && !p.ended {
		_, _, short := p.box.PassEnds()
		require.Equal(t, p.at < p.highest && p.owes(), short, "whether the source is shorter than before")
	}
	_, owed := p.box.Tick()
	require.Equal(t, p.attempt != 0 && (p.owes() && p.on == p.attempt && p.at > p.acked || !p.owes() && p.box.owesNow()), owed > 0,
		"whether an acknowledgement is to be expected on the attempt")
	p.box.ticks, p.box.quiet = 0, 0
}

// Whatever happens: a pass goes on after what is acknowledged, each number is sent in order on each attempt, and an acknowledgement may
// come to the highest number ever sent, on whichever attempt (invariants 7, 13 and 34).
func TestASourceIsPulledAgain(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := &puller{box: New[int](Config{}), next: 1}
		t.Repeat(map[string]func(*rapid.T){
			"pass": p.pass, "pass again": p.pass, "pull": p.pull, "pull again": p.pull, "and again": p.pull, "send": p.send,
			"acknowledge": p.acknowledge, "lose": p.lose, "resume": p.resume, "resume again": p.resume, "finish": p.finish, "end": p.end,
			"": p.check,
		})
	})
}
