package ready_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/internal/ready"
)

// conn is a client connection whose state a test sets.
type conn struct {
	mu      sync.Mutex // guards the fields below
	state   connectivity.State
	cause   string
	calls   int
	changed chan struct{}
}

func newConn(state connectivity.State) *conn {
	return &conn{state: state, changed: make(chan struct{})}
}

func (c *conn) becomes(state connectivity.State, cause string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state, c.cause = state, cause
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *conn) GetState() connectivity.State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

func (c *conn) WaitForStateChange(ctx context.Context, from connectivity.State) bool {
	c.mu.Lock()
	changed, now := c.changed, c.state
	c.mu.Unlock()
	if now != from {
		return true
	}
	select {
	case <-changed:
		return true
	case <-ctx.Done():
		return false
	}
}

// Connect is what a call does, too, when it comes to the connection.
func (c *conn) Connect() {
	if c.GetState() == connectivity.Idle {
		c.becomes(connectivity.Connecting, "connecting")
	}
}

func (c *conn) Target() string { return "dns:///feed.example" }

// call is a call of grpc's on the connection.
func (c *conn) call(wait bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls++
	if c.state == connectivity.Ready {
		return nil
	}
	if wait {
		return errors.New("a call waits, and the connection is not ready")
	}
	return status.Error(codes.Unavailable, c.cause)
}

func (c *conn) called() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls
}

// visitor is one whose stream is opened on c.
func visitor(c *conn, again bool) ready.Visitor {
	return ready.Visitor{Again: again, Waits: func(bool) {}, News: func(error) {}, Call: c.call}
}

// All who wait are told what the connection waits for, once for each change, though only one asks.
func TestNewsOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const visitors = 100
		c, g := newConn(connectivity.TransientFailure), ready.NewGate[*conn]()
		c.becomes(connectivity.TransientFailure, "read tcp 127.0.0.1:40001->127.0.0.1:443: connection reset by peer")
		var mu sync.Mutex
		told := map[int][]string{}
		opened := make(chan error, visitors)
		for i := range visitors {
			v := visitor(c, true)
			v.News = func(cause error) {
				mu.Lock()
				defer mu.Unlock()
				told[i] = append(told[i], cause.Error())
			}
			go func() { opened <- g.Open(t.Context(), c, v) }() // ends when the connection is ready
		}
		for port := range 60 { // each dial fails from a port of its own
			time.Sleep(time.Second)
			c.becomes(connectivity.TransientFailure, fmt.Sprintf("read tcp 127.0.0.1:%d->127.0.0.1:443: connection reset by peer", 40_002+port))
		}
		require.LessOrEqual(t, c.called(), 62, "one asks for all, once a second")
		c.becomes(connectivity.TransientFailure, "connection refused")
		time.Sleep(2 * time.Second)
		c.becomes(connectivity.Ready, "")
		for range visitors {
			require.NoError(t, <-opened)
		}
		for i := range visitors {
			require.Equal(t, []string{
				"no connection to dns:///feed.example: read tcp 127.0.0.1:40001->127.0.0.1:443: connection reset by peer",
				"no connection to dns:///feed.example: connection refused",
			}, told[i])
		}
	})
}

// The end of a wait tells what the wait was for, in the words that grpc uses.
func TestAWaitThatIsCutShort(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, g := newConn(connectivity.TransientFailure), ready.NewGate[*conn]()
		c.becomes(connectivity.TransientFailure, "connection refused")
		ended := make(chan error, 2)
		for range cap(ended) { // the leader, and another one
			ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
			defer cancel()
			go func() { ended <- g.Open(ctx, c, visitor(c, false)) }() // ends with ctx
		}
		for range cap(ended) {
			err := <-ended
			require.Equal(t, codes.DeadlineExceeded, status.Code(err))
			require.ErrorContains(t, err, "latest balancer error: no connection to dns:///feed.example: connection refused")
		}
	})
}

// The leader may hang in an interceptor, before its call comes to the connection. That keeps nobody else waiting: an idle connection
// is told to connect, and those who wait go on when it is ready (invariant 9).
func TestALeaderThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, g := newConn(connectivity.Idle), ready.NewGate[*conn]()
		release := make(chan struct{})
		hanging, opened := make(chan error, 1), make(chan error, 10)
		v := visitor(c, true)
		v.Call = func(bool) error { <-release; return nil }
		go func() { hanging <- g.Open(t.Context(), c, v) }() // ends when it is released
		time.Sleep(time.Second)
		for range cap(opened) {
			go func() { opened <- g.Open(t.Context(), c, visitor(c, true)) }() // ends when the connection is ready
		}
		for range 2 { // the connection may be lost again, too
			time.Sleep(time.Second)
			require.Equal(t, connectivity.Connecting, c.GetState())
			c.becomes(connectivity.Idle, "")
		}
		time.Sleep(time.Second)
		c.becomes(connectivity.Ready, "")
		time.Sleep(time.Second)
		require.Len(t, opened, cap(opened))
		require.Empty(t, hanging)
		close(release)
		require.NoError(t, <-hanging)
	})
}

// A call that fails for another reason is no wait, and a connection that is closed is nobody's to wait for.
func TestOtherErrorsAreReturned(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, g := newConn(connectivity.TransientFailure), ready.NewGate[*conn]()
		v := visitor(c, false)
		v.Call = func(bool) error { return status.Error(codes.PermissionDenied, "no") }
		require.Equal(t, codes.PermissionDenied, status.Code(g.Open(t.Context(), c, v)))
		c.becomes(connectivity.TransientFailure, "connection refused")
		ended := make(chan error, 10)
		for range cap(ended) {
			go func() { ended <- g.Open(t.Context(), c, visitor(c, true)) }() // ends when the connection is closed
		}
		time.Sleep(time.Minute)
		c.becomes(connectivity.Shutdown, "")
		for range cap(ended) {
			require.Error(t, <-ended)
		}
	})
}

// Those who come back pass at a pace; those who come for the first time, and find a connection, do not wait.
func TestThePace(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		again bool
		state connectivity.State
		least time.Duration
	}{
		"first, ready":         {false, connectivity.Ready, 0},
		"first, not ready":     {false, connectivity.Connecting, 495 * time.Millisecond},
		"again, ready":         {true, connectivity.Ready, 495 * time.Millisecond},
		"again, was not ready": {true, connectivity.TransientFailure, 495 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const visitors = 1000
				c, g := newConn(test.state), ready.NewGate[*conn]()
				passed := make(chan time.Time, visitors)
				left, leave := context.WithCancel(t.Context())
				for i := range 2 * visitors {
					v := visitor(c, test.again)
					v.Call = func(wait bool) error {
						if err := c.call(wait); err != nil {
							return err
						}
						passed <- time.Now()
						return nil
					}
					ctx := t.Context()
					if i%2 == 1 { // half of them leave, and nobody waits for their turn
						if ctx = left; test.state == connectivity.Ready {
							continue
						}
					}
					go func() { _ = g.Open(ctx, c, v) }() // ends when the connection is ready, or with ctx
				}
				time.Sleep(3 * time.Second)
				leave()
				synctest.Wait()
				began := time.Now()
				if test.state == connectivity.Ready {
					began = began.Add(-3 * time.Second)
				}
				c.becomes(connectivity.Ready, "")
				windows := map[time.Duration]int{}
				var last time.Duration
				for range visitors {
					last = (<-passed).Sub(began)
					windows[last.Truncate(10*time.Millisecond)]++
				}
				require.GreaterOrEqual(t, last, test.least)
				require.LessOrEqual(t, last, 600*time.Millisecond)
				if test.least > 0 {
					for window, n := range windows {
						require.LessOrEqual(t, n, 23, "in 10 ms from %v", window)
					}
				}
			})
		})
	}
}

// A visitor waits from its coming to its call, and not in it.
func TestWaitsIsTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, g := newConn(connectivity.TransientFailure), ready.NewGate[*conn]()
		c.becomes(connectivity.TransientFailure, "connection refused")
		for range 2 {
			var told []bool
			v := visitor(c, false)
			v.Waits = func(waits bool) { told = append(told, waits) }
			opened := make(chan error, 1)
			go func() { opened <- g.Open(t.Context(), c, v) }() // ends when the connection is ready
			time.Sleep(time.Minute)
			c.becomes(connectivity.Ready, "")
			require.NoError(t, <-opened)
			require.Equal(t, []bool{true, false}, told)
			c.becomes(connectivity.TransientFailure, "connection refused")
		}
		time.Sleep(time.Second) // the pacer comes to rest, and the last one who watches the connection ends
	})
}
