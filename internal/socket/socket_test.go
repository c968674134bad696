package socket_test

import (
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/peer"

	"github.com/streamsafe/streamsafe/internal/socket"
)

// pair is a socket of a group, and the other end.
type pair struct {
	group  *socket.Group
	conn   net.Conn // as grpc sees it
	socket *socket.Socket
	server net.Conn
	read   chan error // how reading ended
}

// connect makes one, over TCP, in the group. Like grpc, it reads all the time.
func connect(t *testing.T, g *socket.Group) *pair {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // of this machine
	require.NoError(t, err)
	defer func() { require.NoError(t, listener.Close()) }()
	raw, err := net.Dial("tcp", listener.Addr().String()) //nolint:noctx // of this machine
	require.NoError(t, err)
	server, err := listener.Accept()
	require.NoError(t, err)
	conn, _, err := g.Credentials(insecure.NewCredentials()).ClientHandshake(t.Context(), "", raw)
	require.NoError(t, err)
	p := &pair{group: g, conn: conn, server: server, socket: g.Of(on(t.Context(), conn)), read: make(chan error, 1)}
	require.NotNil(t, p.socket)
	go func() { // ends when the connection is closed
		_, err := io.Copy(io.Discard, conn)
		_ = conn.Close() // as grpc does
		p.read <- err
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-p.read
	})
	return p
}

// on is the context of a gRPC stream on conn.
func on(ctx context.Context, conn net.Conn) context.Context {
	return peer.NewContext(ctx, &peer.Peer{LocalAddr: conn.LocalAddr()})
}

// call is a stream of a probe.
type call struct {
	grpc.ClientStream
	ctx  context.Context
	send func() error
}

func (c *call) Context() context.Context { return c.ctx }

func (c *call) SendMsg(any) error { return c.send() }

// sentOn is a probe that grpc sends on these connections, one after the other; answered is called for each.
func sentOn(answered func(i int), conns ...net.Conn) (probe socket.Probe, sent *atomic.Int64) {
	sent = new(atomic.Int64)
	return func(ctx context.Context, _ *grpc.StreamDesc, _ string) (grpc.ClientStream, error) {
		i := int(sent.Add(1)) - 1
		conn := conns[i%len(conns)]
		return &call{ctx: on(ctx, conn), send: func() error { answered(i); return nil }}, nil
	}, sent
}

// suspect asks about a socket, and returns the answer.
func (p *pair) suspect(t *testing.T, probe socket.Probe, within time.Duration) bool {
	t.Helper()
	answer := make(chan bool, 1)
	p.socket.Suspect(t.Context(), probe, within, func(dead bool) { answer <- dead })
	return wait(t, answer)
}

func wait[T any](t *testing.T, ch <-chan T) T {
	t.Helper()
	timer := time.NewTimer(time.Minute)
	defer timer.Stop()
	select {
	case v := <-ch:
		return v
	case <-timer.C:
		require.FailNow(t, "waited in vain")
		return *new(T)
	}
}

func silent(int) {}

// A socket that is silent after a probe is closed, and says why.
func TestADeadSocketIsClosed(t *testing.T) {
	t.Parallel()
	p := connect(t, socket.NewGroup())
	probe, sent := sentOn(silent, p.conn)
	began := time.Now()
	require.True(t, p.suspect(t, probe, 50*time.Millisecond))
	require.GreaterOrEqual(t, time.Since(began), 50*time.Millisecond)
	require.Equal(t, int64(1), sent.Load())
	err := wait(t, p.read)
	p.read <- err
	require.EqualError(t, err, "the connection is dead: a probe was not answered within 50ms")
	require.Nil(t, p.group.Of(on(t.Context(), p.conn)), "the group forgets it")
	require.False(t, p.suspect(t, probe, time.Hour), "a socket that is closed is not asked, and nothing is decided about it")
}

// Any byte is life.
func TestASocketThatAnswersIsAlive(t *testing.T) {
	t.Parallel()
	p := connect(t, socket.NewGroup())
	before := p.socket.Reads()
	probe, _ := sentOn(func(int) { _, _ = p.server.Write([]byte{0}) }, p.conn)
	require.False(t, p.suspect(t, probe, time.Hour), "the answer is there long before the limit")
	require.NotEqual(t, before, p.socket.Reads())
}

// Many who doubt at once send one probe, and hear the same.
func TestOneProbeForAll(t *testing.T) {
	t.Parallel()
	p := connect(t, socket.NewGroup())
	const doubters = 2000
	probe, sent := sentOn(silent, p.conn)
	answers := make(chan bool, doubters)
	for range doubters {
		go p.socket.Suspect(t.Context(), probe, 200*time.Millisecond, func(dead bool) { answers <- dead })
	}
	for range doubters {
		require.True(t, wait(t, answers))
	}
	require.Equal(t, int64(1), sent.Load())
}

// A probe that was not sent on the socket says nothing about it.
func TestAProbeThatCannotBeSentDecidesNothing(t *testing.T) {
	t.Parallel()
	refused := errors.New("not ready")
	for name, open := range map[string]func(p, other *pair) socket.Probe{
		"not opened": func(*pair, *pair) socket.Probe {
			return func(context.Context, *grpc.StreamDesc, string) (grpc.ClientStream, error) { return nil, refused }
		},
		"not sent": func(p, _ *pair) socket.Probe {
			return func(ctx context.Context, _ *grpc.StreamDesc, _ string) (grpc.ClientStream, error) {
				return &call{ctx: on(ctx, p.conn), send: func() error { return refused }}, nil
			}
		},
		"on another socket": func(_, other *pair) socket.Probe {
			probe, _ := sentOn(silent, other.conn)
			return probe
		},
		"on none": func(*pair, *pair) socket.Probe {
			return func(ctx context.Context, _ *grpc.StreamDesc, _ string) (grpc.ClientStream, error) {
				return &call{ctx: ctx, send: func() error { return nil }}, nil
			}
		},
		"held up": func(*pair, *pair) socket.Probe {
			return func(ctx context.Context, _ *grpc.StreamDesc, _ string) (grpc.ClientStream, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}
		},
		"a panic": func(*pair, *pair) socket.Probe {
			return func(context.Context, *grpc.StreamDesc, string) (grpc.ClientStream, error) { panic("an interceptor's") } //nolint:forbidigo // see above
		},
		"the end of the goroutine": func(*pair, *pair) socket.Probe {
			return func(context.Context, *grpc.StreamDesc, string) (grpc.ClientStream, error) {
				runtime.Goexit()
				return nil, nil
			} //nolint:nilnil // not reached
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := socket.NewGroup()
			p, other := connect(t, g), connect(t, g)
			require.False(t, p.suspect(t, open(p, other), 50*time.Millisecond))
			probe, _ := sentOn(silent, p.conn)
			for deadline := time.Now().Add(time.Minute); !p.suspect(t, probe, 20*time.Millisecond); { // the sender may still be ending
				require.True(t, time.Now().Before(deadline), "a later probe decides")
			}
		})
	}
}

// An interceptor that does not return holds up nobody, and is not called again and again.
func TestAProbeThatNeverReturns(t *testing.T) {
	t.Parallel()
	p := connect(t, socket.NewGroup())
	release := make(chan struct{})
	defer close(release)
	var calls atomic.Int64
	stuck := func(context.Context, *grpc.StreamDesc, string) (grpc.ClientStream, error) {
		calls.Add(1)
		<-release
		return nil, context.Canceled
	}
	for range 10 {
		require.False(t, p.suspect(t, stuck, 10*time.Millisecond))
	}
	require.Equal(t, int64(1), calls.Load())
}

// A balancer may pick other sockets first. They are left alone.
func TestAProbeFindsItsSocket(t *testing.T) {
	t.Parallel()
	g := socket.NewGroup()
	a, b, c := connect(t, g), connect(t, g), connect(t, g)
	probe, sent := sentOn(silent, a.conn, b.conn, c.conn)
	require.True(t, c.suspect(t, probe, 50*time.Millisecond))
	require.Equal(t, int64(3), sent.Load())
	for _, alive := range []*pair{a, b} {
		require.Same(t, alive.socket, g.Of(on(t.Context(), alive.conn)))
	}
}

// Sockets are told apart by identity: an address is used again.
func TestSocketsWithOneAddress(t *testing.T) {
	t.Parallel()
	g := socket.NewGroup()
	p := connect(t, g)
	address, ok := p.conn.LocalAddr().(*net.TCPAddr)
	require.True(t, ok, "an address keeps its type")
	require.Nil(t, g.Of(peer.NewContext(t.Context(), &peer.Peer{LocalAddr: new(*address)})), "the same address, of another socket")
	require.Nil(t, g.Of(t.Context()), "no peer")
	require.Nil(t, g.Of(peer.NewContext(t.Context(), new(peer.Peer))), "a peer without an address")
	require.Nil(t, g.Of(peer.NewContext(t.Context(), &peer.Peer{LocalAddr: odd{}})), "an address that is no key")
	_, ok = p.conn.(syscall.Conn)
	require.True(t, ok, "channelz asks for the file descriptor")
}

// odd is an address that a map cannot have as a key.
type odd struct{ net.IPMask }

func (odd) Network() string { return "odd" }

func (odd) String() string { return "odd" }

// An address of another type, or none, does no harm.
func TestAddressesOfOtherTypes(t *testing.T) {
	t.Parallel()
	for _, addr := range []net.Addr{odd{}, nil, (*net.TCPAddr)(nil), &net.UnixAddr{Name: "@", Net: "unix"}} {
		g := socket.NewGroup()
		client, server := net.Pipe()
		conn, _, err := g.Credentials(insecure.NewCredentials()).ClientHandshake(t.Context(), "", addressed{client, addr})
		require.NoError(t, err)
		require.NotNil(t, g.Of(on(t.Context(), conn)))
		require.NotPanics(t, func() { _, _ = conn.LocalAddr().Network(), conn.LocalAddr().String() })
		require.NoError(t, conn.Close())
		require.NoError(t, server.Close())
		require.Nil(t, g.Of(on(t.Context(), conn)))
	}
}

type addressed struct {
	net.Conn
	addr net.Addr
}

func (a addressed) LocalAddr() net.Addr { return a.addr }

// xds are credentials with everything that grpc asks for.
type xds struct {
	credentials.TransportCredentials
}

func (xds) UsesXDS() bool { return true }

func (xds) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, credentials.ErrConnDispatched
}

// The credentials are in all else what they were.
func TestCredentialsAreForwarded(t *testing.T) {
	t.Parallel()
	g := socket.NewGroup()
	require.Nil(t, g.Credentials(nil))
	tls := credentials.NewTLS(nil)
	wrapped := g.Credentials(tls)
	require.Equal(t, tls.Info(), wrapped.Info())
	require.Equal(t, tls.Info(), wrapped.Clone().Info())
	asks := func(c credentials.TransportCredentials) bool { return c.(interface{ UsesXDS() bool }).UsesXDS() }
	require.False(t, asks(wrapped))
	require.True(t, asks(g.Credentials(xds{tls})))
	_, _, err := g.Credentials(xds{tls}).ClientHandshake(t.Context(), "", nil)
	require.Equal(t, credentials.ErrConnDispatched, err, "grpc compares") //nolint:testifylint // see above
	require.NoError(t, wrapped.OverrideServerName("feed.example"))        //nolint:staticcheck // it is there
	require.Equal(t, "feed.example", tls.Info().ServerName)               //nolint:staticcheck // it is there
	require.Equal(t, "feed.example", wrapped.Clone().Info().ServerName)   //nolint:staticcheck // it is there
}
