package stream_test

import (
	"io"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Waits that end. A test that hangs when its rule breaks tells nobody what has broken.

// patience is how long a test waits for something that takes no time, or little. In a bubble that costs nothing.
func patience() time.Duration {
	if inBubble() {
		return time.Hour
	}
	return time.Minute
}

// inBubble reports whether the clock is a bubble's: that begins in 2000.
func inBubble() bool { return time.Now().Year() == 2000 }

// within waits for what ch brings, and ends the test if that takes too long; what says what the test waits for.
func within[T any](t *testing.T, ch <-chan T, what string) T {
	t.Helper()
	timer := time.NewTimer(patience())
	defer timer.Stop()
	select {
	case got := <-ch:
		return got
	case <-timer.C:
		require.FailNow(t, "waited in vain", "%s: not within %v", what, patience())
		var none T
		return none
	}
}

// async calls f in a goroutine of its own, and returns where its result arrives. The goroutine ends with f.
func async[T any](f func() T) <-chan T {
	result := make(chan T, 1)
	go func() { result <- f() }()
	return result
}

// mustClose sees that Close returns, and nil.
func mustClose(t *testing.T, s io.Closer, about string) {
	t.Helper()
	require.NoError(t, within(t, async(s.Close), "Close, "+about), "Close, %s", about)
}

// closeAtTheEnd closes s with the test, and sees that Close returns, whatever that is.
func closeAtTheEnd(t *testing.T, s *client) {
	t.Helper()
	t.Cleanup(func() {
		timer := time.NewTimer(patience())
		defer timer.Stop()
		select {
		case <-async(s.Close):
		case <-timer.C:
			t.Errorf("Close at the end of the test has not returned within %v", patience())
		}
	})
}

// gate is a place in the code of the application. The first to enter it stays until it is opened.
type gate struct {
	enters, opens sync.Once
	entered       chan struct{} // closed when somebody stands in it
	opened        chan struct{} // closed to let that one go on
	leave         func()        // what that one does then; may be nil
}

func newGate() *gate {
	return &gate{entered: make(chan struct{}), opened: make(chan struct{})}
}

func (g *gate) enter() {
	g.enters.Do(func() {
		close(g.entered)
		<-g.opened
		if g.leave != nil {
			g.leave()
		}
	})
}

func (g *gate) open() { g.opens.Do(func() { close(g.opened) }) }

// when is a handler that waits for ch, and then does what the other does.
func when(ch <-chan struct{}, handler func(bidi) error) func(bidi) error {
	return func(s bidi) error {
		select {
		case <-ch:
			return handler(s)
		case <-s.Context().Done():
			return s.Context().Err()
		}
	}
}
