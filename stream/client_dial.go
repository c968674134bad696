package stream

import (
	"context"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"

	"github.com/streamsafe/streamsafe/internal/ready"
	"github.com/streamsafe/streamsafe/internal/socket"
)

// The backoff of a connection that DialOptions makes: 100 ms, 160 ms, 256 ms and so on, and at most 1 s with its jitter. So a
// stream is back at most about a second after its server.
const (
	dialFirst  = 100 * time.Millisecond
	dialFactor = 1.6
	dialJitter = 0.2
	dialMost   = 833 * time.Millisecond // times 1.2 is 1 s
	dialLimit  = 5 * time.Second
)

// DialOptions returns options for grpc.NewClient that make resilient streams recover as fast as the network allows:
//
//	conn, err := grpc.NewClient(target, stream.DialOptions(creds)...)
//
// The connection stays an ordinary *grpc.ClientConn. Load balancing, HTTPS_PROXY, unix sockets and dialers work as before.
// Unary calls, and streams that are not resilient, do not change, except that the connection comes back sooner.
//
//   - One backoff. An attempt waits until the connection is ready, as with grpc.WaitForReady(true), and WithOpenTimeout does
//     not count that time. The connection tries again after 100 ms to 1 s, where grpc's default is 1 s to 120 s. To fail
//     fast instead, use grpc.WaitForReady(false) in WithCallOptions.
//   - A connection that is dead and looks alive is closed. If a limit of a stream passes (idle, first message, send,
//     acknowledgement, open), and nothing at all has come from the server meanwhile, the connection is asked for a sign of
//     life: one call of the standard health service. Any answer will do; the server need not have that service. Without
//     an answer within a quarter of the limit (250 ms to 2 s) the connection is closed. grpc connects again, and all
//     streams on it come back, those without limits too. So give each stream that has to notice a dead connection one of
//     these limits, [WithIdleTimeout] for example.
//   - After a break, the streams of one connection come back at a pace of about 2,000 a second.
//   - An error, [WaitingObserver] and [Stats].LastError tell what the connection waits for, and the name of the target.
//   - Codecs and content subtypes that are set with grpc.WithDefaultCallOptions count for WithReplay and
//     HoldUntilCheckpoint.
//
// creds are used as with grpc.WithTransportCredentials. If they are nil, grpc.NewClient returns an error.
//
// opts are put where they belong: they may replace the backoff, and their interceptors come first. If you combine the
// options yourself, put these after interceptors of yours. The health call passes only through interceptors that come
// later.
func DialOptions(creds credentials.TransportCredentials, opts ...grpc.DialOption) []grpc.DialOption {
	d := &dialled{sockets: socket.NewGroup(), gate: ready.NewGate[*grpc.ClientConn]()}
	all := []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
		Backoff: backoff.Config{
			BaseDelay: dialFirst, Multiplier: dialFactor, Jitter: dialJitter, MaxDelay: dialMost,
		},
		MinConnectTimeout: dialLimit,
	})}
	all = append(all, opts...)
	return append(all, grpc.WithTransportCredentials(d.sockets.Credentials(creds)), grpc.WithChainStreamInterceptor(d.intercept))
}

// NewConn is grpc.NewClient with [DialOptions]. Errors are grpc's.
func NewConn(target string, creds credentials.TransportCredentials, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	return grpc.NewClient(target, DialOptions(creds, opts...)...)
}

// dialled is what the connections of one DialOptions have in common.
type dialled struct {
	sockets *socket.Group
	gate    *ready.Gate[*grpc.ClientConn]
}

// intercept opens the stream of an attempt when the connection is ready, and tells the attempt what it is on. It is no part of
// other streams.
func (d *dialled) intercept( //nolint:ireturn // as grpc has it
	ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	l, ok := ctx.Value(linkKey{}).(*link)
	if !ok {
		return streamer(ctx, desc, cc, method, opts...)
	}
	opts, err := l.wrap(opts)
	if err != nil {
		return nil, err
	}
	l.opening(cc, method)
	var opened grpc.ClientStream
	call := func(opts ...grpc.CallOption) (err error) {
		opened, err = streamer(ctx, desc, cc, method, opts...)
		return err
	}
	if failsFast(opts) {
		err = call(opts...)
	} else {
		err = d.gate.Open(ctx, cc, ready.Visitor{
			Again: l.again, Waits: l.clock.hold, News: l.news,
			Call: func(wait bool) error { return call(append(slices.Clip(opts), grpc.WaitForReady(wait))...) },
		})
	}
	if err != nil {
		return nil, err
	}
	l.opened(&route{
		socket: d.sockets.Of(opened.Context()), //nolint:contextcheck // of the stream
		ctx:    ctx,
		probe: func(ctx context.Context, desc *grpc.StreamDesc, method string) (grpc.ClientStream, error) {
			return streamer(ctx, desc, cc, method, probeOptions()...)
		},
	})
	return opened, nil
}

// probeOptions are call options that make a probe what the health service expects, whatever the connection's defaults are.
func probeOptions() []grpc.CallOption {
	return []grpc.CallOption{grpc.WaitForReady(false), grpc.CallContentSubtype(protoName), grpc.ForceCodecV2(codecOf(nil))}
}

// failsFast reports whether the application asks for an error if there is no connection.
func failsFast(opts []grpc.CallOption) (fast bool) {
	for _, opt := range opts {
		if o, ok := opt.(grpc.FailFastCallOption); ok {
			fast = o.FailFast
		}
	}
	return fast
}
