package socket

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// Socket is one connection to a server.
type Socket struct {
	group *Group        // set at construction, then read only
	raw   net.Conn      // what is under the credentials; set at construction, then read only
	gone  chan struct{} // closed by over

	reads    atomic.Uint64             // how often bytes were read
	probing  atomic.Bool               // answered is wanted
	answered chan struct{}             // buffered; written by whoever reads while probing, read by the probe
	dead     atomic.Pointer[deadError] // written by the probe before it closes the socket

	mu      sync.Mutex // guards the fields below
	closed  bool
	sending bool // a probe is being sent
	asking  []func(dead bool)
}

func newSocket(g *Group, raw net.Conn) *Socket {
	return &Socket{group: g, raw: raw, gone: make(chan struct{}), answered: make(chan struct{}, 1)}
}

// Reads returns how often bytes were read. If two numbers are equal, the socket was silent in between. No clock is asked: a
// rounded one would take a message that came before for life.
func (s *Socket) Reads() uint64 { return s.reads.Load() }

func (s *Socket) read() {
	s.reads.Add(1)
	if s.probing.Load() {
		select {
		case s.answered <- struct{}{}:
		default:
		}
	}
}

// explained returns the reason for which the socket was closed here, or err.
func (s *Socket) explained(err error) error {
	if dead := s.dead.Load(); dead != nil {
		return dead
	}
	return err
}

// over says that the socket is closed.
func (s *Socket) over() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		close(s.gone)
	}
}

// Probe opens a stream of a method on whatever socket grpc picks. It fails if there is none.
type Probe func(ctx context.Context, desc *grpc.StreamDesc, method string) (grpc.ClientStream, error)

// Suspect asks whether the socket is dead, and calls decided with the answer: at once if it is closed, otherwise from
// another goroutine, after 2*within at the latest. While a probe is under way, further calls wait for the same one.
//
// If a probe was sent, and nothing was read for within, the socket is dead: decided is called, and then it is closed.
// Otherwise the answer is false. The probe has the values of ctx, and not its end.
func (s *Socket) Suspect(ctx context.Context, open Probe, within time.Duration, decided func(dead bool)) {
	s.mu.Lock()
	if s.closed || s.sending && len(s.asking) == 0 { // the second: interceptors still hold an earlier one
		s.mu.Unlock()
		decided(false)
		return
	}
	s.asking = append(s.asking, decided)
	first := len(s.asking) == 1
	s.sending = s.sending || first
	s.mu.Unlock()
	if first {
		go s.probe(context.WithoutCancel(ctx), open, within) // ends after 2*within at the latest; nobody waits for it
	}
}

// probe finds out whether the socket is dead, and tells.
func (s *Socket) probe(ctx context.Context, open Probe, within time.Duration) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	dead := s.isSilent(ctx, open, within)
	s.mu.Lock()
	asking := s.asking
	s.asking = nil
	s.mu.Unlock()
	for _, decided := range asking {
		decided(dead)
	}
	if dead {
		s.dead.Store(&deadError{within: within})
		_ = s.raw.Close() // grpc reads, and finds out
	}
}

// isSilent reports whether nothing is read for within, after a probe was sent.
func (s *Socket) isSilent(ctx context.Context, open Probe, within time.Duration) bool {
	select {
	case <-s.answered: // left over
	default:
	}
	before := s.Reads()
	s.probing.Store(true)
	defer s.probing.Store(false)
	sent := make(chan bool, 1)
	go func() { // ends with ctx, or when the application's interceptors return; nobody waits for it then
		ok := false
		defer func() { // send may end the goroutine
			s.mu.Lock()
			s.sending = false
			s.mu.Unlock()
			sent <- ok
		}()
		ok = s.send(ctx, open)
	}()
	timer := time.NewTimer(within)
	defer timer.Stop()
	asked := false
	for s.Reads() == before {
		select {
		case asked = <-sent:
			if !asked {
				return false
			}
			sent = nil
			timer.Reset(within)
		case <-s.answered:
		case <-s.gone:
			return false
		case <-timer.C:
			return asked && s.Reads() == before
		}
	}
	return false
}

// send sends a probe on the socket. A balancer may pick others first: then they get one, too, which does no harm.
func (s *Socket) send(ctx context.Context, open Probe) (sent bool) {
	defer func() {
		if recover() != nil { // an interceptor's: it says nothing about the socket
			sent = false
		}
	}()
	for range min(3*s.group.size()+1, maxPicks) {
		stream, err := open(ctx, &grpc.StreamDesc{StreamName: "Check"}, healthpb.Health_Check_FullMethodName)
		if err != nil {
			return false
		}
		on := s.group.Of(stream.Context()) //nolint:contextcheck // it is the stream's that counts
		if err := stream.SendMsg(new(healthpb.HealthCheckRequest)); err != nil {
			return false
		}
		if on == s {
			return true
		}
	}
	return false
}

// maxPicks is how often a probe tries to get on its socket.
const maxPicks = 64

// deadError is why a socket was closed.
type deadError struct{ within time.Duration }

func (e *deadError) Error() string {
	return fmt.Sprintf("the connection is dead: a probe was not answered within %v", e.within)
}
