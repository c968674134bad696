package bench

import (
	"context"
	"runtime"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream"
)

// Stored is a client with a store in memory.
const Stored Client = "stored"

// Footprint is what one idle stream takes, of both ends together.
type Footprint struct {
	Heap, Stack, Goroutines float64 // bytes, bytes, and their number
}

// Minus returns what f takes more than other.
func (f Footprint) Minus(other Footprint) Footprint {
	return Footprint{f.Heap - other.Heap, f.Stack - other.Stack, f.Goroutines - other.Goroutines}
}

// IdleStreams opens n streams on one connection, lets each receive one message and wait for the next, and returns what one of them
// takes. meanwhile runs while they wait.
func IdleStreams(ctx context.Context, s *Server, c Client, n int, meanwhile func()) (Footprint, error) {
	conn, err := grpc.NewClient(s.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return Footprint{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	received, ended := make(chan error, n), make(chan struct{}, n)
	defer func() {
		cancel()
		_ = conn.Close()
		for range n {
			<-ended
		}
	}()
	before := footprint()
	for i := range n {
		go func() { // ends with ctx; the deferred function waits for it
			defer func() { ended <- struct{}{} }()
			received <- idle(ctx, testpb.NewTestServiceClient(conn), c, i, received)
		}()
	}
	for range n {
		if err := <-received; err != nil {
			return Footprint{}, err
		}
	}
	meanwhile()
	now := footprint().Minus(before)
	return Footprint{now.Heap / float64(n), now.Stack / float64(n), now.Goroutines / float64(n)}, nil
}

// idle is one stream: it receives one message, says so, and waits for the next.
func idle(ctx context.Context, client testpb.TestServiceClient, c Client, i int, received chan<- error) error {
	var s grpc.BidiStreamingClient[request, response]
	var err error
	switch c { //nolint:exhaustive // the others have no store
	case Bare:
		s, err = client.FullDuplexCall(ctx)
	case Stored:
		s, err = stream.Resilient(ctx, client.FullDuplexCall, callbacks(c),
			stream.WithStore(new(checkpoint.Memory), strconv.Itoa(i)), stream.WithStableFor(0))
	default:
		s, err = stream.Resilient(ctx, client.FullDuplexCall, callbacks(c), append(options(c), stream.WithStableFor(0))...)
	}
	if err == nil {
		err = s.Send(newRequest(askAnswer, 0, headerSize))
	}
	if err == nil {
		_, err = s.Recv()
	}
	if err == nil {
		received <- nil
		_, err = s.Recv()
	}
	return err
}

// footprint is what the process takes now.
func footprint() Footprint {
	var m runtime.MemStats
	for range 5 { // a stack shrinks by half with each
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return Footprint{float64(m.HeapAlloc), float64(m.StackInuse), float64(runtime.NumGoroutine())}
}
