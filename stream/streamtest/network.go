package streamtest

import (
	"context"
	"net"

	"google.golang.org/grpc"

	"github.com/streamsafe/streamsafe/internal/testnet"
)

// Network is a network in memory that breaks connections on purpose. It does no I/O, so it works in a testing/synctest bubble: make
// it, use it and close it there. Its methods may be called at any time, from any goroutine of the bubble.
type Network struct {
	*faults

	memory *testnet.Memory // set at construction, then read only
}

// NewNetwork returns a network that has no server yet.
func NewNetwork(opts ...Option) *Network {
	memory := testnet.NewMemory()
	return &Network{faults: newFaults(memory.Network, opts), memory: memory}
}

// Listener returns a new listener, for grpc.Server.Serve. New connections go to it from now on. Call it again to start the server
// again. grpc.Server closes it.
func (n *Network) Listener() net.Listener { return n.memory.Listener() }

// Dial connects to the server, for grpc.WithContextDialer. The address is only a name. Dial waits until the server accepts or ctx
// is done. If new connections are refused, or nobody listens, the error is ECONNREFUSED.
func (n *Network) Dial(ctx context.Context, address string) (net.Conn, error) {
	return n.memory.Dial(ctx, address)
}

// Client returns a gRPC client of the server, without TLS. opts are added to what that takes.
func (n *Network) Client(opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	return n.memory.Client(opts...)
}

// Close resets every connection, refuses new ones and waits for the network's goroutines. Listeners are left to the server. The
// error is nil.
func (n *Network) Close() error { return n.memory.Close() }
