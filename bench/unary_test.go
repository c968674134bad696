package bench

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/failsafegrpc"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/failsafe-go/failsafe-go/timeout"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/streamsafe/streamsafe/internal/verify"
	"github.com/streamsafe/streamsafe/unary"
)

// unaryCase is a set of policies for unary calls, with the greatest part of the time that failsafe-go's own interceptor
// adds which ours may add. Each package builds its own retry policy.
type unaryCase struct {
	name   string
	budget float64
	rest   func() []failsafe.Policy[any]
	retry  bool
}

func unaryCases() []unaryCase {
	none := func() []failsafe.Policy[any] { return nil }
	breaker := func() failsafe.Policy[any] {
		return circuitbreaker.NewBuilder[any]().WithFailureThresholdRatio(10, 20).Build()
	}
	return []unaryCase{
		{"none", 0.5, none, false},
		{"retry", 0.7, none, true},
		{"retry+breaker+timeout", 0.7, func() []failsafe.Policy[any] {
			return []failsafe.Policy[any]{breaker(), timeout.New[any](time.Minute)}
		}, true},
	}
}

// unaryCall is one call of an implementation on one side.
type unaryCall func() error

// unarySides returns what one call costs on either side: bare, by this module, and by failsafe-go's package. Nothing
// goes over a connection, so what is left is what the interceptors add.
func (c unaryCase) unarySides(ctx context.Context) map[string]map[string]unaryCall {
	policies := func(retry retrypolicy.RetryPolicy[any]) []failsafe.Policy[any] {
		if !c.retry {
			return c.rest()
		}
		return append([]failsafe.Policy[any]{retry}, c.rest()...)
	}
	ours, theirs := policies(unary.NewRetryPolicyBuilder().Build()), policies(failsafegrpc.NewRetryPolicyBuilder[any]().Build())
	const method = "/grpc.testing.TestService/UnaryCall"
	req, reply := &testpb.SimpleRequest{}, &testpb.SimpleResponse{}
	opts := []grpc.CallOption{grpc.StaticMethod()} // as generated code has it
	invoke := func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error { return nil }
	client := func(in grpc.UnaryClientInterceptor) unaryCall {
		return func() error { return in(ctx, method, req, reply, nil, invoke, opts...) }
	}
	info := &grpc.UnaryServerInfo{FullMethod: method}
	handle := func(context.Context, any) (any, error) { return reply, nil }
	server := func(in grpc.UnaryServerInterceptor) unaryCall {
		return func() error {
			_, err := in(ctx, req, info, handle)
			return err
		}
	}
	return map[string]map[string]unaryCall{
		"client": {
			"bare":         func() error { return invoke(ctx, method, req, reply, nil, opts...) },
			"streamsafe":   client(unary.ClientInterceptor(unary.WithPolicies(ours...))),
			"failsafegrpc": client(failsafegrpc.NewUnaryClientInterceptor(theirs...)),
		},
		"server": {
			"bare": func() error {
				_, err := handle(ctx, req)
				return err
			},
			"streamsafe":   server(unary.ServerInterceptor(unary.WithPolicies(ours...))),
			"failsafegrpc": server(failsafegrpc.NewUnaryServerInterceptor(theirs...)),
		},
	}
}

// BenchmarkUnary is what an interceptor adds to a call.
func BenchmarkUnary(b *testing.B) {
	for _, c := range unaryCases() {
		for side, calls := range c.unarySides(b.Context()) {
			for impl, call := range calls {
				b.Run("side="+side+"/policies="+c.name+"/impl="+impl, func(b *testing.B) {
					b.ReportAllocs()
					for b.Loop() {
						_ = call()
					}
				})
			}
		}
	}
}

// BenchmarkUnaryRatio is the part of the time which failsafe-go's interceptor adds that ours adds. They take turns every
// few calls, so that a machine which changes its speed changes that of both; the ratio is the median of the turns.
func BenchmarkUnaryRatio(b *testing.B) {
	for _, c := range unaryCases() {
		for side, calls := range c.unarySides(b.Context()) {
			b.Run("side="+side+"/policies="+c.name, func(b *testing.B) {
				var ratios []float64
				for b.Loop() {
					ratios = append(ratios, addedRatio(calls))
				}
				slices.Sort(ratios)
				b.ReportMetric(ratios[len(ratios)/2], "ratio")
				b.ReportMetric(c.budget, "budget")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// addedRatio measures one turn of each.
func addedRatio(calls map[string]unaryCall) float64 {
	took := map[string]float64{}
	for _, impl := range []string{"bare", "failsafegrpc", "streamsafe"} {
		call := calls[impl]
		began := time.Now()
		for range 500 {
			_ = call()
		}
		took[impl] = float64(time.Since(began))
	}
	return (took["streamsafe"] - took["bare"]) / (took["failsafegrpc"] - took["bare"])
}

func TestUnaryAllocations(t *testing.T) { //nolint:paralleltest // it counts the allocations of the whole process
	if verify.Enabled {
		t.Skip("the race detector changes what is allocated")
	}
	for _, c := range unaryCases() {
		for side, calls := range c.unarySides(t.Context()) {
			count := func(impl string) float64 {
				return testing.AllocsPerRun(1000, func() { _ = calls[impl]() })
			}
			ours, theirs := count("streamsafe"), count("failsafegrpc")
			t.Logf("%s, %s: %.0f allocations, theirs %.0f", side, c.name, ours, theirs)
			require.Less(t, ours, theirs, "%s, %s", side, c.name)
		}
	}
}
