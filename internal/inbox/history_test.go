package inbox_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/internal/inbox"
)

// entry is what a server sends: a message, a bookmark, or something of the protocol's.
type entry struct {
	message int // zero: it is not the application's
	at      checkpoint.Position
	placed  bool
}

// drawHistory draws what a server has in a lineage: units of messages, of which the last one has a position, and bookmarks
// between them (invariant 6). It returns the messages as well, which are numbered from first+1.
func drawHistory(t *rapid.T, lineage string, first int) (entries []entry, wanted []int) {
	seq := uint64(0)
	for range rapid.IntRange(0, 12).Draw(t, "units") {
		for range rapid.IntRange(0, 3).Draw(t, "messages before the last of a unit") {
			first++
			entries = append(entries, entry{message: first})
			wanted = append(wanted, first)
		}
		seq++
		first++
		entries = append(entries, entry{message: first, at: checkpoint.Position{Lineage: lineage, Seq: seq}, placed: true})
		wanted = append(wanted, first)
		switch rapid.IntRange(0, 4).Draw(t, "after the unit") {
		case 0:
			entries = append(entries, entry{}) // a heartbeat
		case 1:
			entries = append(entries, entry{at: checkpoint.Position{Lineage: lineage, Seq: seq, Token: "bookmark"}, placed: true})
		}
	}
	return entries, wanted
}

// after returns the place in entries from which a server sends on, for a client at p. It may begin earlier by back units: then
// some come again.
func after(entries []entry, p checkpoint.Position, back uint64) int {
	from := p.Seq - min(p.Seq, back)
	for i, e := range entries {
		if e.message != 0 && e.placed && e.at.Seq == from {
			return i + 1
		}
	}
	return 0
}

// Attempts break anywhere, the server repeats units, another goroutine receives for the application now and then, and the
// history is replaced while messages wait. The application sees every message once, in order, and never a part of a unit
// whose end has not come (invariants 2, 5, 6, 12, 13 and 17).
func TestTheApplicationSeesTheHistory(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		manual := rapid.Bool().Draw(t, "manual")
		b := inbox.New[int, int](inbox.Config{
			Hold: true, HoldLimit: 1 << 20, NoGaps: rapid.Bool().Draw(t, "no gaps"), Manual: manual,
		})
		entries, wanted := drawHistory(t, "old", 0)
		second, more := drawHistory(t, "new", len(wanted))
		b.StartsFrom(checkpoint.Position{Lineage: "old"})
		var seen []int
		var processed checkpoint.Position
		taken := func(m *int) {
			seen = append(seen, *m)
			require.LessOrEqual(t, len(seen), len(wanted), "messages that the application sees")
			require.Equal(t, wanted[len(seen)-1], *m, "the next message (no loss, no repeat)")
			now := b.Committable()
			require.True(t, manual || !now.Before(processed), "what may be committed went back from %v to %v", processed, now)
			processed = now
		}
		for attempt := 1; ; attempt++ {
			at := after(entries, b.Position(), rapid.Uint64Range(0, 2).Draw(t, "repeated units"))
			left := rapid.IntRange(0, 12).Draw(t, "entries until the attempt breaks")
			if attempt > 100 { // and now without a break
				at, left = after(entries, b.Position(), 0), len(entries)+1
			}
			b.Attach(attempt)
			for over := false; !over; {
				queue := rapid.IntRange(0, 2).Draw(t, "who receives") == 0 && b.Claim(attempt, false)
				if !queue {
					m, _, err := b.Begin()
					require.NoError(t, err)
					if m != nil {
						taken(m)
						continue
					}
				}
				if over = left == 0 || at == len(entries); over {
					b.Refuse(attempt, false)
					break
				}
				e := entries[at]
				at, left = at+1, left-1
				in := inbox.Arrival[int]{Position: e.at, HasPosition: e.placed, Control: e.message == 0, Message: &e.message}
				mine, report := b.Arrived(attempt, &in, queue)
				if report != nil {
					require.Equal(t, inbox.Repeated, report.Kind, "what is reported of %+v", e)
					b.Settle(attempt, false)
				}
				if mine {
					taken(in.Message)
				}
			}
			complete := at == len(entries)
			stands := b.Detach(false)
			require.Equal(t, b.Position(), stands.Position, "where the next attempt starts (invariant 12)")
			switch {
			case complete && second != nil:
				entries, second, wanted = second, nil, append(wanted, more...)
				b.Begins(checkpoint.Position{Lineage: "new"}) // messages of the old history may wait
			case complete:
				b.End(errEnded, false)
				for {
					m, _, err := b.Begin()
					if m == nil {
						require.ErrorIs(t, err, errEnded)
						require.Len(t, seen, len(wanted), "messages that the application has seen, at the end")
						require.Zero(t, b.Stats().Held, "messages that are held, at the end")
						require.True(t, manual || b.Committable() == b.Stats().Delivered, "what is processed after Begin has told of the end")
						b.ProcessAll()
						require.Equal(t, stands.Position, b.Committable(), "what may be committed at the end")
						return
					}
					taken(m)
				}
			}
		}
	})
}

var errEnded = errors.New("the end")
