package bench

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/keepalive"

	"github.com/streamsafe/streamsafe/internal/testnet"
	"github.com/streamsafe/streamsafe/stream"
)

// Dial is a way to make a client connection.
type Dial string

const (
	// Defaults is grpc.NewClient as it is.
	Defaults Dial = "grpc.NewClient"
	// Keepalive is grpc.NewClient with the shortest keepalive that grpc-go does, and a server that allows it.
	Keepalive Dial = "grpc.NewClient with keepalive"
	// Dialled is grpc.NewClient with stream.DialOptions.
	Dialled Dial = "stream.DialOptions"
)

// conn makes a connection to an address, and counts its dials.
func (d Dial) conn(address string, dials *atomic.Int64) (*grpc.ClientConn, error) {
	counts := grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
		dials.Add(1)
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	})
	target := "passthrough:///" + address
	switch d {
	case Dialled:
		return stream.NewConn(target, insecure.NewCredentials(), counts)
	case Keepalive:
		return grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()), counts,
			grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: time.Second}))
	case Defaults:
		return grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()), counts)
	default:
		return nil, fmt.Errorf("no way to dial: %q", d)
	}
}

// beacon is a server whose handlers send one message and then are silent. It can stop, and listen again on the same address.
type beacon struct {
	testpb.UnimplementedTestServiceServer

	address string
	server  *grpc.Server

	mu    sync.Mutex // guards the field below
	opens []time.Time
}

// FullDuplexCall notes when it was called.
func (b *beacon) FullDuplexCall(s grpc.BidiStreamingServer[request, response]) error {
	b.mu.Lock()
	b.opens = append(b.opens, time.Now())
	b.mu.Unlock()
	if err := s.Send(newResponse(headerSize)); err != nil {
		return err
	}
	<-s.Context().Done()
	return s.Context().Err()
}

// listen starts the server, on the address that it had before.
func (b *beacon) listen(ctx context.Context) error {
	if b.address == "" {
		b.address = "127.0.0.1:0"
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", b.address)
	if err != nil {
		return err
	}
	b.address = listener.Addr().String()
	b.server = grpc.NewServer(grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second}))
	testpb.RegisterTestServiceServer(b.server, b)
	server := b.server
	go func() { _ = server.Serve(listener) }() // ends with Stop, which waits for it
	return nil
}

// taken returns when handlers were called since the last time.
func (b *beacon) taken() []time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	opens := b.opens
	b.opens = nil
	slices.SortFunc(opens, time.Time.Compare)
	return opens
}

// listens opens a stream that needs nothing from the server to go on.
func listens(ctx context.Context, conn *grpc.ClientConn, opts ...stream.ClientOption) (*stream.ClientStream[request, response], error) {
	return stream.Resilient(ctx, testpb.NewTestServiceClient(conn).FullDuplexCall, stream.Callbacks[request, response]{},
		append(opts, stream.WithRestart())...)
}

// Recovery is an outage, as the client saw it.
type Recovery struct {
	Time  time.Duration // from the server listening again to the next message
	Dials int64         // at the dead address
}

// Recover stops a server for a time, and returns what the client saw.
func Recover(ctx context.Context, d Dial, outage time.Duration) (r Recovery, err error) {
	var b beacon
	if err := b.listen(ctx); err != nil {
		return r, err
	}
	defer func() { b.server.Stop() }()
	var dials atomic.Int64
	conn, err := d.conn(b.address, &dials)
	if err != nil {
		return r, err
	}
	defer func() { _ = conn.Close() }()
	s, err := listens(ctx, conn)
	if err != nil {
		return r, err
	}
	defer func() { _ = s.Close() }()
	if _, err := s.Recv(); err != nil {
		return r, err
	}
	back := make(chan error, 1)
	go func() { // ends with the next message; a line below waits
		_, err := s.Recv()
		back <- err
	}()
	before := dials.Load()
	b.server.Stop()
	sleep(ctx, outage)
	r.Dials = dials.Load() - before
	began := time.Now()
	if err := b.listen(ctx); err != nil {
		return r, err
	}
	err = <-back
	r.Time = time.Since(began)
	return r, err
}

// BlackHole puts a connection into a black hole, and returns how long the next message takes, for a stream with an idle limit. It
// reports false if none comes within patience.
func BlackHole(ctx context.Context, d Dial, idle, patience time.Duration) (took time.Duration, back bool, err error) {
	var b beacon
	if err := b.listen(ctx); err != nil {
		return 0, false, err
	}
	defer func() { b.server.Stop() }()
	network, err := testnet.NewTCP(b.address) //nolint:contextcheck // its life is this function's
	if err != nil {
		return 0, false, err
	}
	defer func() { _ = network.Close() }()
	conn, err := d.conn(network.Addr(), new(atomic.Int64))
	if err != nil {
		return 0, false, err
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := listens(ctx, conn, stream.WithIdleTimeout(idle))
	if err != nil {
		return 0, false, err
	}
	defer func() { _ = s.Close() }()
	if _, err := s.Recv(); err != nil {
		return 0, false, err
	}
	network.Cut(testnet.BlackHole)
	began := time.Now()
	stop := time.AfterFunc(patience, cancel).Stop
	defer stop()
	_, err = s.Recv()
	if took = time.Since(began); err != nil && took >= patience {
		return took, false, nil
	}
	return took, err == nil, err
}

// Herd is how many streams came back to a server.
type Herd struct {
	Streams int
	Took    time.Duration // from the server listening again to the last open
	Windows []int         // opens in each 100 ms, from the first to the last
}

// herdWindow is the width of a window.
const herdWindow = 100 * time.Millisecond

// Most returns the most opens in one window, and how many there are on average.
func (h Herd) Most() (most int, mean float64) {
	return slices.Max(h.Windows), float64(h.Streams) / float64(len(h.Windows))
}

// Stampede opens so many streams on one connection, stops the server for a time, and returns how they came back.
func Stampede(ctx context.Context, d Dial, streams int, outage time.Duration) (h Herd, err error) {
	var b beacon
	if err := b.listen(ctx); err != nil {
		return h, err
	}
	defer func() { b.server.Stop() }()
	conn, err := d.conn(b.address, new(atomic.Int64))
	if err != nil {
		return h, err
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithCancel(ctx)
	back := make(chan error, streams)
	defer func() { // the streams end with ctx
		cancel()
		for range cap(back) {
			<-back
		}
	}()
	again := make(chan struct{}, streams)
	for range streams {
		s, err := listens(ctx, conn)
		if err == nil {
			_, err = s.Recv()
		}
		if err != nil {
			back = make(chan error)
			return h, err
		}
		go func() { // ends with ctx; the function above waits
			_, err := s.Recv()
			again <- struct{}{}
			if err == nil {
				<-ctx.Done()
			}
			back <- s.Close()
		}()
	}
	b.taken()
	b.server.Stop()
	sleep(ctx, outage)
	began := time.Now()
	if err := b.listen(ctx); err != nil {
		return h, err
	}
	for range streams {
		<-again
	}
	opens := b.taken()
	h.Streams, h.Took = len(opens), opens[len(opens)-1].Sub(began)
	for _, at := range opens {
		i := int(at.Sub(opens[0]) / herdWindow)
		for len(h.Windows) <= i {
			h.Windows = append(h.Windows, 0)
		}
		h.Windows[i]++
	}
	return h, nil
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
