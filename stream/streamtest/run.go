package streamtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/streamsafe/streamsafe/internal/testnet"
)

// result is how a run has ended.
type result struct {
	err      error // nil: as it should
	stacks   string
	cuts     []testnet.Cut
	passages []passage
	calls    int
	stuck    bool
}

// text is the error, with the goroutines that have to do with it.
func (r result) text() string {
	text := r.err.Error()
	if r.stacks != "" {
		text += "\n" + strings.TrimRight(r.stacks, "\n")
	}
	return text
}

// world is a network with a server's and a client's end.
type world struct {
	*testnet.Network
	listener net.Listener
	client   func(...grpc.DialOption) (*grpc.ClientConn, error)
	close    func() error
}

// run runs the scenario with faults at the places.
func (c *cutter) run(t *testing.T, places []place) result {
	t.Helper()
	c.runs++
	var r result
	if c.options.tcp {
		r = c.overTCP(places)
	} else {
		r = c.inBubble(t, places)
	}
	c.stuck = c.stuck || r.stuck
	return r
}

func (c *cutter) overTCP(places []place) result {
	tcp, err := testnet.NewTCP("")
	if err != nil {
		return result{err: err}
	}
	w := world{Network: tcp.Network, client: tcp.Client, close: tcp.Close}
	if w.listener, err = tcp.Listen(); err != nil {
		return result{err: errors.Join(err, tcp.Close())}
	}
	return c.play(w, places)
}

// play runs the scenario in a world, and ends that.
func (c *cutter) play(w world, places []place) result {
	w.Record()
	faults := make([]testnet.Fault, 0, len(places))
	for _, p := range places {
		faults = append(faults, c.fault(p))
	}
	w.ArmInOrder(faults...)
	h := newHandlers(c.mostCalls())
	server := grpc.NewServer(append(c.options.server[:len(c.options.server):len(c.options.server)],
		grpc.ChainStreamInterceptor(h.stream), grpc.ChainUnaryInterceptor(h.unary))...)
	if err := c.serve(server); err != nil {
		return result{err: errors.Join(err, w.close())}
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(w.listener) }() // ends with the server, which end stops
	conn, err := w.client(append(c.options.dial[:len(c.options.dial):len(c.options.dial)],
		grpc.WithChainStreamInterceptor(h.callsStream), grpc.WithChainUnaryInterceptor(h.callsUnary))...)
	if err != nil {
		return result{err: errors.Join(fmt.Errorf("the client connection: %w", err), w.close())}
	}
	var r result
	r.err = c.runScenario(conn, h, &r)
	if panicked := h.panics(); panicked != nil { // tells more
		r.err = panicked
	}
	r.cuts, r.passages, r.calls = w.Cuts(), w.Passages(), h.count()
	if err := c.end(w, server, conn, h, &r); err != nil && r.err == nil {
		r.err = err
	}
	return r
}

// serve calls Serve.
func (c *cutter) serve(server *grpc.Server) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the function Serve panics: %v\n%s", p, debug.Stack())
		}
	}()
	c.scenario.Serve(server)
	return nil
}

// errGoexit is what Run ends with if it has called runtime.Goexit.
var errGoexit = errors.New("the function Run has ended its goroutine, with t.FailNow for example: return an error in place of that")

// runScenario calls Run, and waits for its end.
func (c *cutter) runScenario(conn *grpc.ClientConn, h *handlers, r *result) error {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	ended := make(chan error, 1)
	go func() { // ends with Run; the lines below wait for it, and tell if it does not end
		err := errGoexit
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("the function Run panics: %v\n%s", p, debug.Stack())
			}
			ended <- err
		}()
		err = c.scenario.Run(ctx, conn)
	}()
	late := fmt.Errorf("the function Run has not returned within %v", c.options.limit)
	timer := time.NewTimer(c.options.limit)
	defer timer.Stop()
	select {
	case err := <-ended:
		return err
	case <-timer.C:
		r.stacks = c.stacks()
	case <-h.tooMany:
		late = fmt.Errorf("the client gets nowhere: it has made %d calls, and %d if nothing disturbs it", h.count(), c.calls)
	}
	cancel(late)
	err, in := within(ended, c.options.limit)
	switch {
	case !in:
		r.stuck = true
		return fmt.Errorf("%w; and it has not returned %v after its context was cancelled", late, c.options.limit)
	case err != nil && !errors.Is(err, context.Canceled):
		return fmt.Errorf("%w; after its context was cancelled it returned: %w", late, err)
	}
	return late
}

// mostCalls is how many calls a run may make.
func (c *cutter) mostCalls() int { return 500 + 10*c.calls }

// end ends the world, and sees that handlers return.
func (c *cutter) end(w world, server *grpc.Server, conn *grpc.ClientConn, h *handlers, r *result) error {
	ended := make(chan error, 1)
	go func() { ended <- errors.Join(conn.Close(), w.close()) }() // ends when the client and the network have; the next line waits
	err, in := within(ended, c.options.limit)
	if !in {
		r.stuck = true
		return fmt.Errorf("the client connection has not closed within %v", c.options.limit)
	}
	if _, in := within(h.idle(), c.options.limit); !in {
		r.stuck = c.options.tcp
		if r.stacks == "" {
			r.stacks = c.stacks()
		}
		return fmt.Errorf("%s: a handler has not returned %v after its connection had gone", h.running(), c.options.limit)
	}
	stopped := make(chan error, 1)
	go func() { // ends when the server has; the next line waits
		server.Stop()
		stopped <- nil
	}()
	if _, in := within(stopped, c.options.limit); !in {
		r.stuck = true
		return fmt.Errorf("the server has not stopped within %v", c.options.limit)
	}
	return err
}

// within waits for what ch brings, but no longer than limit.
func within(ch <-chan error, limit time.Duration) (error, bool) { //nolint:revive // the error is what ch brings
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case err := <-ch:
		return err, true
	case <-timer.C:
		return nil, false
	}
}
