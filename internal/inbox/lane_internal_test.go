package inbox

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/checkpoint"
)

// source is what an attempt brings: the numbers from 1. Whoever is busy owns it, and the race detector sees to that: there is
// no lock. After the last message whoever receives next ends the stream.
type source struct {
	sent, size uint64
	positions  bool
}

func (s *source) next() *Arrival[uint64] {
	s.sent++
	n := s.sent
	in := &Arrival[uint64]{Message: &n, HasPosition: s.positions}
	if s.positions {
		in.Position = checkpoint.Position{Lineage: "l", Seq: n}
	}
	return in
}

// stress is a stream whose application receives as fast as it can, while others look at it, take its attempt away, and
// receive in its place.
type stress struct {
	*Inbox[int, uint64]
	source
	manual, processing bool
	counted            atomic.Uint64
	seen               atomic.Uint64 // the application has done with so many messages
	laned              atomic.Uint64 // so many times Begin took the lane, or more
	looks              atomic.Uint64 // so many times somebody else shut it
	attempt            atomic.Int64  // the newest
	over               atomic.Bool   // the application has everything
	failed             atomic.Pointer[string]
	folds              sync.WaitGroup
}

func (s *stress) fail(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s.failed.CompareAndSwap(nil, &text)
	s.over.Store(true)
}

// during calls f again and again until the application has everything: after a few messages, or many, or while it stands still.
func (s *stress) during(f func()) {
	s.folds.Add(1)
	go func() { // ends with over
		defer s.folds.Done()
		for pause := uint64(1); !s.over.Load(); pause = pause*5%17 + 1 {
			f()
			s.looks.Add(1)
			for at, tries := s.seen.Load(), 0; s.seen.Load()-at < pause && tries < 3; tries++ {
				runtime.Gosched()
			}
		}
	}()
}

// watch looks at a position that only goes forward, and is never past what the application has done with, plus ahead.
func (s *stress) watch(what string, ahead uint64, position func() checkpoint.Position) {
	var before uint64
	s.during(func() {
		p := position()
		if done := s.seen.Load(); p.Seq < before || p.Seq > done+ahead {
			s.fail("%s is %d, was %d, and the application has done with %d", what, p.Seq, before, done)
		}
		before = p.Seq
	})
}

// yield lets others run, now and then: before Begin of message n, or before its Arrived.
func (s *stress) yield(n, where uint64) {
	if n*0x9e3779b97f4a7c15>>(40+where)%16 == 0 {
		runtime.Gosched()
	}
}

// receive is the application.
func (s *stress) receive() {
	for want := uint64(1); ; want++ {
		s.yield(want, 0)
		m, a, err := s.Begin()
		if s.lane.word.Load()&occupied != 0 {
			s.laned.Add(1)
		}
		switch {
		case err != nil:
			if want != s.size+1 {
				s.fail("the end came before message %d", want)
			}
			return
		case s.over.Load():
			s.fail("nothing else")
			return
		case m == nil && s.sent == s.size:
			s.Refuse(a, false)
			s.End(errEnd, false)
			want--
			continue
		case m == nil:
			in := s.next()
			s.yield(want, 1)
			mine, r := s.Arrived(a, in, false)
			if !mine || r != nil {
				s.fail("message %d was not handed over: %+v", want, r)
				return
			}
			m = in.Message
		}
		if *m != want {
			s.fail("message %d came in place of %d", *m, want)
			return
		}
		s.seen.Store(want)
	}
}

// standIn receives a message in the application's place, if it does not receive.
func (s *stress) standIn() {
	a := int(s.attempt.Load())
	if !s.Claim(a, false) {
		return
	}
	if s.sent == s.size {
		s.Refuse(a, false)
		s.End(errEnd, false)
		return
	}
	if mine, r := s.Arrived(a, s.next(), true); mine || r != nil {
		s.fail("a message that waits was handed over at once, or: %+v", r)
	}
}

// resume takes the attempt away, and attaches the next one.
func (s *stress) resume() {
	at := s.Detach(false)
	if at.Busy || at.Accepted != s.sent || s.positions && at.Position.Seq != s.sent {
		s.fail("the attempt is quiet, and %d messages were sent on it, but the stream stands at %+v", s.sent, at)
	}
	s.attempt.Add(1)
	s.Attach(int(s.attempt.Load()))
}

// One receiver takes 300,000 messages by the fast lane, while others fold it. Nothing is lost, doubled or out of order, what is
// processed is never ahead of the application, and goes forward only, and the counters are exact at the end (invariants 2, 3
// and 12).
func TestTheFastLaneUnderFolds(t *testing.T) {
	t.Parallel()
	for _, positions := range []bool{true, false} {
		for _, mode := range []string{"automatic", "manual", "committing"} {
			t.Run(fmt.Sprintf("positions %t, %s", positions, mode), func(t *testing.T) {
				t.Parallel()
				s := &stress{source: source{size: 300_000 / 6, positions: positions}, manual: mode == "manual", processing: mode != "automatic"}
				s.Inbox = New[int, uint64](Config{Manual: s.manual, Counted: func() { s.counted.Add(1) }})
				s.run(t)
			})
		}
	}
}

func (s *stress) run(t *testing.T) {
	t.Helper()
	s.StartsFrom(checkpoint.Position{})
	s.attempt.Store(1)
	s.Attach(1)
	var ahead uint64
	if s.processing { // what is in the application's hands counts, too
		ahead = 1
		s.during(s.ProcessAll)
	}
	s.watch("what may be committed", ahead, s.Committable)
	s.watch("what Stats says is processed", ahead, func() checkpoint.Position { return s.Stats().Processed })
	s.watch("what Stats says was delivered", 1, func() checkpoint.Position { return s.Stats().Delivered })
	s.during(func() { s.Tick(); s.Position() })
	s.during(s.standIn)
	s.during(s.resume)
	received := make(chan struct{})
	go func() { // ends with the stream
		defer close(received)
		s.receive()
		s.over.Store(true)
	}()
	ended := make(chan struct{})
	go func() { defer close(ended); <-received; s.folds.Wait() }() // ends with all of them
	limit := time.NewTimer(2 * time.Minute)
	defer limit.Stop()
	select {
	case <-ended:
	case <-limit.C:
		s.over.Store(true)
		s.Leave()
		s.Abandon(errClosed)
		require.FailNow(t, "waited 2 minutes for the messages", "the application has %d of %d", s.seen.Load(), s.size)
	}
	if failed := s.failed.Load(); failed != nil {
		require.Fail(t, *failed)
	}
	require.Greater(t, s.laned.Load(), s.size/100, "messages that took the lane: or this tests something else")
	require.Greater(t, s.looks.Load(), s.size/100, "calls that shut the lane: or this tests something else")
	t.Logf("%d of %d messages took the lane, which was shut %d times", s.laned.Load(), s.size, s.looks.Load())
	c := s.Stats()
	require.Equal(t, []uint64{s.size, s.size, 0}, []uint64{c.Received, c.Deliveries, c.Duplicates}, "received, delivered, dropped")
	if s.positions {
		require.Equal(t, s.size, c.Delivered.Seq, "the position of what was handed over")
		if !s.manual {
			require.Equal(t, s.size, c.Processed.Seq, "the position of what was processed, after Begin has told of the end")
		}
	}
	switch {
	case s.manual:
		require.Zero(t, s.counted.Load(), "processed messages that were counted, though the application says what is processed")
	case !s.processing:
		require.Equal(t, s.size, s.counted.Load(), "processed messages that were counted")
	}
}

// The fast lane is open when nothing else goes on, and only then: or everything here tests something else.
func TestWhenTheFastLaneIsOpen(t *testing.T) {
	t.Parallel()
	at := func(seq uint64) *Arrival[int] { return next(seq) }
	plainly := func(uint64) *Arrival[int] { return &Arrival[int]{Message: number(1)} }
	for _, c := range []struct {
		name   string
		config Config
		in     func(seq uint64) *Arrival[int]
		then   func(b *Inbox[int, int])
		open   bool
	}{
		{"messages with positions", Config{}, at, nil, true},
		{"messages without", Config{}, plainly, nil, true},
		{"with gap detection", Config{NoGaps: true}, at, nil, true},
		{"held back, with positions", Config{Hold: true, HoldLimit: 1000}, at, nil, true},
		{"after somebody has looked", Config{}, at, func(b *Inbox[int, int]) { b.Stats(); b.Tick(); b.ProcessAll() }, true},
		{"while the application receives", Config{}, at, func(b *Inbox[int, int]) { _, _, _ = b.Begin(); b.Tick() }, false},
		{"while another does", Config{}, at, func(b *Inbox[int, int]) { b.Claim(1, false) }, false},
		{"while something is ready", Config{}, at, func(b *Inbox[int, int]) { b.Arrived(1, next(8), true) }, false},
		{"after that was taken", Config{}, at, func(b *Inbox[int, int]) { b.Arrived(1, next(8), true); _, _, _ = b.Begin() }, true},
		{
			"while something is held",
			Config{Hold: true, HoldLimit: 1000},
			at,
			func(b *Inbox[int, int]) { b.Arrived(1, &Arrival[int]{Message: number(1)}, false) }, false,
		},
		{"after a bookmark", Config{}, at, func(b *Inbox[int, int]) { b.Arrived(1, &Arrival[int]{HasPosition: true, Control: true}, false) }, false},
		{"after a position without a number", Config{}, func(uint64) *Arrival[int] {
			return &Arrival[int]{Message: number(1), HasPosition: true, Position: checkpoint.Position{Token: "t"}}
		}, nil, false},
		{"without an attempt", Config{}, at, func(b *Inbox[int, int]) { b.Detach(false) }, false},
		{"on a new attempt", Config{}, at, func(b *Inbox[int, int]) { b.Attach(2) }, false},
		{"on an attempt that has failed", Config{}, at, func(b *Inbox[int, int]) { b.Refuse(1, false) }, false},
		{"after the end", Config{}, at, func(b *Inbox[int, int]) { b.Abandon(errClosed) }, false},
		{"from a new position", Config{}, at, func(b *Inbox[int, int]) { b.Begins(checkpoint.Position{Seq: 1}) }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := New[int, int](c.config)
			b.StartsFrom(checkpoint.Position{})
			b.Attach(1)
			for seq := range uint64(3) {
				_, _, _ = b.Begin()
				b.Arrived(1, c.in(seq+1), false)
			}
			if c.then != nil {
				c.then(b)
			}
			seq := b.Position().Seq + 1
			require.Equal(t, c.open, b.lane.word.Load()&open != 0, "whether the lane is open")
			a, fast := b.beginFast()
			require.Equal(t, c.open, fast, "whether Begin takes the lane")
			if c.open {
				require.Equal(t, 1, a, "the attempt to receive from")
				require.True(t, b.arriveFast(c.in(seq)), "Arrived of the next message does not take the lane")
			}
		})
	}
}

// The lane is not the way of a message that is not plainly next.
func TestWhatTheFastLaneRefuses(t *testing.T) {
	t.Parallel()
	at := func(p checkpoint.Position) *Arrival[int] {
		return &Arrival[int]{Message: number(1), HasPosition: true, Position: p}
	}
	for name, in := range map[string]*Arrival[int]{ // after number 3
		"no position":        {Message: number(1)},
		"a position alone":   {HasPosition: true, Position: checkpoint.Position{Seq: 4}},
		"a bookmark":         {Message: number(1), Control: true, HasPosition: true, Position: checkpoint.Position{Seq: 4}},
		"a repeated number":  at(checkpoint.Position{Seq: 3}),
		"a lower one":        at(checkpoint.Position{Seq: 1}),
		"no number":          at(checkpoint.Position{Token: "t"}),
		"a gap":              at(checkpoint.Position{Seq: 5}),
		"another lineage":    at(checkpoint.Position{Seq: 4, Lineage: "l"}),
		"the highest number": at(checkpoint.Position{Seq: 1<<64 - 1}),
	} {
		for _, first := range []uint64{3, 2, 1} { // so many messages have taken the lane before
			t.Run(fmt.Sprintf("%s, %d", name, 3-first), func(t *testing.T) {
				t.Parallel()
				b := New[int, int](Config{NoGaps: in.Position.Seq == 5})
				b.StartsFrom(checkpoint.Position{Seq: first - 1})
				b.Attach(1)
				_, _, _ = b.Begin()
				b.Arrived(1, next(first), false)
				for seq := first + 1; seq <= 3; seq++ {
					_, fast := b.beginFast()
					require.True(t, fast && b.arriveFast(next(seq)), "number %d does not take the lane", seq)
				}
				_, fast := b.beginFast()
				require.True(t, fast, "Begin does not take the lane")
				require.False(t, b.arriveFast(in), "it takes the lane")
			})
		}
	}
	b := New[int, int](Config{})
	b.Attach(1)
	_, _, _ = b.Begin()
	b.Arrived(1, next(1<<64-3), false)
	for seq := uint64(1<<64 - 2); seq != 0; seq++ {
		_, fast := b.beginFast()
		require.True(t, fast, "Begin does not take the lane")
		require.Equal(t, seq != 1<<64-1, b.arriveFast(next(seq)), "whether number %d takes the lane: none follows the highest", seq)
	}
	n := 0
	b = New[int, int](Config{Counted: func() { n++ }})
	b.Attach(1)
	for seq := range uint64(3) {
		_, _, _ = b.Begin()
		b.Arrived(1, next(seq+1), false)
	}
	require.Equal(t, 2, n, "messages that were counted as processed, when the third one is in the application's hands")
}

// While somebody waits the lane stays shut: who waits looks at the fields when it is woken, and not at the lane (invariant 12).
func TestTheFastLaneIsShutWhileSomebodyWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := New[int, int](Config{})
		b.Attach(1)
		go b.AwaitAfter(1) // ends with the end
		synctest.Wait()
		for seq := range uint64(3) {
			_, _, _ = b.Begin()
			b.Arrived(1, next(seq+1), false)
			require.Zero(t, b.lane.word.Load()&open, "whether the lane is open while somebody waits for the next attempt")
		}
		b.End(errEnd, false)
	})
}

// The fields are what they would be without the lane.
func TestWhatAFoldLeaves(t *testing.T) {
	t.Parallel()
	b := New[int, int](Config{Manual: true})
	b.Attach(1)
	for seq := range uint64(3) {
		_, _, _ = b.Begin()
		b.Arrived(1, next(seq+1), false)
		shut(b)
		require.True(t, b.handedOver, "whether a message was handed over since something was processed")
		b.ProcessAll()
		shut(b)
		require.False(t, b.handedOver, "whether a message was handed over since something was processed")
		b.Tick()
	}
}
