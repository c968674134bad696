package main

import (
	"context"
	"time"

	"github.com/failsafe-go/failsafe-go/bulkhead"
	"google.golang.org/grpc"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/streamsafe/streamsafe/tap"
	"github.com/streamsafe/streamsafe/unary"
)

// side is one way to meet the flood.
type side struct {
	name string
	tap  bool // the server has a tap
	safe bool // the clients have policies
}

func sides() []side {
	return []side{{name: "bare"}, {name: "tap", tap: true}, {name: "unary", tap: true, safe: true}}
}

// door returns the accountant that lets no more calls in than can be answered within half a try. The rest are told at
// once to come again later, before they cost the server a stream.
func door(s settings) (*tap.Accountant, error) {
	return tap.NewAccountant(
		tap.WithPolicies(bulkhead.New[any](limit(s))),
		tap.WithRetryDelay(s.try/2),
	)
}

func limit(s settings) uint {
	return uint(max(float64(s.workers), s.capacity()*s.try.Seconds()/2))
}

// preset is what clients do: they wait before they try again, and end when their caller does.
func preset(s settings) unary.Preset {
	p := unary.Interactive()
	p.Name = "clients"
	p.CallTimeout, p.AttemptTimeout = s.patience, s.try
	p.MaxRetries = s.retries
	p.HedgeDelay, p.MaxHedges = 0, 0 // more load is no answer to overload
	p.MaxConcurrent = 0              // the door is the limit
	return p
}

// safe returns an interceptor with the preset. Calls that the door refuses may be tried again: none of them has run.
func safe(s settings) grpc.UnaryClientInterceptor {
	return unary.ClientInterceptor(
		unary.WithPolicies(preset(s).Policies()...),
		unary.WithIdempotent(testpb.TestService_UnaryCall_FullMethodName),
	)
}

// bare is the loop that every team writes: it tries again at once, whatever the error.
func bare(try time.Duration, retries int) grpc.UnaryClientInterceptor {
	return func(
		ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
	) (err error) {
		for range 1 + retries {
			attempt, cancel := context.WithTimeout(ctx, try)
			err = invoke(attempt, method, req, reply, cc, opts...)
			cancel()
			if err == nil || ctx.Err() != nil {
				return err
			}
		}
		return err
	}
}
