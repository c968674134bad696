package outbox

import (
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// paused returns an outbox with replay, one message sent and not acknowledged, which is paused.
func paused(t *testing.T, config Config) *scene {
	t.Helper()
	s := &scene{Outbox: New[int](config)}
	require.False(t, s.Attach(1, true))
	s.send()
	s.encode()
	s.settle(OK)
	s.Pause()
	return s
}

var keeps = Config{Replay: true, Messages: 10, Bytes: 1000}

// No new message starts on the old attempt, and what was sent is acknowledged all the same.
func TestAPausedOutboxTakesAcknowledgementsOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := paused(t, keeps)
		_, v := s.Begin(&message{}, 0, false)
		require.Equal(t, NotYet, v)
		got := make(chan string, 1)
		go func() { got <- beginning(s) }() // ends below
		synctest.Wait()
		require.True(t, s.Acknowledge(1))
		require.Zero(t, s.Stats().Unacked)
		synctest.Wait()
		require.Empty(t, got, "Begin waits")
		require.False(t, s.Unpause(1, true))
		require.Equal(t, "attempt 1", <-got)
	})
}

func TestAPausedOutboxDoesNotGoOnWithADeadAttempt(t *testing.T) {
	t.Parallel()
	s := paused(t, keeps)
	require.False(t, s.Unpause(1, false))
	_, v := s.Begin(&message{}, 0, false)
	require.Equal(t, NotYet, v)
}

// Invariant 15: the half-close that was asked for meanwhile is sent, by whoever takes over or goes on, after what is on its way.
func TestTheHalfCloseOfAPausedOutboxIsNotForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &scene{Outbox: New[int](keeps)}
		s.Attach(1, true)
		s.send()
		s.Pause()
		_, now := s.CloseSend()
		require.False(t, now, "it is remembered")
		half := make(chan bool, 1)
		go func() { half <- s.Unpause(1, true) }() // ends below
		synctest.Wait()
		require.Empty(t, half, "a message is on its way")
		s.encode()
		s.settle(OK)
		require.True(t, <-half)
		s.HalfClosed(1)
		require.False(t, s.Unpause(1, true))
	})
}

func TestAwaitQuiet(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		acked  bool
		before func(s *scene)
		do     func(s *scene)
	}{
		"acknowledged":         {acked: true, before: (*scene).encode, do: func(s *scene) { s.settle(OK); s.Acknowledge(1) }},
		"nothing on its way":   {do: func(s *scene) { s.settle(OK) }, before: (*scene).encode},
		"it is over":           {acked: true, do: nil},
		"the stream has ended": {acked: true, do: func(s *scene) { s.End(errEnd) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var over atomic.Bool
				s := &scene{Outbox: New[int](keeps)}
				s.Attach(1, true)
				s.send()
				if c.before != nil {
					c.before(s)
				}
				require.True(t, s.SentOnAttempt())
				done := make(chan struct{})
				go func() { // ends below
					defer close(done)
					s.AwaitQuiet(c.acked, over.Load)
				}()
				synctest.Wait()
				select {
				case <-done:
					require.Fail(t, "AwaitQuiet has not waited")
				default:
				}
				if c.do != nil {
					c.do(s)
				} else {
					over.Store(true)
					s.Wake()
				}
				<-done
			})
		})
	}
	t.Run("what an earlier attempt has sent is not waited for", func(t *testing.T) {
		t.Parallel()
		s := paused(t, Config{})
		s.Detach()
		s.Attach(2, true)
		require.False(t, s.SentOnAttempt())
		s.AwaitQuiet(true, func() bool { require.Fail(t, "it waits"); return true })
	})
}
