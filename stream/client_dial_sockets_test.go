package stream_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/streamsafe/streamsafe/internal/testnet"
	"github.com/streamsafe/streamsafe/stream"
)

// backend is a server behind a network of real sockets.
type backend struct {
	*testnet.TCP
	opened atomic.Int64 // handlers
}

// newBackend starts one.
func newBackend(t *testing.T, handler func(bidi) error, opts ...grpc.ServerOption) *backend {
	t.Helper()
	network, err := testnet.NewTCP("")
	require.NoError(t, err)
	listener, err := network.Listen()
	require.NoError(t, err)
	b := &backend{TCP: network}
	server := grpc.NewServer(opts...)
	testpb.RegisterTestServiceServer(server, &feed{handler: func(s bidi) error {
		b.opened.Add(1)
		return handler(s)
	}})
	go func() { _ = server.Serve(listener) }() // ends with the server
	t.Cleanup(func() {
		server.Stop()
		_ = network.Close()
	})
	return b
}

// over opens a stream on conn. It is closed with the test.
func over(t *testing.T, conn *grpc.ClientConn, cb callbacks, opts ...stream.ClientOption) *client {
	t.Helper()
	s, err := stream.Resilient(t.Context(), testpb.NewTestServiceClient(conn).FullDuplexCall, cb, opts...)
	require.NoError(t, err)
	closeAtTheEnd(t, s)
	return s
}

// newConn is stream.NewConn for a connection that is closed with the test.
func newConn(t *testing.T, target string, creds credentials.TransportCredentials, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	conn, err := stream.NewConn(target, creds, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// message is what a Recv in a goroutine of its own returned.
type message struct {
	seq uint64
	err error
	at  time.Time
}

// recvOf calls Recv in a goroutine of its own, which ends with it.
func recvOf(s *client) <-chan message {
	return async(func() message {
		m, err := s.Recv()
		return message{seq: frameOf(m).seq, err: err, at: time.Now()}
	})
}

// relay accepts connections until the test ends, and joins each to address.
func relay(t *testing.T, listener net.Listener, address func() string) {
	t.Helper()
	t.Cleanup(func() { _ = listener.Close() })
	go func() { // ends with the listener
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			join(conn, address())
		}
	}()
}

// join forwards between conn and address, until one of them ends.
func join(conn net.Conn, address string) {
	server, err := net.Dial("tcp", address) //nolint:noctx // of this machine
	if err != nil {
		_ = conn.Close()
		return
	}
	for _, way := range [][2]net.Conn{{conn, server}, {server, conn}} {
		go func() { // ends when either is closed
			_, _ = io.Copy(way[0], way[1])
			_, _ = way[0].Close(), way[1].Close()
		}()
	}
}

// requireBackAfterABlackHole opens two streams on conn, one with a limit, and sees both come back over a new connection.
func requireBackAfterABlackHole(t *testing.T, b *backend, conn *grpc.ClientConn) {
	t.Helper()
	const limit = 400 * time.Millisecond
	limited, other := over(t, conn, greeting(), stream.WithIdleTimeout(limit)), over(t, conn, greeting())
	mustReceive(t, other, 1)
	mustReceive(t, limited, 1)
	b.Cut(testnet.BlackHole)
	for _, next := range []<-chan message{recvOf(limited), recvOf(other)} {
		m := within(t, next, "a message after the black hole")
		require.NoError(t, m.err)
		require.Equal(t, uint64(2), m.seq)
	}
	require.Equal(t, 2, b.Stats().Connections, "one was closed, and one made")
}

// Dead sockets are found whatever they are, and applications see the peer that they saw before.
func TestSocketsOfAllKinds(t *testing.T) {
	t.Parallel()
	own, trusted := certificate(t)
	tests := map[string]struct {
		server []grpc.ServerOption
		creds  credentials.TransportCredentials
		target func(t *testing.T, b *backend) string
		peer   func(t *testing.T, p *peer.Peer)
	}{
		"plain": {nil, insecure.NewCredentials(), func(_ *testing.T, b *backend) string { return b.Addr() }, func(t *testing.T, p *peer.Peer) {
			t.Helper()
			require.IsType(t, new(net.TCPAddr), p.LocalAddr)
			require.Equal(t, "insecure", p.AuthInfo.AuthType())
		}},
		"TLS": {
			[]grpc.ServerOption{grpc.Creds(credentials.NewServerTLSFromCert(&own))},
			credentials.NewTLS(&tls.Config{RootCAs: trusted, ServerName: "feed.example", MinVersion: tls.VersionTLS12}),
			func(_ *testing.T, b *backend) string { return b.Addr() },
			func(t *testing.T, p *peer.Peer) {
				t.Helper()
				require.IsType(t, new(net.TCPAddr), p.LocalAddr)
				require.IsType(t, credentials.TLSInfo{}, p.AuthInfo)
			},
		},
		"unix": {nil, insecure.NewCredentials(), func(t *testing.T, b *backend) string {
			t.Helper()
			name := filepath.Join(t.TempDir(), "feed")
			listener, err := net.Listen("unix", name) //nolint:noctx // of this machine
			require.NoError(t, err)
			relay(t, listener, b.Addr)
			return "unix:" + name
		}, func(t *testing.T, p *peer.Peer) {
			t.Helper()
			require.IsType(t, new(net.UnixAddr), p.LocalAddr)
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBackend(t, one, test.server...)
			conn := newConn(t, test.target(t, b), test.creds)
			requireBackAfterABlackHole(t, b, conn)
			var p peer.Peer
			s := over(t, conn, greeting(), stream.WithCallOptions(grpc.Peer(&p)))
			mustReceive(t, s, 1)
			mustClose(t, s, "so that the peer is told")
			test.peer(t, &p)
		})
	}
}

// HTTPS_PROXY is read once in a process, and not for this machine's own addresses: so this is a process of its own, and the name
// of the target is known to the proxy alone.
func TestThroughAProxy(t *testing.T) {
	const proxied = "STREAMSAFE_TEST_PROXIED"
	if os.Getenv(proxied) != "" {
		conn := newConn(t, "dns:///feed.example:443", insecure.NewCredentials())
		s := over(t, conn, greeting(), stream.WithIdleTimeout(400*time.Millisecond))
		mustReceive(t, s, 1, 2)
		return
	}
	t.Parallel()
	b := newBackend(t, one)
	b.Arm(testnet.Fault{Kind: testnet.BlackHole, Direction: testnet.ToClient, Message: 1, Where: testnet.After})
	var tunnels atomic.Int64
	proxy := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect || r.Host != "feed.example:443" {
			http.Error(w, "not allowed", http.StatusForbidden)
			return
		}
		tunnels.Add(1)
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
		join(conn, b.Addr())
	})}
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // of this machine
	require.NoError(t, err)
	go func() { _ = proxy.Serve(listener) }() // ends with Close
	defer func() { require.NoError(t, proxy.Close()) }()
	ctx, cancel := context.WithTimeout(t.Context(), patience())
	defer cancel()
	child := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestThroughAProxy$", "-test.v") //nolint:gosec // this program
	child.Env = append(os.Environ(), proxied+"=1", "HTTPS_PROXY=http://"+listener.Addr().String(), "NO_PROXY=")
	out, err := child.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "--- PASS: TestThroughAProxy")
	require.Equal(t, int64(2), tunnels.Load(), "tunnels: one was dead, and one made")
}

// Of three back ends one is in a black hole. Its streams come back; the other two are not touched.
func TestRoundRobinWithOneDeadBackend(t *testing.T) {
	t.Parallel()
	const streams = 12
	backends := make([]*backend, 3)
	addresses := make([]resolver.Address, 0, len(backends))
	for i := range backends {
		backends[i] = newBackend(t, one)
		addresses = append(addresses, resolver.Address{Addr: backends[i].Addr()})
	}
	three := manual.NewBuilderWithScheme("three")
	three.InitialState(resolver.State{Addresses: addresses})
	conn := newConn(t, "three:///", insecure.NewCredentials(), grpc.WithResolvers(three),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin": {}}]}`))
	opened := func() (n int64) {
		for _, b := range backends {
			n += b.opened.Load()
		}
		return n
	}
	for deadline := time.Now().Add(patience()); ; { // all three connections are there
		for range backends {
			probe := over(t, conn, greeting())
			mustReceive(t, probe, 1)
			mustClose(t, probe, "a stream that warms up")
		}
		if backends[0].opened.Load() > 0 && backends[1].opened.Load() > 0 && backends[2].opened.Load() > 0 {
			break
		}
		require.True(t, time.Now().Before(deadline), "three connections")
	}
	all := make([]*client, 0, streams)
	for range streams {
		s := over(t, conn, greeting(), stream.WithIdleTimeout(2*time.Second))
		mustReceive(t, s, 1)
		all = append(all, s)
	}
	before := opened()
	lost := backends[0].Stats().Live
	require.Equal(t, 1, lost)
	nexts := make([]<-chan message, 0, streams)
	backends[0].Cut(testnet.BlackHole)
	for _, s := range all {
		nexts = append(nexts, recvOf(s))
	}
	for i, next := range nexts {
		m := within(t, next, fmt.Sprintf("the second message of stream %d", i))
		require.NoError(t, m.err)
		require.Equal(t, uint64(2), m.seq)
	}
	require.Equal(t, before+streams, opened(), "each stream has come back once")
	require.Equal(t, 2, backends[0].Stats().Connections, "of the dead one")
	for _, b := range backends[1:] {
		require.Equal(t, 1, b.Stats().Connections, "of the others")
	}
}

// floods is a handler that sends without a pause, and takes everything.
func floods(s bidi) error {
	m, err := s.Recv()
	if err != nil {
		return err
	}
	go func() { // ends with the stream
		for {
			if _, err := s.Recv(); err != nil {
				return
			}
		}
	}()
	for seq := frameOf(m).seq + 1; ; seq++ {
		if err := s.Send(frame{kind: data, seq: seq, size: 1000}.response()); err != nil {
			return err
		}
	}
}

// A black hole under load, with buffers full in both directions: all streams come back, whatever limits they have.
func TestABlackHoleUnderLoad(t *testing.T) {
	t.Parallel()
	for name, limit := range map[string]stream.ClientOption{
		"idle": stream.WithIdleTimeout(500 * time.Millisecond), "send": stream.WithSendTimeout(500 * time.Millisecond),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBackend(t, floods)
			conn := newConn(t, b.Addr(), insecure.NewCredentials())
			const streams = 10
			cut := make(chan struct{})
			back := make(chan error, streams)
			warm := make(chan struct{}, streams)
			for i := range streams {
				opts := []stream.ClientOption{stream.WithAtMostOnceSends()}
				if i == 0 {
					opts = append(opts, limit)
				}
				s := over(t, conn, greeting(), opts...)
				go func() { // ends with the stream
					for s.Send(frame{kind: data, seq: 1, size: 10_000}.request()) == nil {
					}
				}()
				go func() { // ends with the stream
					for n := uint64(1); ; n++ {
						m, err := s.Recv()
						if err == nil && frameOf(m).seq != n {
							err = fmt.Errorf("message %d in place of %d", frameOf(m).seq, n)
						}
						if err != nil {
							back <- err
							return
						}
						if n == 100 {
							warm <- struct{}{}
						}
						select {
						case <-cut:
							if s.Stats().Attempts > 1 {
								back <- nil
								return
							}
						default:
						}
					}
				}()
			}
			for range streams {
				within(t, warm, "the flood")
			}
			b.Cut(testnet.BlackHole)
			close(cut)
			for range streams {
				require.NoError(t, within(t, back, "a stream after the black hole"))
			}
			require.Equal(t, 2, b.Stats().Connections)
		})
	}
}
