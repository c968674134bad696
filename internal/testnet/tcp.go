package testnet

import (
	"context"
	"errors"
	"net"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// TCP is a network on the loopback interface: a proxy before a server.
type TCP struct {
	*Network

	listener *net.TCPListener   // set at construction, then read only
	cancel   context.CancelFunc // ends the dials to the server; set at construction, then read only

	mu     sync.Mutex // guards the field below
	target string
}

// NewTCP returns a proxy that listens on a free port of 127.0.0.1 and connects to target, "host:port". The target may be
// empty until Listen or SetTarget gives one. The error is the listener's.
func NewTCP(target string) (*TCP, error) {
	listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	t := &TCP{Network: newNetwork(), listener: listener, cancel: cancel, target: target}
	t.running.Go(func() { t.accept(ctx) }) // ends when the listener is closed; Close waits
	return t, nil
}

// Listen returns a new listener for the server, on a free port of 127.0.0.1. New connections go to it from now on; this
// is how a server starts again. grpc.Server closes it.
func (t *TCP) Listen() (net.Listener, error) {
	listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, err
	}
	t.SetTarget(listener.Addr().String())
	return listener, nil
}

// SetTarget sets the server's address for new connections.
func (t *TCP) SetTarget(target string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.target = target
}

// Addr returns the address of the proxy, for clients.
func (t *TCP) Addr() string { return t.listener.Addr().String() }

// Client returns a gRPC client of the server, without TLS. opts are added to what that takes.
func (t *TCP) Client(opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+t.Addr(), append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
	}, opts...)...)
}

// Close resets every connection, closes the proxy's listener and waits for the network's goroutines. Listeners that
// Listen gave are left to the server. The error is the proxy's listener's.
func (t *TCP) Close() error {
	if !t.close() {
		t.running.Wait()
		return nil
	}
	t.cancel()
	err := t.listener.Close()
	t.running.Wait()
	return err
}

// accept takes connections until the listener is closed.
func (t *TCP) accept(ctx context.Context) {
	for {
		conn, err := t.listener.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		client := tcpConn{conn}
		if t.refuses() {
			client.Reset()
			continue
		}
		t.running.Go(func() { t.connect(ctx, client) }) // ends when the server has answered; Close waits
	}
}

// connect joins a client to the server.
func (t *TCP) connect(ctx context.Context, client tcpConn) {
	t.mu.Lock()
	target := t.target
	t.mu.Unlock()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", target)
	if err != nil {
		t.countRefused()
		client.Reset()
		return
	}
	server, ok := conn.(*net.TCPConn)
	if !ok { // never: the network is tcp
		_ = conn.Close()
		client.Reset()
		return
	}
	t.join(client, tcpConn{server})
}

// tcpConn is one end of a connection.
type tcpConn struct{ *net.TCPConn }

// Reset closes the connection with an RST.
func (c tcpConn) Reset() {
	_ = c.SetLinger(0)
	_ = c.Close()
}
