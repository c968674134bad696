package compare_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/adaptivethrottler"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/failsafegrpc"
	"github.com/failsafe-go/failsafe-go/priority"
	"github.com/failsafe-go/failsafe-go/timeout"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/streamsafe/streamsafe/tap"
	"github.com/streamsafe/streamsafe/unary"
)

// tapServer answers UnaryCall with what answer returns.
type tapServer struct {
	testpb.UnimplementedTestServiceServer
	answer func(context.Context) error
}

func (s *tapServer) UnaryCall(ctx context.Context, _ *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	if err := s.answer(ctx); err != nil {
		return nil, err
	}
	return &testpb.SimpleResponse{}, nil
}

// tapServe starts a server in memory and returns a function that calls it.
func tapServe(t *testing.T, answer func(context.Context) error, opts ...grpc.ServerOption) func(context.Context) error {
	t.Helper()
	listener := bufconn.Listen(1 << 16)
	server := grpc.NewServer(opts...)
	testpb.RegisterTestServiceServer(server, &tapServer{answer: answer})
	go func() { _ = server.Serve(listener) }() // ends with server.Stop
	conn, err := grpc.NewClient("passthrough:///memory", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, conn.Close())
		server.Stop()
	})
	client := testpb.NewTestServiceClient(conn)
	return func(ctx context.Context) error {
		_, err := client.UnaryCall(ctx, &testpb.SimpleRequest{})
		return err
	}
}

func theirTap(policies ...failsafe.Policy[any]) []grpc.ServerOption {
	return []grpc.ServerOption{grpc.InTapHandle(failsafegrpc.NewServerInHandle(policies...))}
}

func ourTap(t *testing.T, policies ...failsafe.Policy[any]) []grpc.ServerOption {
	t.Helper()
	a, err := tap.NewAccountant(tap.WithPolicies(policies...))
	require.NoError(t, err)
	return a.ServerOptions()
}

// 2, the half that is the tap's: a denial reaches callers as PERMISSION_DENIED.
func Test02StatusThroughATap(t *testing.T) {
	t.Parallel()
	codeOf := func(opts []grpc.ServerOption) codes.Code {
		return status.Code(tapServe(t, func(context.Context) error { return nil }, opts...)(t.Context()))
	}
	assert.Equal(t, codes.PermissionDenied, codeOf(theirTap(bulkhead.New[any](0))))
	assert.Equal(t, codes.ResourceExhausted, codeOf(ourTap(t, bulkhead.New[any](0))))
}

// 9, first half: in a tap a bulkhead holds nothing.
func Test09BulkheadInATap(t *testing.T) {
	t.Parallel()
	const calls = 50
	// inside tells how many of the calls are let in at limit 1, while none of them ends.
	inside := func(opts []grpc.ServerOption) (in int) {
		entered, release := make(chan struct{}, calls), make(chan struct{})
		call := tapServe(t, func(context.Context) error { entered <- struct{}{}; <-release; return nil }, opts...)
		refused := make(chan struct{}, calls)
		for range calls {
			go func() {
				if call(context.Background()) != nil {
					refused <- struct{}{}
				}
			}()
		}
		for range calls {
			select {
			case <-entered:
				in++
			case <-refused:
			}
		}
		close(release)
		return in
	}
	assert.Equal(t, calls, inside(theirTap(bulkhead.New[any](1))))
	assert.Equal(t, 1, inside(ourTap(t, bulkhead.New[any](1))))
}

// 9, second half: in a tap every admission counts as a success of the breaker.
func Test09BreakerInATap(t *testing.T) {
	t.Parallel()
	const calls = 10
	fails := func(context.Context) error { return status.Error(codes.Internal, "broken") }
	stateAfter := func(b circuitbreaker.CircuitBreaker[any], opts []grpc.ServerOption) circuitbreaker.State {
		call := tapServe(t, fails, opts...)
		for range calls {
			require.Error(t, call(t.Context()))
		}
		return b.State()
	}
	theirs := circuitbreaker.NewWithDefaults[any]()
	assert.Equal(t, circuitbreaker.ClosedState, stateAfter(theirs, theirTap(theirs)))
	ours := circuitbreaker.NewWithDefaults[any]()
	assert.Equal(t, circuitbreaker.OpenState, stateAfter(ours, ourTap(t, ours)))
}

// 13: a level from the network is used as an index. Their interceptor hands it to the throttler as it is.
func Test13HostileLevel(t *testing.T) {
	t.Parallel()
	hostile := metadata.Pairs("x-failsafe-level", "99999")
	throttler := func() adaptivethrottler.PriorityThrottler[any] {
		return adaptivethrottler.NewBuilder[any]().BuildPrioritized(adaptivethrottler.NewPrioritizer())
	}
	theirs := throttler()
	assert.Panics(t, func() {
		_, _ = failsafegrpc.NewUnaryServerInterceptorWithLevel(false)(metadata.NewIncomingContext(t.Context(), hostile), nil, nil,
			func(ctx context.Context, _ any) (any, error) {
				require.Equal(t, 99999, priority.LevelFromContext(ctx))
				return nil, theirs.AcquirePermit(ctx)
			})
	})
	a, err := tap.NewAccountant(tap.WithPriority(), tap.WithPolicies(throttler()))
	require.NoError(t, err)
	call := tapServe(t, func(context.Context) error { return nil }, a.ServerOptions()...)
	assert.Equal(t, codes.InvalidArgument, status.Code(call(metadata.NewOutgoingContext(t.Context(), hostile))))
	assert.NoError(t, call(metadata.AppendToOutgoingContext(t.Context(), "x-failsafe-level", "400")))
}

// A timeout in the client cuts its calls. The server has to know: its handler stops by a deadline, and a breaker at its door
// sees what its clients see.
func TestATimeoutReachesTheServer(t *testing.T) {
	t.Parallel()
	const calls = 8
	// seen tells how many of the calls had a deadline, and how many the server's breaker counted.
	seen := func(interceptor grpc.UnaryClientInterceptor) (deadlines, counted int) {
		breaker := circuitbreaker.NewBuilder[any]().WithFailureThreshold(2 * calls).Build()
		known := make(chan bool, calls)
		call := tapServe(t, func(ctx context.Context) error {
			_, ok := ctx.Deadline()
			known <- ok
			<-ctx.Done()
			return ctx.Err()
		}, ourTap(t, breaker)...)
		for range calls {
			err := interceptor(t.Context(), "/grpc.testing.TestService/UnaryCall", nil, nil, nil,
				func(ctx context.Context, _ string, _, _ any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
					return call(ctx)
				})
			require.ErrorIs(t, err, timeout.ErrExceeded)
			if <-known {
				deadlines++
			}
		}
		if deadlines > 0 {
			require.Eventually(t, func() bool { return breaker.Metrics().Executions() == calls }, 10*time.Second, time.Millisecond, "all RPCs end")
		}
		return deadlines, int(breaker.Metrics().Failures())
	}
	limit := timeout.New[any](200 * time.Millisecond)
	deadlines, counted := seen(unary.ClientInterceptor(unary.WithPolicies(limit)))
	assert.Equal(t, calls, deadlines, "streamsafe breaks the rule")
	assert.Equal(t, calls, counted, "streamsafe breaks the rule")
	deadlines, counted = seen(failsafegrpc.NewUnaryClientInterceptor[any](limit))
	assert.Zero(t, deadlines, "failsafegrpc holds the rule now")
	assert.Zero(t, counted, "failsafegrpc holds the rule now")
}
