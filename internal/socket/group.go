package socket

import (
	"context"
	"net"
	"reflect"
	"sync"
	"syscall"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

// Group is the sockets that were made with one set of dial options.
type Group struct {
	mu      sync.Mutex // guards the field below
	sockets map[net.Addr]*Socket
}

// NewGroup returns a group without sockets.
func NewGroup() *Group { return &Group{sockets: make(map[net.Addr]*Socket)} }

// Credentials returns credentials that do what inner does, and let the group know each socket. Nil stays nil: grpc tells
// what is missing.
func (g *Group) Credentials(inner credentials.TransportCredentials) credentials.TransportCredentials { //nolint:ireturn // as grpc takes it
	if inner == nil {
		return nil
	}
	return &transport{TransportCredentials: inner, group: g}
}

// transport forwards everything but the client's handshake.
type transport struct {
	credentials.TransportCredentials
	group *Group
}

// ClientHandshake lets the group know the socket, if the handshake succeeds.
func (t *transport) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) { //nolint:ireturn // as grpc has it
	conn, info, err := t.TransportCredentials.ClientHandshake(ctx, authority, raw)
	if err != nil || conn == nil {
		return conn, info, err
	}
	return t.group.add(conn, raw), info, nil
}

// Clone returns credentials of the same group.
func (t *transport) Clone() credentials.TransportCredentials { //nolint:ireturn // as grpc has it
	return t.group.Credentials(t.TransportCredentials.Clone())
}

// UsesXDS says what the inner credentials say; grpc's xDS balancers ask.
func (t *transport) UsesXDS() bool {
	xds, ok := t.TransportCredentials.(interface{ UsesXDS() bool })
	return ok && xds.UsesXDS()
}

// add returns conn as a socket of the group. raw is what is under it.
func (g *Group) add(conn, raw net.Conn) net.Conn {
	s := newSocket(g, raw)
	c := &watched{Conn: conn, socket: s, local: own(conn.LocalAddr())}
	g.mu.Lock()
	g.sockets[c.local] = s
	g.mu.Unlock()
	if inner, ok := conn.(syscall.Conn); ok { // for channelz, which shows a socket's options
		return &watchedSyscall{watched: c, inner: inner}
	}
	return c
}

// Of returns the socket that a gRPC stream with this context is on, nil if it is none of the group's.
func (g *Group) Of(ctx context.Context) *Socket {
	p, ok := peer.FromContext(ctx)
	if !ok || p.LocalAddr == nil || !reflect.TypeOf(p.LocalAddr).Comparable() {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.sockets[p.LocalAddr]
}

// size returns how many sockets there are.
func (g *Group) size() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.sockets)
}

// remove forgets a socket that is closed, by its identity.
func (g *Group) remove(local net.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.sockets, local)
}

// own returns an address like a that is nobody else's: its pointer tells sockets apart. The usual types stay what they are,
// as applications look at them.
func own(a net.Addr) net.Addr {
	switch a := a.(type) {
	case *net.TCPAddr:
		if a != nil {
			return new(*a)
		}
	case *net.UnixAddr:
		if a != nil {
			return new(*a)
		}
	}
	return &address{a}
}

// address is an address of another type.
type address struct{ inner net.Addr }

// Network returns the name of the network.
func (a *address) Network() string {
	if a.inner == nil {
		return ""
	}
	return a.inner.Network()
}

// String returns the address.
func (a *address) String() string {
	if a.inner == nil {
		return ""
	}
	return a.inner.String()
}

// watched is a connection whose reads are counted.
type watched struct {
	net.Conn
	socket *Socket
	local  net.Addr
}

// Read counts what was read.
func (c *watched) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.socket.read()
	}
	if err != nil {
		err = c.socket.explained(err)
	}
	return n, err
}

// Close closes the connection. The group forgets it.
func (c *watched) Close() error {
	c.socket.group.remove(c.local)
	c.socket.over()
	return c.Conn.Close()
}

// LocalAddr returns the socket's own address.
func (c *watched) LocalAddr() net.Addr { return c.local }

// watchedSyscall is one with a file descriptor.
type watchedSyscall struct {
	*watched
	inner syscall.Conn
}

// SyscallConn returns the file descriptor.
func (c *watchedSyscall) SyscallConn() (syscall.RawConn, error) { return c.inner.SyscallConn() }
