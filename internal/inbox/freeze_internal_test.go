package inbox

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// flowing returns an inbox whose fast lane is open: messages 1 to n have come from attempt 1.
func flowing(t *testing.T, n uint64) *Inbox[int, int] {
	t.Helper()
	b := New[int, int](Config{})
	b.Attach(1)
	for seq := uint64(1); seq <= n; seq++ {
		mustBegin(t, b)
		mine, r := b.Arrived(1, next(seq), false)
		require.True(t, mine && r == nil, "message %d", seq)
	}
	return b
}

func mustBegin(t *testing.T, b *Inbox[int, int]) {
	t.Helper()
	require.Equal(t, "attempt 1", beginning(b))
}

// Invariant 12: what comes after a freeze does not move the position, whoever receives it, on whatever lane.
func TestAFrozenInboxStandsStill(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"the next attempt takes over", "the old one goes on"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := flowing(t, 3)
				mustBegin(t, b) // on its way when the inbox freezes
				at, frozen := b.Freeze(false)
				require.True(t, frozen, "message 3 has a position")
				require.Equal(t, uint64(3), at.Position.Seq)
				mine, r := b.Arrived(1, next(4), false)
				require.False(t, mine, "it is set aside")
				require.Nil(t, r)
				require.Equal(t, uint64(3), b.Position().Seq, "where the next attempt starts")
				require.False(t, b.Claim(1, false), "nobody receives")
				require.False(t, b.Claim(1, true), "nobody receives, who finds out the cause neither")
				got := make(chan string, 1)
				go func() { got <- beginning(b) }() // ends below
				synctest.Wait()
				require.Empty(t, got, "Begin waits")
				if how == "the old one goes on" {
					in := b.Thaw()
					require.NotNil(t, in)
					synctest.Wait()
					require.Empty(t, got, "what was set aside comes first")
					_, r = b.Arrived(1, in, true)
					require.Nil(t, r)
					require.Equal(t, "message 4", <-got)
					require.Equal(t, uint64(4), b.Position().Seq)
					mustBegin(t, b)
					return
				}
				require.Equal(t, uint64(3), b.Detach(false).Position.Seq)
				b.Attach(2)
				require.Equal(t, "attempt 2", <-got)
				mine, _ = b.Arrived(2, next(4), false)
				require.True(t, mine, "it comes again, and is no repeated one")
				st := b.Stats()
				require.Equal(t, []uint64{5, 4, 0}, []uint64{st.Received, st.Deliveries, st.Duplicates}, "received, delivered, repeated")
			})
		})
	}
}

// A unit is not cut: the inbox freezes after a message with a position.
func TestAnInboxFreezesBetweenUnits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := flowing(t, 2)
		mustBegin(t, b)
		b.Arrived(1, &Arrival[int]{Message: number(0)}, false)
		at, frozen := b.Freeze(false)
		require.False(t, frozen, "in the middle of a unit")
		require.Equal(t, uint64(1), at.Uncovered)
		done := make(chan struct{})
		go func() { // ends when the inbox is frozen
			defer close(done)
			b.AwaitFrozen(func() bool { return false })
		}()
		mustBegin(t, b)
		b.Arrived(1, &Arrival[int]{Message: number(0)}, false)
		synctest.Wait()
		select {
		case <-done:
			require.Fail(t, "frozen in the middle of a unit")
		default:
		}
		mustBegin(t, b)
		mine, _ := b.Arrived(1, next(3), false)
		require.True(t, mine)
		<-done
		got := make(chan string, 1)
		go func() { got <- beginning(b) }() // ends below
		synctest.Wait()
		require.Empty(t, got, "nothing more is received")
		at, _ = b.Freeze(true)
		require.Zero(t, at.Uncovered)
		b.Abandon(errEnd)
		require.Equal(t, errEnd.Error(), <-got)
	})
}

func TestWhoWaitsForAFreezeIsNotForgotten(t *testing.T) {
	t.Parallel()
	for name, ends := range map[string]func(b *Inbox[int, int], over *bool){
		"the stream leaves": func(b *Inbox[int, int], _ *bool) { b.Leave() },
		"the stream ends":   func(b *Inbox[int, int], _ *bool) { b.End(errEnd, false) },
		"it is over":        func(b *Inbox[int, int], over *bool) { *over = true; b.Wake() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := New[int, int](Config{})
				over := false
				done := make(chan struct{})
				go func() { // ends below
					defer close(done)
					b.AwaitFrozen(func() bool { return over })
				}()
				synctest.Wait()
				ends(b, &over)
				<-done
			})
		})
	}
}

// Without a message in hand there is nothing to take in, and the lane opens again.
func TestAThawnInboxFlows(t *testing.T) {
	t.Parallel()
	b := flowing(t, 2)
	_, frozen := b.Freeze(false)
	require.True(t, frozen)
	require.Nil(t, b.Thaw())
	require.NotZero(t, b.lane.word.Load()&open, "the lane is open")
	mustBegin(t, b)
	mine, _ := b.Arrived(1, next(3), false)
	require.True(t, mine)
}
