package stream_test

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/streamsafe/streamsafe/stream"
)

// waitingLog logs what a stream waits for while there is no connection.
type waitingLog struct{}

func (waitingLog) OnWaiting(info stream.Info, cause error) {
	fmt.Printf("%s, attempt %d, waits: %v\n", info.Name, info.Attempt, cause)
}

// A connection that comes back soon after its server, and that is closed if it is dead. The idle limit is what notices that: three
// missing heartbeats here.
func ExampleDialOptions() {
	open := func(ctx context.Context) error {
		conn, err := grpc.NewClient("dns:///feed.example:443", stream.DialOptions(credentials.NewTLS(nil))...)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		s, err := stream.Resilient(ctx, testpb.NewTestServiceClient(conn).FullDuplexCall, stream.Callbacks[request, response]{},
			stream.WithRestart(),
			stream.WithIdleTimeout(15*time.Second),
			stream.WithObserver(waitingLog{}),
		)
		if err != nil {
			return err
		}
		defer func() { _ = s.Close() }()
		for {
			m, err := s.Recv()
			if err != nil {
				return err
			}
			fmt.Println(m)
		}
	}
	_ = open
}
