package stream_test

import (
	"errors"
	"io"
	"slices"
	"sync"
	"testing/synctest"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// puppet is a server that answers only as it is told to, and keeps what it receives. In a rotation it has two handlers.
type puppet struct {
	say chan frame // sent to the client, in order; a frame of kind end ends the handler with OK

	received numbers // by all handlers

	mu       sync.Mutex // guards the fields below
	last     uint64     // what it greets with
	attempts int
}

// numbers is the numbers of what came, in order. It is safe for concurrent use: the race detector does not know that nothing moves.
type numbers struct {
	mu   sync.Mutex // guards the field below
	seqs []uint64
}

func (n *numbers) add(seq uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.seqs = append(n.seqs, seq)
}

func (n *numbers) all() []uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.seqs)
}

// got returns the numbers of what all handlers have received.
func (p *puppet) got() []uint64 { return p.received.all() }

// forget makes got begin anew.
func (p *puppet) forget() {
	p.received.mu.Lock()
	defer p.received.mu.Unlock()
	p.received.seqs = nil
}

// handlers returns how many there were.
func (p *puppet) handlers() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.attempts
}

// greetsWith makes the next handlers greet with last.
func (p *puppet) greetsWith(last uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = last
}

// end, said by a puppet, ends its handler.
const end = kind(99)

func newPuppet() *puppet { return &puppet{say: make(chan frame, 100)} }

func (p *puppet) handle(s bidi) error {
	p.mu.Lock()
	p.attempts++
	last := p.last
	p.mu.Unlock()
	if err := greet(s, last); err != nil {
		return err
	}
	go func() { // ends with the stream; nobody waits for it, as the test looks when nothing moves
		for {
			m, err := s.Recv()
			if err != nil {
				return
			}
			p.received.add(frameOf(m).seq)
		}
	}()
	for {
		select {
		case f := <-p.say:
			if f.kind == end {
				return nil
			}
			if err := s.Send(f.response()); err != nil {
				return err
			}
		case <-s.Context().Done():
			return s.Context().Err()
		}
	}
}

// tell makes the puppet send, and waits until that has had its effect.
func (p *puppet) tell(frames ...frame) {
	for _, f := range frames {
		p.say <- f
	}
	synctest.Wait()
}

// pushesBack is a handler that ends with err and a grpc-retry-pushback-ms.
func pushesBack(ms string, err error) func(bidi) error {
	return func(s bidi) error {
		s.SetTrailer(metadata.Pairs("grpc-retry-pushback-ms", ms))
		return err
	}
}

// reads returns a handler that receives for ever and says nothing. It appends to got; read that when nothing moves.
func reads(got *[]uint64) func(bidi) error {
	return func(s bidi) error {
		for {
			m, err := s.Recv()
			if err != nil {
				return err
			}
			*got = append(*got, frameOf(m).seq)
		}
	}
}

// greet is the server's side of the handshake, by a server that has stored up to last.
func greet(s bidi, last uint64) error {
	if _, err := s.Recv(); err != nil {
		return err
	}
	return s.Send(frame{kind: hello, seq: last}.response())
}

// countToEnd receives until the client's half-close and returns how many messages came.
func countToEnd(s bidi) (n int, err error) {
	for {
		if _, err := s.Recv(); errors.Is(err, io.EOF) {
			return n, nil
		} else if err != nil {
			return n, err
		}
		n++
	}
}

// swallow is a handler that receives n messages after the hello, tells nobody, and fails.
func swallow(s bidi, n int) error {
	if _, err := s.Recv(); err != nil {
		return err
	}
	if err := s.Send(frame{kind: hello}.response()); err != nil {
		return err
	}
	for range n {
		if _, err := s.Recv(); err != nil {
			return err
		}
	}
	return status.Error(codes.Unavailable, "swallowed")
}

// forgetsFirst makes the first handler of f take n messages and tell nobody, so that all of them are sent again.
func forgetsFirst(f *feed, n int) {
	serve := f.handler
	if serve == nil {
		serve = f.serve
	}
	var once sync.Once
	f.handler = func(s bidi) error {
		err := io.EOF
		once.Do(func() { err = swallow(s, n) })
		if err != io.EOF { //nolint:errorlint // the very value set above
			return err
		}
		return serve(s)
	}
}
