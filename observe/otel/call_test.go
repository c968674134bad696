package otel_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	streamotel "github.com/streamsafe/streamsafe/observe/otel"
	"github.com/streamsafe/streamsafe/tap"
	"github.com/streamsafe/streamsafe/unary"
)

func TestRetriesAndHedgesOfCalls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, withGRPC := range []bool{false, true} {
			var opts []streamotel.Option
			if withGRPC {
				opts = append(opts, streamotel.WithGRPCMetrics())
			}
			w := start(t, []func(bidi) error{sends(0, nil)}, opts...)
			tries := 0
			get := unary.ClientInterceptor(unary.WithIdempotent("*"), unary.WithObserver(w.observer),
				unary.WithPolicies(unary.NewRetryPolicyBuilder().WithMaxRetries(3).Build()))
			err := get(t.Context(), "/pkg.Service/Get", &testpb.SimpleRequest{}, &testpb.SimpleResponse{}, nil, func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
				if tries++; tries < 3 {
					return status.Error(codes.Unavailable, "later")
				}
				return nil
			})
			require.NoError(t, err)
			w.observer.OnCall(unary.Info{Method: "/pkg.Service/Get", Attempt: 3, Hedges: 2}, time.Second, nil)
			method := attrs("grpc.method", "pkg.Service/Get")
			require.Equal(t, map[attribute.Set]float64{method: 2}, w.collect("grpc.client.call.retries"))
			require.Equal(t, map[attribute.Set]float64{method: 2}, w.collect("grpc.client.call.hedges"))
			if !withGRPC {
				require.Empty(t, w.collect("grpc.client.attempt.started"))
				require.Empty(t, w.collect("grpc.client.call.duration"))
				continue
			}
			require.Equal(t, map[attribute.Set]float64{method: 3}, w.collect("grpc.client.attempt.started"))
			require.Equal(t, map[attribute.Set]float64{attrs("grpc.method", "pkg.Service/Get", "grpc.status", "OK"): 2}, w.collect("grpc.client.call.duration"))
			w.observer.UnaryServer().OnCall(unary.Info{Method: "/pkg.Service/Get"}, time.Second, status.Error(4711, "a code of its own"))
			require.Equal(t, map[attribute.Set]float64{attrs("grpc.method", "pkg.Service/Get", "grpc.status", "UNKNOWN"): 1}, w.collect("grpc.server.call.duration"))
		}
	})
}

func TestDenialsAndRefusals(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := start(t, []func(bidi) error{sends(0, nil)})
		require.NoError(t, unary.Validate(unary.WithObserver(w.observer)))
		require.NoError(t, unary.Validate(unary.WithObserver(w.observer.UnaryServer())))
		info := unary.Info{Method: "/pkg.Service/Get"}
		w.observer.OnDenied(info, "circuitbreaker", nil)
		w.observer.UnaryServer().OnDenied(info, "", nil)
		require.Equal(t, map[attribute.Set]float64{
			attrs("grpc.method", "pkg.Service/Get", "streamsafe.policy", "circuitbreaker", "streamsafe.side", "client"): 1,
			attrs("grpc.method", "pkg.Service/Get", "streamsafe.policy", "other", "streamsafe.side", "server"):          1,
		}, w.collect("streamsafe.unary.denied"))
		w.observer.OnRefused(tap.Info{Method: "/any/thing"}, tap.ReasonBulkhead, status.Error(codes.ResourceExhausted, "full"))
		require.Equal(t, map[attribute.Set]float64{
			attrs("streamsafe.reason", tap.ReasonBulkhead.String(), "grpc.status", "RESOURCE_EXHAUSTED"): 1,
		}, w.collect("streamsafe.tap.refused"))
	})
}
