package otel_test

import (
	"fmt"

	metricnoop "go.opentelemetry.io/otel/metric/noop"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	streamotel "github.com/streamsafe/streamsafe/observe/otel"
	"github.com/streamsafe/streamsafe/stream"
	"github.com/streamsafe/streamsafe/unary"
)

// One observer is for all. Here nothing is exported. Leave these options out to use the global providers.
func ExampleNew() {
	observer, err := streamotel.New(
		streamotel.WithMeterProvider(metricnoop.NewMeterProvider()),
		streamotel.WithTracerProvider(tracenoop.NewTracerProvider()),
		streamotel.WithStreamNames(), // names of streams are few here
		streamotel.WithTarget("dns:///prices:443"),
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = observer.Close() }()

	_ = stream.WithObserver(observer)              // for stream.Resilient and stream.ServerInterceptor
	_ = unary.WithObserver(observer)               // for unary.ClientInterceptor
	_ = unary.WithObserver(observer.UnaryServer()) // for unary.ServerInterceptor
	fmt.Println("observed")
	// Output: observed
}

// Without grpc's stats/opentelemetry, the observer records the instruments of gRFC A66.
func ExampleWithGRPCMetrics() {
	observer, err := streamotel.New(streamotel.WithMeterProvider(metricnoop.NewMeterProvider()), streamotel.WithGRPCMetrics())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(observer.Close())
	// Output: <nil>
}
