package main

import (
	"context"
	"errors"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/streamsafe/streamsafe/stream/streamtest"
)

// Five changes of a server's health, cut everywhere. The server is grpc's own, and the client a stock one.
func TestWatchSurvives(t *testing.T) {
	t.Parallel()
	var service *health.Server
	streamtest.CutEverywhere(t, streamtest.Scenario{
		Serve: func(s *grpc.Server) {
			service = health.NewServer()
			healthpb.RegisterHealthServer(s, service)
		},
		Run: func(ctx context.Context, cc grpc.ClientConnInterface) error {
			ctx, cancel := context.WithCancel(ctx)
			changes, ended := make(chan status), make(chan error, 1)
			go func() { // ends with ctx; the line after the loop waits for it
				ended <- watch(ctx, healthpb.NewHealthClient(cc), func(s status) {
					select {
					case changes <- s:
					case <-ctx.Done():
					}
				})
			}()
			var want, got []status
			for next := healthpb.HealthCheckResponse_SERVING; len(want) < 5 && ctx.Err() == nil; next = 3 - next { // the other one
				service.SetServingStatus("", next)
				want = append(want, next)
				select {
				case s := <-changes:
					got = append(got, s)
				case err := <-ended:
					cancel()
					return errors.Join(err, streamtest.Same(want, got))
				}
			}
			cancel()
			<-ended
			return streamtest.Same(want, got)
		},
	}, streamtest.WithDialOptions(survives()))
}
