package outbox

import (
	"fmt"
	"strconv"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/mem"
)

// scene is an outbox while a call waits: the ticket is of the message that is on its way, if there is one.
type scene struct {
	*Outbox[int]
	ticket  Ticket[int]
	message *message
	over    bool
}

// event is something that happens while somebody waits.
type event struct {
	name string
	do   func(s *scene)
	want string // what the call that waits returns; empty: it waits on
}

func (e event) gives(want string) event {
	e.want = want
	return e
}

// wait is a call that waits, and what may happen then.
type wait struct {
	name   string
	before func(s *scene)
	call   func(s *scene) string
	events []event
}

// send begins to send a message, and settle ends that well.
func (s *scene) send() {
	s.message = &message{body: 1}
	s.ticket, _ = s.Begin(s.message, 0, false)
}

func (s *scene) encode() {
	_, turn := s.Encoded(s.message)
	s.Keep(s.message, turn, mem.BufferSlice{mem.SliceBuffer("abc")}).Free()
}

func (s *scene) settle(said Said) { s.Settle(s.ticket, said) }

func beginning(s *scene) string {
	t, v := s.Begin(&message{}, 0, true)
	if v != Go {
		return fmt.Sprintf("verdict %d", v)
	}
	return fmt.Sprintf("attempt %d", t.Attempt)
}

func halfClosingNow(s *scene) string {
	a, now := s.CloseSend()
	return fmt.Sprintf("on %d: %t", a, now)
}

func detaching(s *scene) string { return fmt.Sprintf("sent %d", s.Detach().Sent) }

func flushing(s *scene) string {
	return strconv.FormatBool(s.AwaitAcked(func() bool { return s.over }))
}

// What may happen. The attempt is 1, and 2 the next one; one message was sent.
var (
	attach      = event{"the next attempt", func(s *scene) { s.Attach(2, true) }, ""}
	attachDead  = event{"an attempt that is dead", func(s *scene) { s.Attach(2, false) }, ""}
	sentOne     = event{"a message that is sent", func(s *scene) { s.encode(); s.settle(OK) }, ""}
	missed      = event{"a message that the codec has not seen", func(s *scene) { s.settle(OK) }, ""}
	complete    = event{"a message that is kept afterwards", func(s *scene) { s.settle(OK); s.Complete(s.message, s.ticket, nil, true) }, ""}
	uncodable   = event{"a message that cannot be kept", func(s *scene) { s.settle(OK); s.Complete(s.message, s.ticket, nil, false) }, ""}
	takenBack   = event{"a message that is taken back", func(s *scene) { s.settle(Rejected) }, ""}
	forgotten   = event{"a call that never returned", func(s *scene) { s.Forget(s.ticket) }, ""}
	abandoned   = event{"the death of the attempt", func(s *scene) { s.Abandon(1) }, ""}
	other       = event{"the death of another attempt", func(s *scene) { s.Abandon(2) }, ""}
	detached    = event{"the loss of the attempt", func(s *scene) { s.Leave(); s.Detach() }, ""}
	acked       = event{"an acknowledgement", func(s *scene) { s.Acknowledge(1) }, ""}
	ackedAll    = event{"an acknowledgement of all", func(s *scene) { s.AcknowledgeAll() }, ""}
	ackedStart  = event{"an acknowledgement in the handshake", func(s *scene) { s.AcknowledgeStart(1) }, ""}
	stale       = event{"an acknowledgement of nothing new", func(s *scene) { s.Acknowledge(0) }, ""}
	discarded   = event{"a kept message that is dropped", func(s *scene) { s.Discard([]uint64{1}) }, ""}
	resumed     = event{"a message that is sent again", func(s *scene) { s.Resume(&message{}, 1, nil); s.Resumed(OK) }, ""}
	closed      = event{"CloseSend", func(s *scene) { s.CloseSend() }, ""}
	halfClosed  = event{"the end of a half-close", func(s *scene) { s.HalfClosed(1) }, ""}
	left        = event{"the end of the context", func(s *scene) { s.Leave() }, ""}
	ended       = event{"the end", func(s *scene) { s.End(errEnd) }, ""}
	overWaking  = event{"the end of the caller's context, and Wake", func(s *scene) { s.over = true; s.Wake() }, ""}
	woken       = event{"Wake", func(s *scene) { s.Wake() }, ""}
	looked      = event{"somebody who looks", func(s *scene) { s.Stats(); s.Tick(); s.Stalled(); s.Watch(); s.Next(0) }, ""}
	resumedOver = event{"the end of a message that is sent again", func(s *scene) { s.Resumed(OK) }, ""}
)

func nobody(*scene) {}

func sendingOne(s *scene) {
	s.Attach(1, true)
	s.send()
}

func fullOne(s *scene) {
	sendingOne(s)
	s.encode()
	s.settle(OK)
}

func lostOne(s *scene) {
	fullOne(s)
	s.Detach()
}

func halfClosing(s *scene) {
	s.Attach(1, true)
	s.CloseSend()
}

func resuming(s *scene) {
	lostOne(s)
	s.Resume(&message{}, 1, nil)
}

// The calls that wait, and everything that may happen meanwhile. There is room for one message.
var waits = []wait{
	{"Begin without an attempt", nobody, beginning, []event{
		attach.gives("attempt 2"), closed.gives("verdict 2"), ended.gives("verdict 1"), attachDead, left, woken, looked,
	}},
	{"Begin without room", fullOne, beginning, []event{
		acked.gives("attempt 1"), ackedAll.gives("attempt 1"), ackedStart.gives("attempt 1"), discarded.gives("attempt 1"),
		closed.gives("verdict 2"), ended.gives("verdict 1"), stale, left, woken, abandoned, looked, resumed,
	}},
	{"Begin while another message is on its way", sendingOne, beginning, []event{
		takenBack.gives("attempt 1"), forgotten.gives("attempt 1"), uncodable.gives("attempt 1"), ended.gives("verdict 1"),
		sentOne, missed, complete, acked, left, looked,
	}},
	{"CloseSend while a message is on its way", sendingOne, halfClosingNow, []event{
		sentOne.gives("on 1: true"), complete.gives("on 1: true"), uncodable.gives("on 1: true"), takenBack.gives("on 1: true"),
		forgotten.gives("on 1: true"), abandoned.gives("on 0: false"), detached.gives("on 0: false"), ended.gives("on 0: false"),
		missed, other, acked, left, looked,
	}},
	{"Detach while a message is on its way", sendingOne, detaching, []event{
		sentOne.gives("sent 1"), complete.gives("sent 1"), uncodable.gives("sent 1"), takenBack.gives("sent 0"),
		forgotten.gives("sent 0"), left.gives("sent 1"), missed, abandoned, acked, ended, looked,
	}},
	{"Detach during a half-close", halfClosing, detaching, []event{
		halfClosed.gives("sent 0"), left.gives("sent 0"), ended, looked,
	}},
	{"Detach while a message is sent again", resuming, detaching, []event{
		resumedOver.gives("sent 1"), left.gives("sent 1"), acked, ended, looked,
	}},
	{"AwaitAcked", lostOne, flushing, []event{
		acked.gives("true"), ackedAll.gives("true"), ackedStart.gives("true"), discarded.gives("true"), ended.gives("false"),
		overWaking.gives("false"), stale, resumed, attach, left, closed, woken, looked,
	}},
	{"AwaitAcked while a message is on its way", sendingOne, flushing, []event{
		takenBack.gives("true"), forgotten.gives("true"), uncodable.gives("true"), acked.gives("true"), sentOne, missed, looked,
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
					s := &scene{Outbox: New[int](Config{Replay: true, Messages: 1, Bytes: 1 << 20})}
					w.before(s)
					got := ""
					go func() { got = w.call(s) }() // ends with the call, or with release
					synctest.Wait()
					require.Empty(t, got, "%s did not wait", w.name)
					e.do(s)
					synctest.Wait()
					after := got
					release(s.Outbox)
					synctest.Wait()
					require.Equal(t, e.want, after, "%s, after %s (empty: it waits)", w.name, e.name)
				})
			})
		}
	}
}

// release ends every wait for o, though a wake is missing: the bubble would not end.
func release(o *Outbox[int]) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended, o.leaving, o.busy = errEnd, true, false
	o.wake.Broadcast()
}

// A Send that waits for room stalls, and so does one that waits for flow control, CloseSend and AwaitAcked: then somebody has to
// receive in the application's place (invariant 35).
func TestWhatStalls(t *testing.T) {
	t.Parallel()
	for _, w := range waits {
		if w.name == "Detach while a message is sent again" || w.name == "Detach during a half-close" {
			continue
		}
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &scene{Outbox: New[int](Config{Replay: true, Messages: 1, Bytes: 1 << 20})}
				w.before(s)
				s.Stalled()
				go w.call(s) // ends with release
				synctest.Wait()
				stalled, again := s.Stalled()
				require.True(t, stalled, "%s makes no progress", w.name)
				require.True(t, again, "%s has to be looked after", w.name)
				require.True(t, s.IsWatched(), "whether somebody looks")
				require.False(t, s.Watch(), "whether somebody else has to look")
				release(s.Outbox)
				synctest.Wait()
			})
		})
	}
}

// A caller that does not want to wait for room does not, and one that waits for an attempt does.
func TestFailWhenFull(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &scene{Outbox: New[int](Config{Replay: true, Messages: 2, Bytes: 3, FailWhenFull: true})}
		fullOne(s)
		_, v := s.Begin(&message{}, 0, true)
		require.Equal(t, Full, v, "the verdict when as many bytes are kept as may be (invariant 8)")
		s.AcknowledgeAll()
		s.Abandon(1)
		got := ""
		go func() { got = beginning(s) }() // ends with the attempt
		synctest.Wait()
		require.Empty(t, got, "what Begin returned without an attempt")
		s.Attach(2, true)
		synctest.Wait()
		require.Equal(t, "attempt 2", got, "what Begin returned, after an attempt came")
	})
}

// A Send that waits is not counted as one that the transport does not take, and the wait for an acknowledgement begins with the
// oldest message after the newest one.
func TestTicks(t *testing.T) {
	t.Parallel()
	s := &scene{Outbox: New[int](Config{Replay: true, Messages: 9, Bytes: 1 << 20})}
	ticks := func(sending, unacked uint64, what string) {
		t.Helper()
		a, b := s.Tick()
		require.Equal(t, []uint64{sending, unacked}, []uint64{a, b}, "ticks of a send, and without an acknowledgement: %s", what)
	}
	s.Attach(1, true)
	ticks(0, 0, "nothing was sent")
	s.send()
	ticks(1, 1, "a message is on its way")
	s.encode()
	s.settle(OK)
	ticks(0, 2, "the message was taken")
	s.send()
	ticks(1, 3, "another one, which does not begin the wait anew")
	s.encode()
	s.settle(OK)
	s.Acknowledge(1)
	ticks(0, 1, "one of two is acknowledged")
	s.Acknowledge(1)
	ticks(0, 2, "and again, which says nothing")
	s.Detach()
	ticks(0, 0, "there is no attempt")
	s.Attach(2, true)
	ticks(0, 1, "the next attempt has its own time")
	s.CloseSend()
	ticks(1, 2, "a half-close is on its way")
	s.HalfClosed(2)
	s.Detach()
	s.Resume(&message{}, 2, nil)
	ticks(1, 0, "a message is sent again")
	s.Resumed(OK)
	require.True(t, s.Attach(3, true), "whether the half-close comes first on the next attempt (invariant 15)")
	ticks(1, 0, "a half-close is on its way")
}
