package streamtest

import (
	"net"
	"time"

	"google.golang.org/grpc"

	"github.com/streamsafe/streamsafe/internal/testnet"
)

// Option is an option of [NewProxy] and [NewNetwork].
type Option interface{ applyNetwork(*faults) }

type option func(*faults)

func (o option) applyNetwork(f *faults) { o(f) }

// WithFault arms faults from the start, as Arm does.
func WithFault(all ...Fault) Option { return option(func(f *faults) { f.Arm(all...) }) }

// WithChaos arms a plan of faults from the start, as Chaos does.
func WithChaos(c Chaos) Option { return option(func(f *faults) { f.Chaos(c) }) }

// WithDelay makes bytes travel for d, each way, as Delay does. Default: no time at all.
func WithDelay(d time.Duration) Option { return option(func(f *faults) { f.Delay(d) }) }

// Proxy is a TCP proxy on the loopback interface that stands before a server, and breaks connections on purpose. Its methods may
// be called at any time, from any goroutine.
//
// It reads the HTTP/2 frames that pass, and so knows where each gRPC message begins and ends. What does not begin like HTTP/2,
// TLS for example, is forwarded too, but then only faults by bytes, by time and by hand happen.
type Proxy struct {
	*faults

	tcp *testnet.TCP // set at construction, then read only
}

// NewProxy returns a proxy that listens on a free port of 127.0.0.1 and connects to target, "host:port". The target may be empty
// until Listen or SetTarget gives one. The error is the listener's.
func NewProxy(target string, opts ...Option) (*Proxy, error) {
	tcp, err := testnet.NewTCP(target)
	if err != nil {
		return nil, err
	}
	return &Proxy{faults: newFaults(tcp.Network, opts), tcp: tcp}, nil
}

// Addr returns the address of the proxy, for clients.
func (p *Proxy) Addr() string { return p.tcp.Addr() }

// SetTarget sets the server's address for new connections.
func (p *Proxy) SetTarget(target string) { p.tcp.SetTarget(target) }

// Listen returns a new listener for a server, on a free port of 127.0.0.1, and makes it the target of new connections. Call it
// again to start the server again. grpc.Server closes it.
func (p *Proxy) Listen() (net.Listener, error) { return p.tcp.Listen() }

// Client returns a gRPC client of the server behind the proxy, without TLS. opts are added to what that takes.
func (p *Proxy) Client(opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	return p.tcp.Client(opts...)
}

// Close resets every connection, closes the proxy's listener and waits for the proxy's goroutines. Listeners that Listen gave are
// left to the server. The error is the listener's.
func (p *Proxy) Close() error { return p.tcp.Close() }
