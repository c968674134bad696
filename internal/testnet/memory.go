package testnet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// socketSize is the number of bytes that each direction of a connection in memory can hold at either end.
const socketSize = 64 << 10

// Memory is a network in memory. It does no I/O: in a testing/synctest bubble it has to be made, used and closed in the
// bubble.
type Memory struct {
	*Network

	mu       sync.Mutex // guards the field below
	listener *memoryListener
}

// NewMemory returns a network that has no server yet.
func NewMemory() *Memory {
	return &Memory{Network: newNetwork()}
}

// Listener returns a new listener, for grpc.Server.Serve. New connections go to it from now on; this is how a server
// starts again. grpc.Server closes it.
func (m *Memory) Listener() net.Listener {
	l := &memoryListener{incoming: make(chan *memoryConn), done: make(chan struct{})}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.listener = l
	return l
}

// Dial connects to the server, for grpc.WithContextDialer. The address is only a name. Dial waits until the server
// accepts or ctx is done, with ctx's error. Where new connections are refused, or nobody listens, the error is
// ECONNREFUSED.
func (m *Memory) Dial(ctx context.Context, address string) (net.Conn, error) {
	m.mu.Lock()
	l := m.listener
	m.mu.Unlock()
	if l == nil || m.refuses() {
		return nil, refusal(address)
	}
	client, clientSide := memoryPair("client", "network")
	serverSide, server := memoryPair("network", "server")
	select {
	case l.incoming <- server:
	case <-l.done:
		m.countRefused()
		return nil, refusal(address)
	case <-m.closing:
		return nil, refusal(address)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if !m.join(clientSide, serverSide) {
		return nil, refusal(address)
	}
	return client, nil
}

// Client returns a gRPC client of the server, without TLS. opts are added to what that takes.
func (m *Memory) Client(opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///memory", append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(m.Dial),
	}, opts...)...)
}

// Close resets every connection, refuses new ones and waits for the network's goroutines. Listeners are left to the
// server. The error is nil.
func (m *Memory) Close() error {
	m.close()
	m.running.Wait()
	return nil
}

func refusal(address string) error {
	return fmt.Errorf("dial %s: %w", address, syscall.ECONNREFUSED)
}

// memoryListener hands the server's ends of new connections over.
type memoryListener struct {
	incoming chan *memoryConn
	once     sync.Once
	done     chan struct{} // closed by Close
}

// Accept waits for the next connection.
func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.incoming:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close makes Accept and Dial fail.
func (l *memoryListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

// Addr returns the address of the server.
func (l *memoryListener) Addr() net.Addr { return memoryAddr("server") }

type memoryAddr string

// Network returns "memory".
func (memoryAddr) Network() string { return "memory" }

// String returns the name of the end.
func (a memoryAddr) String() string { return string(a) }

// memoryConn is one end of a connection in memory.
type memoryConn struct {
	in, out       *pipe
	local, remote memoryAddr
}

func memoryPair(a, b memoryAddr) (*memoryConn, *memoryConn) {
	there, back := newPipe(socketSize), newPipe(socketSize)
	return &memoryConn{in: back, out: there, local: a, remote: b}, &memoryConn{in: there, out: back, local: b, remote: a}
}

// Read blocks until there is something to read, the other end has closed or reset, or the deadline has passed.
func (c *memoryConn) Read(b []byte) (int, error) {
	n, err := c.in.read(b)
	return n, c.explain("read", err)
}

// Write blocks until all of b is in the connection's buffer.
func (c *memoryConn) Write(b []byte) (int, error) {
	n, err := c.out.write(b, 0)
	return n, c.explain("write", err)
}

// explain gives errors the form that those of a socket have.
func (c *memoryConn) explain(operation string, err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	var number syscall.Errno
	if errors.As(err, &number) {
		err = os.NewSyscallError(operation, number)
	}
	return &net.OpError{Op: operation, Net: "memory", Source: c.local, Addr: c.remote, Err: err}
}

// Close ends both directions. The other end can still read what was written.
func (c *memoryConn) Close() error {
	c.in.abandon()
	c.out.finish(io.EOF, 0)
	return nil
}

// CloseWrite ends the direction away from here.
func (c *memoryConn) CloseWrite() error {
	c.out.finish(io.EOF, 0)
	return nil
}

// Reset ends both directions with an error for the other end.
func (c *memoryConn) Reset() {
	c.out.reset()
	c.in.reset()
	c.in.abandon()
}

// LocalAddr returns the name of this end.
func (c *memoryConn) LocalAddr() net.Addr { return c.local }

// RemoteAddr returns the name of the other end.
func (c *memoryConn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline sets both deadlines. Zero means none.
func (c *memoryConn) SetDeadline(t time.Time) error {
	c.in.setReadDeadline(t)
	c.out.setWriteDeadline(t)
	return nil
}

// SetReadDeadline makes reads fail with os.ErrDeadlineExceeded from t on. Zero means never.
func (c *memoryConn) SetReadDeadline(t time.Time) error {
	c.in.setReadDeadline(t)
	return nil
}

// SetWriteDeadline makes writes fail with os.ErrDeadlineExceeded from t on. Zero means never.
func (c *memoryConn) SetWriteDeadline(t time.Time) error {
	c.out.setWriteDeadline(t)
	return nil
}
