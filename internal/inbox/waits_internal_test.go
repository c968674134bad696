package inbox

import (
	"fmt"
	"strconv"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/checkpoint"
)

// event is something that happens while somebody waits.
type event struct {
	name string
	do   func(b *Inbox[int, int])
	want string // what the call that waits returns; empty: it waits on
}

// wait is a call that waits, and what may happen then.
type wait struct {
	name   string
	before func(b *Inbox[int, int])
	call   func(b *Inbox[int, int]) string
	events []event
}

func number(n int) *int { return &n }

// next is a message with the position seq.
func next(seq uint64) *Arrival[int] {
	return &Arrival[int]{Message: number(int(seq)), Position: checkpoint.Position{Seq: seq}, HasPosition: true} //nolint:gosec // small
}

func beginning(b *Inbox[int, int]) string {
	m, a, err := b.Begin()
	switch {
	case err != nil:
		return err.Error()
	case m != nil:
		return fmt.Sprintf("message %d", *m)
	}
	return fmt.Sprintf("attempt %d", a)
}

func detaching(b *Inbox[int, int]) string {
	s := b.Detach(false)
	return fmt.Sprintf("at %d, busy %t", s.Position.Seq, s.Busy)
}

func claiming(b *Inbox[int, int]) string { return strconv.FormatBool(b.Claim(1, true)) }

func awaiting(b *Inbox[int, int]) string { return fmt.Sprintf("attempt %d", b.AwaitAfter(1)) }

// What may happen. All the numbers are of messages; the attempt is 1, and 2 the next one.
var (
	attach      = event{"the next attempt", func(b *Inbox[int, int]) { b.Attach(2) }, ""}
	arrive      = event{"a message for the caller", func(b *Inbox[int, int]) { b.Arrived(1, next(1), false) }, ""}
	enqueue     = event{"a message to be queued", func(b *Inbox[int, int]) { b.Arrived(1, next(1), true) }, ""}
	silence     = event{"a message that is dropped", func(b *Inbox[int, int]) { b.Arrived(1, &Arrival[int]{Control: true}, true) }, ""}
	report      = event{"a report", func(b *Inbox[int, int]) { b.Arrived(1, next(1<<64-1), true) }, ""}
	settle      = event{"a report that is settled", func(b *Inbox[int, int]) { report.do(b); b.Settle(1, true) }, ""}
	settleAlive = event{"a report that breaks nothing", func(b *Inbox[int, int]) { b.Settle(1, false) }, ""}
	refuse      = event{"a RecvMsg that failed", func(b *Inbox[int, int]) { b.Refuse(1, false) }, ""}
	detach      = event{"the loss of the attempt", func(b *Inbox[int, int]) { b.Leave(); b.Detach(false) }, ""}
	takeAway    = event{"the attempt, which is taken away", func(b *Inbox[int, int]) { b.Detach(false) }, ""}
	detachAll   = event{"the end of the attempt, with what is held", func(b *Inbox[int, int]) { b.Detach(true) }, ""}
	leave       = event{"the end of the context", func(b *Inbox[int, int]) { b.Leave() }, ""}
	end         = event{"the end", func(b *Inbox[int, int]) { b.End(errEnd, false) }, ""}
	abandon     = event{"Close", func(b *Inbox[int, int]) { b.Abandon(errClosed) }, ""}
	receive     = event{"the application, which takes a message", func(b *Inbox[int, int]) { _, _, _ = b.Begin() }, ""}
	begins      = event{"a new position", func(b *Inbox[int, int]) { b.Begins(checkpoint.Position{Seq: 9}) }, ""}
	looks       = event{"somebody who looks", func(b *Inbox[int, int]) { b.Stats(); b.Tick(); b.Position(); b.ProcessAll() }, ""}
)

func (e event) gives(want string) event {
	e.want = want
	return e
}

func attached(b *Inbox[int, int]) { b.Attach(1) }

func receiving(b *Inbox[int, int]) {
	b.Attach(1)
	_, _, _ = b.Begin()
}

func receivingFast(b *Inbox[int, int]) {
	receiving(b)
	b.Arrived(1, next(1), false)
	_, _, _ = b.Begin()
}

func standingIn(b *Inbox[int, int]) {
	b.Attach(1)
	b.Claim(1, false)
}

func refused(b *Inbox[int, int]) {
	receiving(b)
	b.Refuse(1, false)
}

func full(b *Inbox[int, int]) {
	b.Attach(1)
	for seq := range uint64(2) {
		b.Claim(1, false)
		b.Arrived(1, next(seq+1), true)
	}
}

func holding(b *Inbox[int, int]) {
	standingIn(b)
	b.Arrived(1, &Arrival[int]{Message: number(7)}, true)
	standingIn(b)
	b.Refuse(1, false)
}

// The calls that wait, and everything that may happen meanwhile.
var waits = []wait{
	{"Begin without an attempt", func(*Inbox[int, int]) {}, beginning, []event{
		attach.gives("attempt 2"), enqueue.gives("message 1"), end.gives("the end of the stream"), abandon.gives("closed"),
		leave, begins, looks, silence,
	}},
	{"Begin after the attempt has failed", refused, beginning, []event{
		attach.gives("attempt 2"), end.gives("the end of the stream"), abandon.gives("closed"), detach, leave, looks,
	}},
	{"Begin while another receives in the application's place", standingIn, beginning, []event{
		enqueue.gives("message 1"), silence.gives("attempt 1"), settleAlive.gives("attempt 1"),
		end.gives("the end of the stream"), abandon.gives("closed"), report, settle, refuse, leave, looks,
	}},
	{"Begin while the application receives already, by the fast lane", receivingFast, beginning, []event{
		{"the next message", func(b *Inbox[int, int]) { b.Arrived(1, next(2), false) }, "attempt 1"},
		end.gives("the end of the stream"), refuse, looks,
	}},
	{"Begin while messages are held", holding, beginning, []event{
		detachAll.gives("message 7"), end.gives("the end of the stream"), detach, looks,
	}},
	{"Detach while the application receives", receiving, detaching, []event{
		arrive.gives("at 1, busy false"), refuse.gives("at 0, busy false"), silence.gives("at 0, busy false"),
		settle.gives("at 0, busy false"), leave.gives("at 0, busy true"), report, end, abandon, looks,
	}},
	{"Detach while another receives", standingIn, detaching, []event{
		enqueue.gives("at 1, busy false"), refuse.gives("at 0, busy false"), settle.gives("at 0, busy false"),
		leave.gives("at 0, busy true"), report, end, looks,
	}},
	{"Claim while the application receives", receiving, claiming, []event{
		arrive.gives("true"), silence.gives("true"), refuse.gives("false"), settle.gives("false"), settleAlive.gives("true"),
		leave.gives("false"), end.gives("false"), attach.gives("false"), detach.gives("false"), report, abandon, looks,
	}},
	{"Claim while too much is ready", full, claiming, []event{
		receive.gives("true"), abandon.gives("true"), end.gives("false"), attach.gives("false"), takeAway.gives("false"),
		refuse.gives("false"), leave.gives("true"), looks,
	}},
	{"AwaitAfter, of the attempt that is there", attached, awaiting, []event{
		attach.gives("attempt 2"), end.gives("attempt 0"), abandon.gives("attempt 0"), detach, leave, looks,
		{"the same attempt", func(b *Inbox[int, int]) { b.Attach(1) }, ""},
	}},
	{"AwaitAfter, while there is no attempt", func(*Inbox[int, int]) {}, awaiting, []event{
		attach.gives("attempt 2"), end.gives("attempt 0"), abandon.gives("attempt 0"), leave, looks,
	}},
}

// Every call that waits is woken by every event that it waits for, and by no other.
func TestWaitsEnd(t *testing.T) {
	t.Parallel()
	for _, w := range waits {
		for _, e := range w.events {
			t.Run(w.name+"/"+e.name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					b := New[int, int](Config{Hold: w.name == "Begin while messages are held", HoldLimit: 1000, MaxReady: 2})
					w.before(b)
					got := ""
					go func() { got = w.call(b) }() // ends with the call, or with release
					synctest.Wait()
					require.Empty(t, got, "%s did not wait", w.name)
					e.do(b)
					synctest.Wait()
					ended := got
					release(b)
					synctest.Wait()
					require.Equal(t, e.want, ended, "%s, after %s (empty: it waits)", w.name, e.name)
				})
			})
		}
	}
}

// release ends every wait for b, though a wake is missing: the bubble would not end.
func release(b *Inbox[int, int]) {
	b.lock()
	defer b.unlock()
	b.ended, b.leaving, b.busy = errEnd, true, false
	b.ready.Clear()
	b.wake.Broadcast()
}

// A call that need not wait does not: a bubble with a call that waits does not end.
func TestClaimDoesNotWaitForTheApplication(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := New[int, int](Config{MaxReady: 2})
		receiving(b)
		require.False(t, b.Claim(1, false), "Claim while the application receives")
		b.Refuse(1, false)
		require.False(t, b.Claim(1, true), "Claim of an attempt that has failed")
		b.Attach(2)
		require.False(t, b.Claim(1, false), "Claim of an attempt that is gone (invariant 10)")
		require.True(t, b.Claim(2, false), "Claim while nobody receives")
		go func() { _, _, _ = b.Begin() }() // ends with End
		synctest.Wait()
		b.Arrived(2, &Arrival[int]{Control: true}, true)
		require.False(t, b.Claim(2, false), "Claim after the application, which waits for a message, was let in")
		b.Arrived(2, next(1), false)
		b.End(errEnd, false)
	})
}

// Detach with all waits for what is on its way, and what it makes ready then is handed over at once, though Begin looked for
// it before: twice in a row nobody knows who is first to look.
func TestWhatIsHeldIsHandedOverAtTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for range 100 {
			b := New[int, int](Config{Hold: true, HoldLimit: 1000})
			b.Attach(1)
			b.Claim(1, false)
			b.Arrived(1, &Arrival[int]{Message: number(7)}, true)
			b.Claim(1, false)
			got := ""
			go b.Detach(true)                  // ends with Refuse
			go func() { got = beginning(b) }() // ends with Detach, or with release
			synctest.Wait()
			b.Refuse(1, false)
			synctest.Wait()
			first := got
			release(b)
			synctest.Wait()
			require.Equal(t, "message 7", first, "what Begin returned when the attempt had ended (empty: it waits)")
		}
	})
}

// The application comes first: while it waits in Begin nobody takes its place, though it was not woken yet.
func TestTheApplicationComesFirst(t *testing.T) {
	t.Parallel()
	b := New[int, int](Config{})
	b.Attach(1)
	b.asks = true // it was woken, and has not got the lock yet
	require.False(t, b.Claim(1, false), "Claim while the application is about to receive")
	require.True(t, b.Claim(1, true), "Claim of one who finds out why an attempt is dead")
}

// The time that an application waits for a message counts from when it began to wait, though another receives for it; that
// of whoever stands in does not count (invariant 22).
func TestTicksOfAWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		waited := func(b *Inbox[int, int]) uint64 {
			n, _ := b.Tick()
			return n
		}
		b := New[int, int](Config{})
		b.Attach(1)
		require.Zero(t, waited(b), "ticks that a slow application has waited")
		b.Claim(1, false)
		require.Zero(t, waited(b), "ticks of a wait in which another receives, and the application does not wait")
		go func() { _, _, _ = b.Begin() }() // ends with the message
		synctest.Wait()
		require.EqualValues(t, 1, waited(b), "ticks since the application began to wait, while another receives")
		require.EqualValues(t, 2, waited(b), "ticks since the application began to wait, while another receives")
		b.Rewait()
		require.EqualValues(t, 2, waited(b), "ticks since the one before Rewait")
		b.Arrived(1, next(1), true)
		synctest.Wait()
		require.Zero(t, waited(b), "ticks after the message came")
		b.Claim(1, true)
		require.EqualValues(t, 1, waited(b), "ticks of one who finds out why an attempt is dead")
		b.Arrived(1, next(2), false)
		for range 3 { // with the fast lane
			_, _, _ = b.Begin()
			require.EqualValues(t, 1, waited(b), "ticks since Begin, the first one")
			require.EqualValues(t, 2, waited(b), "ticks since Begin")
			b.Arrived(1, next(b.Position().Seq+1), false)
		}
		_, fresh := b.Tick()
		require.False(t, fresh, "whether no message has come")
		b.Attach(2)
		_, fresh = b.Tick()
		require.True(t, fresh, "whether no message has come from the new attempt")
	})
}
