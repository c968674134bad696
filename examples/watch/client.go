// Command watch follows the health of a server through a network that keeps breaking. The client is a stock one with an
// interceptor, and the server is grpc's own health service, which knows nothing of streamsafe. It sends the current state first, so
// starting over loses nothing (WithRestart). A watch has no end (WithEndless).
//
// The last line compares what the application saw with what happened:
//
//	changes=N cuts=C lost=0 duplicated=0 reordered=0
package main

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/streamsafe/streamsafe/examples/internal/stage"
	"github.com/streamsafe/streamsafe/stream"
	"github.com/streamsafe/streamsafe/stream/streamtest"
)

type status = healthpb.HealthCheckResponse_ServingStatus

func main() { stage.Main(run, register, streamtest.ToClient, 10, survives()) }

// survives makes the watches of a stock client resilient.
func survives() grpc.DialOption { //nolint:ireturn // of grpc
	resilient := stream.ForMethod(healthpb.Health_Watch_FullMethodName,
		stream.Callbacks[healthpb.HealthCheckRequest, healthpb.HealthCheckResponse]{}, stream.WithEndless(), stream.WithRestart())
	return grpc.WithStreamInterceptor(stream.ClientInterceptor(resilient))
}

// watch hands over each change of the health.
func watch(ctx context.Context, client healthpb.HealthClient, saw func(status)) error {
	s, err := client.Watch(ctx, &healthpb.HealthCheckRequest{})
	if err != nil {
		return err
	}
	last := status(-1)
	for {
		m, err := s.Recv()
		if err != nil {
			return err
		}
		if m.GetStatus() != last { // after a break the current state comes again
			last = m.GetStatus()
			saw(last)
		}
	}
}

func run(ctx context.Context, s *stage.Stage) error {
	changes, ended := make(chan status), make(chan error, 1)
	go func() { ended <- watch(ctx, healthpb.NewHealthClient(s), func(s status) { changes <- s }) }() // ends with ctx

	var want, got []status
	for next := healthpb.HealthCheckResponse_SERVING; len(want) < 100; next = 3 - next { // the other one
		service.SetServingStatus("", next)
		want = append(want, next)
		select {
		case change := <-changes:
			got = append(got, change)
		case err := <-ended:
			return fmt.Errorf("after %d changes: %w", len(got), err)
		}
	}
	return stage.Check(s, "changes", want, got)
}
