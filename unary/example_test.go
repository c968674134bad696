package unary_test

import (
	"context"
	"fmt"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/fallback"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/unary"
)

// A connection whose calls run under policies: one set for the service, another for its writes.
func ExampleClientInterceptor() {
	conn, err := grpc.NewClient("dns:///service.example:443",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUnaryInterceptor(unary.ClientInterceptor(
			unary.WithPolicies(unary.Interactive().Policies()...),
			unary.WithMethodPolicies("/pkg.Service/Write", unary.CriticalWrite().Policies()...),
			unary.WithIdempotent("/pkg.Service/Get", "/pkg.Service/List"),
		)))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = conn.Close() }()

	client := testpb.NewTestServiceClient(conn)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	// Options of this package are call options, too.
	_, _ = client.UnaryCall(ctx, &testpb.SimpleRequest{}, unary.WithIdempotent("*"))
}

// A server whose handlers stop being called while they keep failing. The interceptor is called by hand here.
func ExampleServerInterceptor() {
	breaker := unary.NewCircuitBreakerBuilder().WithFailureThreshold(3).WithDelay(time.Minute).Build()
	interceptor := unary.ServerInterceptor(unary.WithPolicies(breaker))
	server := grpc.NewServer(grpc.UnaryInterceptor(interceptor))
	defer server.Stop()

	info := &grpc.UnaryServerInfo{FullMethod: "/pkg.Service/Get"}
	for range 5 {
		_, err := interceptor(context.Background(), nil, info, func(context.Context, any) (any, error) {
			return nil, status.Error(codes.Internal, "the database is gone")
		})
		fmt.Println(status.Code(err))
	}
	// Output:
	// Internal
	// Internal
	// Internal
	// Unavailable
	// Unavailable
}

// A preset is numbers, to be printed and changed.
func ExamplePreset() {
	preset := unary.Background()
	preset.MaxRetries = 3
	preset.AttemptTimeout = 5 * time.Second
	fmt.Println(preset)
	fmt.Println(len(preset.Policies()), "policies")
	// Output:
	// background
	//   timeout of the call: 2m0s
	//   bulkhead: 32 calls at a time
	//   retry: 3 times, after up to 500ms, doubling to 20s
	//   retry budget: 20% of attempts
	//   breaker: opens for 10s at 50% of 20 or more attempts in 30s
	//   timeout of an attempt: 5s
	// 5 policies
}

// What is retried can be added to.
func ExampleNewRetryPolicyBuilder() {
	retry := unary.NewRetryPolicyBuilder().
		HandleIf(func(_ any, err error) bool { return status.Code(err) == codes.Aborted }).
		WithMaxRetries(3).
		WithBackoff(time.Millisecond, 10*time.Millisecond).
		Build()
	interceptor := unary.ClientInterceptor(unary.WithPolicies(retry))

	attempts := 0
	err := interceptor(context.Background(), "/pkg.Service/Put", nil, &testpb.Empty{}, nil,
		func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
			if attempts++; attempts < 3 {
				return status.Error(codes.Aborted, "conflict")
			}
			return nil
		})
	fmt.Println(attempts, err)
	// Output: 3 <nil>
}

// A stand-in for a service that is down reaches the caller's reply; errors tell what policies did.
func ExampleError() {
	open := circuitbreaker.NewWithDefaults[any]()
	open.Open()
	call := func(option unary.Option) (*testpb.SimpleResponse, error) {
		reply := &testpb.SimpleResponse{}
		err := unary.ClientInterceptor(option)(context.Background(), "/pkg.Service/Get", nil, reply, nil,
			func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error { return nil })
		return reply, err
	}

	_, err := call(unary.WithPolicies(open))
	fmt.Println(status.Code(err), err)
	_, err = call(unary.WithPolicies(retrypolicy.NewWithDefaults[any](), open))
	fmt.Println(status.Code(err), err)
	reply, err := call(unary.WithPolicies(fallback.NewWithResult[any](&testpb.SimpleResponse{Username: "nobody"}), open))
	fmt.Println(reply.GetUsername(), err)
	// Output:
	// Unavailable unary: /pkg.Service/Get: circuit breaker open (attempts: 0)
	// Unavailable unary: /pkg.Service/Get: retries exceeded: circuit breaker open (attempts: 0)
	// nobody <nil>
}

// Stats counts what happens to calls.
func ExampleStats() {
	stats := &unary.Stats{}
	interceptor := unary.ClientInterceptor(unary.WithObserver(stats),
		unary.WithPolicies(unary.NewRetryPolicyBuilder().WithBackoff(time.Millisecond, time.Millisecond).Build()))
	_ = interceptor(context.Background(), "/pkg.Service/Get", nil, &testpb.Empty{}, nil,
		func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
			return status.Error(codes.Unavailable, "down")
		})
	s := stats.Snapshot()
	fmt.Println(s.Calls, "call,", s.Attempts, "attempts,", s.Retries, "retries")
	// Output: 1 call, 3 attempts, 2 retries
}
