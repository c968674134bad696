package ready

import (
	"context"
	"fmt"
	"regexp"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"
)

// Conn is the part of a *grpc.ClientConn that a Gate needs.
type Conn interface {
	comparable
	GetState() connectivity.State
	WaitForStateChange(ctx context.Context, from connectivity.State) bool
	Connect()
	Target() string
}

// Gate is where streams wait for their connections. C is a client connection.
type Gate[C Conn] struct {
	mu    sync.Mutex // guards the field below
	lines map[C]*line[C]
}

// NewGate returns a gate where nobody waits.
func NewGate[C Conn]() *Gate[C] { return &Gate[C]{lines: make(map[C]*line[C])} }

// Visitor is who wants to open a stream. Its functions are called in the goroutine that called Open.
type Visitor struct {
	// Again says that the stream was open before. Many others may come back at the same time, so it takes its turn.
	Again bool
	// Waits is told when the visitor begins and ends to wait.
	Waits func(waits bool)
	// News is told what the connection waits for, each time that it changes.
	News func(cause error)
	// Call opens the stream. With wait, grpc waits for the connection; otherwise it fails at once if there is none.
	Call func(wait bool) error

	known *NotReadyError // the newest of News
}

// askEvery is the time between two calls of a leader.
const askEvery = time.Second

// notReady is how grpc begins what it says of a wait that was cut short.
const notReady = "latest balancer error: "

// Open calls v.Call when the connection is ready, and returns its error. If ctx ends before that, it returns a status that
// says what the connection waits for.
func (g *Gate[C]) Open(ctx context.Context, conn C, v Visitor) error {
	if !v.Again && conn.GetState() == connectivity.Ready {
		return v.Call(true)
	}
	l := g.enter(conn)
	defer l.leave()
	v.Waits(true)
	opened, err := l.await(ctx, &v)
	v.Waits(false)
	if opened || err != nil {
		return err
	}
	return v.Call(true)
}

// tell tells v what the connection waits for, unless v knows.
func (v *Visitor) tell(cause *NotReadyError) {
	if cause != nil && cause != v.known {
		v.News(cause)
	}
	v.known = cause
}

// await waits until v may call, or has opened the stream as the leader.
func (l *line[C]) await(ctx context.Context, v *Visitor) (opened bool, err error) {
	for passed := false; ; {
		switch l.conn.GetState() {
		case connectivity.Shutdown:
			return false, nil // the call tells
		case connectivity.Ready:
			if passed {
				return false, nil
			}
			if !l.pacer.pass(ctx) {
				return false, l.cutShort(ctx)
			}
			passed = true // and look again: it may have taken long
			continue
		case connectivity.Idle, connectivity.Connecting, connectivity.TransientFailure:
		}
		passed = false
		now := l.watch()
		v.tell(now.cause)
		select {
		case <-l.lead:
			opened, err = l.ask(ctx, v)
			l.lead <- struct{}{}
			if opened || err != nil {
				return opened, err
			}
		case <-now.changed:
		case <-ctx.Done():
			return false, l.cutShort(ctx)
		}
	}
}

// line is those who wait for one connection.
type line[C Conn] struct {
	// set at construction, then read only
	gate  *Gate[C]
	conn  C
	lead  chan struct{} // has one token, for the leader
	pacer pacer

	visitors int // guarded by gate.mu; the pacer counts as one while it is at work

	mu       sync.Mutex // guards the fields below
	now      news
	watching context.CancelFunc // ends the goroutine that watches; nil if there is none
}

// news is what is known of a connection that is not ready.
type news struct {
	cause   *NotReadyError // nil: nothing yet
	changed chan struct{}  // closed when there are other news, and when the connection is ready
}

// enter counts a visitor.
func (g *Gate[C]) enter(conn C) *line[C] {
	g.mu.Lock()
	defer g.mu.Unlock()
	l := g.lines[conn]
	if l == nil {
		l = &line[C]{gate: g, conn: conn, lead: make(chan struct{}, 1), now: news{changed: make(chan struct{})}}
		l.lead <- struct{}{}
		l.pacer.begin = l.stay
		l.pacer.end = l.leave
		g.lines[conn] = l
	}
	l.visitors++
	return l
}

// stay counts one more who is here already.
func (l *line[C]) stay() {
	l.gate.mu.Lock()
	defer l.gate.mu.Unlock()
	l.visitors++
}

// leave counts a visitor out. The last one ends the line.
func (l *line[C]) leave() {
	g := l.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	if l.visitors--; l.visitors > 0 {
		return
	}
	delete(g.lines, l.conn)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.watching != nil {
		l.watching()
	}
}

// watch returns the news, and sees to it that there will be some.
func (l *line[C]) watch() news {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.watching == nil {
		ctx, cancel := context.WithCancel(context.Background())
		l.watching = cancel
		go l.watchState(ctx) // ends when the connection is ready, or when the last visitor leaves; nobody waits for it
	}
	return l.now
}

// watchState waits until the connection is ready, or closed, and wakes everybody. A connection that is idle is told to connect:
// the leader's call may hang in an interceptor, and then no call would do it (invariant 9).
func (l *line[C]) watchState(ctx context.Context) {
	for state := l.conn.GetState(); state != connectivity.Ready && state != connectivity.Shutdown; state = l.conn.GetState() {
		if state == connectivity.Idle {
			l.conn.Connect()
		}
		if !l.conn.WaitForStateChange(ctx, state) {
			break
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.watching()
	l.watching = nil
	l.tellLocked(nil)
}

// tellLocked makes cause the news. The caller holds mu.
func (l *line[C]) tellLocked(cause *NotReadyError) {
	close(l.now.changed)
	l.now = news{cause: cause, changed: make(chan struct{})}
}

// ask calls without waiting. If that does not open the stream because the connection is not ready, the error is news, and ask
// waits until there is reason to ask again.
func (l *line[C]) ask(ctx context.Context, v *Visitor) (opened bool, err error) {
	err = v.Call(false)
	switch {
	case err == nil:
		return true, nil
	case ctx.Err() != nil:
		return false, l.cutShort(ctx)
	case status.Code(err) != codes.Unavailable:
		return false, err
	}
	cause := &NotReadyError{Target: l.conn.Target(), Err: err}
	l.mu.Lock()
	if l.now.cause == nil || l.now.cause.text() != cause.text() {
		l.tellLocked(cause)
	}
	l.mu.Unlock()
	now := l.watch() // or the connection may become ready, and nobody see it
	v.tell(now.cause)
	timer := time.NewTimer(askEvery)
	defer timer.Stop()
	select {
	case <-now.changed:
	case <-timer.C:
	case <-ctx.Done():
	}
	return false, nil
}

// cutShort is the end of a wait with its context.
func (l *line[C]) cutShort(ctx context.Context) error {
	l.mu.Lock()
	cause := l.now.cause
	l.mu.Unlock()
	st := status.FromContextError(ctx.Err())
	if cause == nil {
		return status.Errorf(st.Code(), "%s while waiting for the connection to %s to become ready", ctx.Err(), l.conn.Target())
	}
	return status.Error(st.Code(), notReady+cause.Error())
}

// NotReadyError is what a connection waits for.
type NotReadyError struct {
	Target string
	Err    error // of grpc, with a status
}

// Error names the target, and says what grpc says.
func (e *NotReadyError) Error() string {
	return fmt.Sprintf("no connection to %s: %s", e.Target, status.Convert(e.Err).Message())
}

// Unwrap returns what grpc says.
func (e *NotReadyError) Unwrap() error { return e.Err }

// GRPCStatus has grpc's code.
func (e *NotReadyError) GRPCStatus() *status.Status { return status.New(status.Code(e.Err), e.Error()) }

// text returns the text without the ports that an operating system gives for one connection only: two errors that differ in
// these alone are the same news.
func (e *NotReadyError) text() string { return ownPort.ReplaceAllString(e.Error(), "->") }

var ownPort = regexp.MustCompile(`:\d+->`)
