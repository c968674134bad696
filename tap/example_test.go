package tap_test

import (
	"context"
	"fmt"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	grpctap "google.golang.org/grpc/tap"

	"github.com/streamsafe/streamsafe/tap"
)

// A server that works on a hundred RPCs at a time, and on none while it is broken.
func ExampleNewAccountant() {
	accountant, err := tap.NewAccountant(
		tap.WithPolicies(circuitbreaker.NewWithDefaults[any](), bulkhead.New[any](100)),
		tap.WithRetryDelay(500*time.Millisecond),
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	server := grpc.NewServer(accountant.ServerOptions()...)
	defer server.Stop()
	fmt.Println(accountant.Stats().Running, "running")
	// Output: 0 running
}

// A rate for the server, and a lower one for a method.
func ExampleServerInHandle() {
	options := []tap.Option{
		tap.WithPolicies(ratelimiter.NewBursty[any](1000, time.Second)),
		tap.WithMethodPolicies("/pkg.Service/Report", ratelimiter.NewBursty[any](1, time.Hour)),
	}
	if err := tap.Validate(options...); err != nil {
		fmt.Println(err)
		return
	}
	handle := tap.ServerInHandle(options...)
	server := grpc.NewServer(grpc.InTapHandle(handle))
	defer server.Stop()

	for range 2 { // what grpc does for each RPC
		_, err := handle(context.Background(), &grpctap.Info{FullMethodName: "/pkg.Service/Report"})
		fmt.Println(status.Code(err))
	}
	// Output:
	// OK
	// ResourceExhausted
}

// Each tenant has a rate of its own.
func ExampleWithKey() {
	handle := tap.ServerInHandle(tap.WithKey(tap.ByMetadata("tenant"), func(string) []failsafe.Policy[any] {
		return []failsafe.Policy[any]{ratelimiter.NewBursty[any](1, time.Hour)}
	}, 10_000))
	for _, tenant := range []string{"blue", "blue", "green"} {
		info := &grpctap.Info{FullMethodName: "/pkg.Service/Method", Header: metadata.Pairs("tenant", tenant)}
		_, err := handle(context.Background(), info)
		fmt.Println(tenant, status.Code(err))
	}
	// Output:
	// blue OK
	// blue ResourceExhausted
	// green OK
}

// An own handle before the accountant's: grpc takes only one, and Chain gives permits back where a later one refuses.
func ExampleChain() {
	accountant, err := tap.NewAccountant(tap.WithPolicies(bulkhead.New[any](100)))
	if err != nil {
		fmt.Println(err)
		return
	}
	known := func(ctx context.Context, info *grpctap.Info) (context.Context, error) {
		if len(info.Header["tenant"]) == 0 {
			return ctx, status.Error(codes.Unauthenticated, "who is it?")
		}
		return ctx, nil
	}
	handle := tap.Chain(known, accountant.Handle)
	server := grpc.NewServer(grpc.InTapHandle(handle), grpc.StatsHandler(accountant))
	defer server.Stop()

	_, err = handle(context.Background(), &grpctap.Info{FullMethodName: "/pkg.Service/Method"})
	fmt.Println(err)
	// Output: rpc error: code = Unauthenticated desc = who is it?
}

// refusals passes on what is refused. It may take its time: nobody waits for it.
type refusals chan string

func (r refusals) OnRefused(info tap.Info, reason tap.Reason, _ error) {
	r <- fmt.Sprint(info.Method, " by the ", reason)
}

func ExampleWithObserver() {
	told := make(refusals)
	breaker := circuitbreaker.NewWithDefaults[any]()
	breaker.Open()
	handle := tap.ServerInHandle(tap.WithPolicies(breaker), tap.WithObserver(told))
	_, err := handle(context.Background(), &grpctap.Info{FullMethodName: "/pkg.Service/Method"})
	fmt.Println(status.Code(err))
	fmt.Println(<-told)
	// Output:
	// Unavailable
	// /pkg.Service/Method by the circuit breaker
}
