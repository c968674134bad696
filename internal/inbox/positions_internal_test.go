package inbox

import (
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/checkpoint"
)

// What may wait for an application that does not receive has a bound, in messages and in bytes (invariants 8 and 40). What
// Begin takes makes room again.
func TestWhatMayWait(t *testing.T) {
	t.Parallel()
	fill := func(b *Inbox[int, int], size int) (n int) {
		b.Attach(1)
		for ; b.Claim(1, false); n++ {
			in := next(b.Position().Seq + 1)
			in.Size = size
			b.Arrived(1, in, true)
		}
		return n
	}
	require.Equal(t, 65_536, fill(New[int, int](Config{}), 0), "empty messages that may wait")
	require.Equal(t, 16, fill(New[int, int](Config{}), 1<<20), "messages of 1 MiB that may wait")
	b := New[int, int](Config{MaxReady: 4, MaxReadySize: 1000})
	require.Equal(t, 4, fill(b, 1), "small messages that may wait")
	require.Zero(t, fill(b, 1), "further ones")
	_, _, _ = b.Begin()
	require.Equal(t, 1, fill(b, 1), "further ones, after one was handed over")
	b = New[int, int](Config{MaxReady: 9, MaxReadySize: 1000})
	require.Equal(t, 2, fill(b, 500), "large messages that may wait")
	_, _, _ = b.Begin()
	require.Equal(t, 1, fill(b, 500), "further ones, after one was handed over")
}

// The time of the last message is known from the first call of Stats on, with the fast lane and without.
func TestWhenTheLastMessageCame(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := New[int, int](Config{})
		b.Attach(1)
		seq := uint64(0)
		receive := func() time.Time {
			time.Sleep(time.Second)
			if m, _, _ := b.Begin(); m != nil {
				return time.Time{}
			}
			seq++
			b.Arrived(1, next(seq), false)
			return time.Now()
		}
		receive()
		require.Zero(t, b.Stats().LastMessage, "nobody wanted to know")
		for range 3 {
			at := receive()
			require.Equal(t, at, b.Stats().LastMessage, "when the last message came")
		}
		b.Claim(1, false) // not by the lane
		time.Sleep(time.Second)
		seq++
		b.Arrived(1, next(seq), true)
		require.Equal(t, time.Now(), b.Stats().LastMessage, "when the last message came, for which another has received")
		receive()
		receive()
		receive()
		at := receive()
		_, fast := b.beginFast()
		require.True(t, fast, "Begin does not take the lane")
		require.Equal(t, at, b.Stats().LastMessage, "when the last message came")
	})
}

// After the end a new position is where the stream stands, and nothing of what came before it is handed over, or processed.
func TestANewPositionAfterTheEnd(t *testing.T) {
	t.Parallel()
	b := New[int, int](Config{})
	b.Attach(1)
	b.Arrived(1, next(1), true)
	b.Abandon(errClosed)
	b.Begins(checkpoint.Position{Lineage: "new"})
	c := b.Stats()
	require.Equal(t, Counts{Received: 1}, c, "nothing waits, nothing was handed over, nothing is processed")
	require.Equal(t, checkpoint.Position{Lineage: "new"}, b.Position(), "where the stream stands")
}

// A gap is the same one as on the attempt before, if nothing came between: then the stream ends. A bookmark where the stream
// stands says nothing of what follows.
func TestTheSameGapAgain(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		between []*Arrival[int]
		anew    bool
		again   bool
	}{
		"nothing came between":       {nil, false, true},
		"the bookmark came again":    {[]*Arrival[int]{{Control: true, HasPosition: true, Position: checkpoint.Position{Seq: 3}}}, false, true},
		"a message without position": {[]*Arrival[int]{{Message: number(1)}}, false, true},
		"the next message":           {[]*Arrival[int]{next(4)}, false, false},
		"messages by the fast lane":  {[]*Arrival[int]{next(4), next(5), next(6)}, false, false},
		"a later bookmark":           {[]*Arrival[int]{{Control: true, HasPosition: true, Position: checkpoint.Position{Seq: 9}}}, false, false},
		"the stream began anew":      {nil, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := New[int, int](Config{NoGaps: true})
			b.StartsFrom(checkpoint.Position{Seq: 3})
			skip := func(a int) *Report {
				b.Attach(a)
				_, _, _ = b.Begin()
				_, r := b.Arrived(a, next(b.Position().Seq+5), false)
				require.NotNil(t, r, "the report of a gap")
				require.Equal(t, Gap, r.Kind)
				return r
			}
			require.False(t, skip(1).Again, "whether the first gap was there before")
			b.Settle(1, true)
			if c.anew {
				b.Detach(false)
				b.Begins(checkpoint.Position{Seq: 3})
			}
			b.Attach(2)
			for _, in := range c.between {
				_, _, _ = b.Begin()
				b.Arrived(2, in, false)
			}
			require.Equal(t, c.again, skip(3).Again, "whether the gap is the same one")
		})
	}
}

// A heartbeat with an old number tells that what is held comes again: it is no message of the application's itself.
func TestAnOldBookmarkDropsWhatIsHeld(t *testing.T) {
	t.Parallel()
	b := New[int, int](Config{Hold: true, HoldLimit: 1000})
	b.StartsFrom(checkpoint.Position{Seq: 3})
	b.Arrived(1, &Arrival[int]{Message: number(1)}, true)
	b.Arrived(1, &Arrival[int]{Message: number(2)}, true)
	_, r := b.Arrived(1, &Arrival[int]{Control: true, HasPosition: true, Position: checkpoint.Position{Seq: 2}}, true)
	require.NotNil(t, r, "the report")
	require.Equal(t, Report{Kind: Repeated, Count: 2, Have: checkpoint.Position{Seq: 3}, Got: checkpoint.Position{Seq: 2}}, *r)
	require.Equal(t, Counts{
		Received: 3, Duplicates: 2, Delivered: checkpoint.Position{Seq: 3}, Processed: checkpoint.Position{Seq: 3},
	}, b.Stats(), "what is left")
}

// Close before the application has come to the end makes Begin return that it was closed. After that the end stays what it was.
func TestCloseAndTheEnd(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		before func(b *Inbox[int, int])
		want   error
	}{
		"while the stream goes on":     {func(*Inbox[int, int]) {}, errClosed},
		"while the last message waits": {func(b *Inbox[int, int]) { b.Arrived(1, next(1), true); b.End(errEnd, false) }, errClosed},
		"after the end":                {func(b *Inbox[int, int]) { b.End(errEnd, false) }, errEnd},
		"after an abrupt end":          {func(b *Inbox[int, int]) { b.Arrived(1, next(1), true); b.End(errEnd, true) }, errEnd},
		"twice":                        {func(b *Inbox[int, int]) { b.Abandon(errEnd); b.End(errClosed, false) }, errEnd},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := New[int, int](Config{})
			b.Attach(1)
			c.before(b)
			b.Abandon(errClosed)
			for range 2 {
				m, a, err := b.Begin()
				require.Nil(t, m, "a message after Close")
				require.Zero(t, a, "an attempt to receive from, after Close")
				require.Equal(t, c.want, err, "what Begin returns after Close")
			}
			require.Zero(t, b.Stats().Ready, "messages that wait")
			require.Zero(t, b.readySize, "their size (invariant 40)")
		})
	}
}

// What an anchor is to a stream: one without a place in a history takes it as its own (invariant 1), for another one it is where
// it stands or before, or the position is lost (invariant 17).
func TestAnchors(t *testing.T) {
	t.Parallel()
	at := func(lineage string, seq uint64, token string) checkpoint.Position {
		return checkpoint.Position{Lineage: lineage, Seq: seq, Token: token}
	}
	for name, c := range map[string]struct {
		start   checkpoint.Position
		anchors []checkpoint.Position
		want    Anchored
		stands  checkpoint.Position
	}{
		"a stream without a position":         {at("", 0, ""), []checkpoint.Position{at("l", 5, "t")}, Fits, at("l", 5, "t")},
		"a lineage is no place in it":         {at("l", 0, ""), []checkpoint.Position{at("l", 5, "")}, Fits, at("l", 5, "")},
		"another lineage":                     {at("l", 0, ""), []checkpoint.Position{at("m", 5, "")}, Replaced, at("l", 0, "")},
		"before":                              {at("l", 5, ""), []checkpoint.Position{at("l", 4, "")}, Fits, at("l", 5, "")},
		"where the stream stands":             {at("l", 5, ""), []checkpoint.Position{at("l", 5, "t")}, Fits, at("l", 5, "")},
		"past it":                             {at("l", 5, ""), []checkpoint.Position{at("l", 6, "")}, Past, at("l", 5, "")},
		"no number follows":                   {at("", 0, ""), []checkpoint.Position{at("l", math.MaxUint64, "")}, Last, at("", 0, "")},
		"no number follows, further on":       {at("l", 5, ""), []checkpoint.Position{at("l", math.MaxUint64, "")}, Last, at("l", 5, "")},
		"tokens are compared with nothing":    {at("l", 0, "t"), []checkpoint.Position{at("l", 6, "")}, Fits, at("l", 0, "t")},
		"the beginning is a place":            {at("", 0, ""), []checkpoint.Position{at("", 0, ""), at("", 1, "")}, Past, at("", 0, "")},
		"the beginning of a lineage, too":     {at("", 0, ""), []checkpoint.Position{at("l", 0, ""), at("l", 1, "")}, Past, at("l", 0, "")},
		"the beginning once more":             {at("", 0, ""), []checkpoint.Position{at("", 0, ""), at("", 0, "")}, Fits, at("", 0, "")},
		"a token is a place, but no number":   {at("", 0, ""), []checkpoint.Position{at("", 0, "t"), at("", 9, "")}, Fits, at("", 0, "t")},
		"an anchor with a number is a place":  {at("", 0, ""), []checkpoint.Position{at("", 3, ""), at("", 9, "")}, Past, at("", 3, "")},
		"the zero anchor to one with a place": {at("", 5, ""), []checkpoint.Position{at("", 0, "")}, Fits, at("", 5, "")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := New[int, int](Config{})
			b.StartsFrom(c.start)
			var got Anchored
			for _, p := range c.anchors {
				before := b.Position()
				is, have := b.Anchor(p)
				require.Equal(t, before, have, "the position that the anchor is compared with")
				got = is
			}
			require.Equal(t, c.want, got, "what the anchor is to the stream")
			require.Equal(t, c.stands, b.Position(), "where the stream stands")
		})
	}
}

// Messages that came before a new position are not what may come again after it.
func TestANewPositionCoversWhatCame(t *testing.T) {
	t.Parallel()
	b := New[int, int](Config{})
	b.Arrived(1, &Arrival[int]{Message: number(1)}, true)
	b.Begins(checkpoint.Position{Seq: 1})
	require.Equal(t, Standing{Position: checkpoint.Position{Seq: 1}, Accepted: 1}, b.Detach(false), "where the stream stands")
}

// A stream that begins anew does not know that its history begins with number 1, though the one before did.
func TestANewBeginningIsNotThatOfTheHistory(t *testing.T) {
	t.Parallel()
	b := New[int, int](Config{NoGaps: true})
	b.Anchor(checkpoint.Position{})
	require.Equal(t, Gap, b.kindOf(next(2)), "the kind of number 2, at the beginning of a history")
	b.Begins(checkpoint.Position{})
	require.Equal(t, Next, b.kindOf(next(2)), "the kind of number 2, after the stream began anew")
}
