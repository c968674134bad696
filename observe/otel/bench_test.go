package otel_test

import (
	"context"
	"net"
	"testing"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/test/bufconn"

	streamotel "github.com/streamsafe/streamsafe/observe/otel"
	"github.com/streamsafe/streamsafe/stream"
)

// flood sends until the client has gone.
type flood struct {
	testpb.UnimplementedTestServiceServer
}

func (flood) FullDuplexCall(s bidi) error {
	m := &response{Payload: &testpb.Payload{Body: make([]byte, 16)}}
	for {
		if err := s.Send(m); err != nil {
			return err
		}
	}
}

// BenchmarkRecv compares a flood with and without the observer.
func BenchmarkRecv(b *testing.B) {
	for _, name := range []string{"none", "otel"} {
		b.Run("observer="+name, func(b *testing.B) {
			listener, server := bufconn.Listen(1<<20), grpc.NewServer()
			testpb.RegisterTestServiceServer(server, flood{})
			go func() { _ = server.Serve(listener) }() // ends with Stop
			defer server.Stop()
			conn, err := grpc.NewClient("passthrough:///flood", grpc.WithTransportCredentials(insecure.NewCredentials()),
				grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			var opts []stream.ClientOption
			if name == "otel" {
				o, err := streamotel.New(streamotel.WithGRPCMetrics(), streamotel.WithTracerProvider(sdktrace.NewTracerProvider()),
					streamotel.WithMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))))
				if err != nil {
					b.Fatal(err)
				}
				opts = append(opts, stream.WithObserver(o))
			}
			s, err := stream.Resilient(b.Context(), testpb.NewTestServiceClient(conn).FullDuplexCall, stream.Callbacks[request, response]{
				Resume: func(context.Context, *stream.Resumption[request, response]) error { return nil },
			}, opts...)
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = s.Close() }()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Recv(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
