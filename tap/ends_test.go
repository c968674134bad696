package tap_test

import (
	"context"
	"errors"
	"net"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go/adaptivelimiter"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	grpctap "google.golang.org/grpc/tap"

	"github.com/streamsafe/streamsafe/tap"
)

// A client that cancels before its deadline has left. That it has a deadline makes it no fault of the server.
func TestACancelBeforeTheDeadlineIsNoFault(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		breaker := circuitbreaker.NewBuilder[any]().WithFailureThreshold(1).Build()
		limiter := &spyLimiter{AdaptiveLimiter: adaptivelimiter.NewWithDefaults[any]()}
		a := accountant(t, tap.WithPolicies(breaker, limiter))
		conn := serve(t, &service{unary: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}, a.ServerOptions()...)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		time.AfterFunc(time.Second, cancel)
		require.Equal(t, codes.Canceled, status.Code(call(ctx, conn)))
		synctest.Wait()
		require.True(t, breaker.IsClosed())
		require.Zero(t, breaker.Metrics().Executions())
		require.Zero(t, a.Stats().Failed)
		require.Equal(t, [2]int{0, 1}, [2]int{limiter.recorded, limiter.dropped})
	})
}

// listen starts a server on a socket and returns its address.
func listen(t *testing.T, s testpb.TestServiceServer, opts ...grpc.ServerOption) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := grpc.NewServer(opts...)
	testpb.RegisterTestServiceServer(server, s)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }() // ends with server.Stop; the cleanup waits
	t.Cleanup(func() {
		server.Stop()
		require.NoError(t, <-served)
	})
	return listener.Addr().String()
}

func dial(t *testing.T, address string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	return conn
}

// A deadline is a fault of the server whoever minds it first: over a network, the client's cancellation may come before the
// server's own timer.
func TestADeadlineOverANetworkIsAFault(t *testing.T) {
	t.Parallel()
	const calls = 30
	breaker := circuitbreaker.NewBuilder[any]().WithFailureThreshold(2 * calls).Build()
	a := accountant(t, tap.WithPolicies(breaker))
	conn := dial(t, listen(t, &service{unary: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}, a.ServerOptions()...))
	for range calls {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		require.Equal(t, codes.DeadlineExceeded, status.Code(call(ctx, conn)))
		cancel()
	}
	require.Eventually(t, func() bool { return a.Stats().Running == 0 }, 10*time.Second, time.Millisecond, "all RPCs end")
	require.GreaterOrEqual(t, breaker.Metrics().Failures(), uint(calls/2), "most: on a busy machine some cancellations overtake what they cancel by more than the slack")
}

// A permit is free when the handler has returned: a client that calls again at once finds it. Before, of 1,500 calls one
// after the other some dozen were refused at a limit of one.
func TestPermitsAreBackBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]tap.Option{
		"bulkhead":         {tap.WithPolicies(bulkhead.New[any](1))},
		"adaptive limiter": {tap.WithPolicies(adaptivelimiter.NewBuilder[any]().WithLimits(1, 1, 1).Build())},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := accountant(t, opts...)
			conn := dial(t, listen(t, &service{duplex: func(
				grpc.BidiStreamingServer[testpb.StreamingOutputCallRequest, testpb.StreamingOutputCallResponse],
			) error {
				return nil
			}}, a.ServerOptions()...))
			for range 1500 {
				require.NoError(t, call(t.Context(), conn))
			}
			for range 300 {
				s, err := testpb.NewTestServiceClient(conn).FullDuplexCall(t.Context())
				require.NoError(t, err)
				_, err = s.Recv()
				require.NotEqual(t, codes.ResourceExhausted, status.Code(err))
			}
		})
	}
}

// The permits come back once, whichever way the handler ends, and the verdict comes with the end.
func TestWaysOutOfAHandler(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		handler func(context.Context) error
		opens   bool
	}{
		"return": {func(context.Context) error { return nil }, false},
		"fails":  {func(context.Context) error { return status.Error(codes.Internal, "broken") }, true},
		"panics": {func(context.Context) error { panic("boom") }, true}, //nolint:forbidigo // what it is for
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b, breaker := bulkhead.New[any](1), circuitbreaker.NewBuilder[any]().WithFailureThreshold(1).Build()
				a := accountant(t, tap.WithPolicies(b, breaker))
				recovers := func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (reply any, err error) {
					defer func() {
						if recover() != nil {
							err = status.Error(codes.Internal, "panic")
						}
					}()
					return h(ctx, req)
				}
				conn := serve(t, &service{unary: c.handler}, append(a.ServerOptions(), grpc.UnaryInterceptor(recovers))...)
				_ = call(t.Context(), conn)
				synctest.Wait()
				require.Equal(t, c.opens, breaker.IsOpen())
				require.True(t, b.TryAcquirePermit(), "the permit is back")
				require.False(t, b.TryAcquirePermit(), "and only one")
			})
		})
	}
	t.Run("Goexit", func(t *testing.T) {
		t.Parallel()
		b := bulkhead.New[any](1)
		a := accountant(t, tap.WithPolicies(b))
		ctx := begin(t, a, unaryCall)
		done := make(chan struct{})
		go func() { // ends with Goexit
			defer close(done)
			_, _ = a.UnaryInterceptor(ctx, nil, nil, func(context.Context, any) (any, error) {
				runtime.Goexit()
				return nil, errors.New("not reached")
			})
		}()
		<-done
		require.True(t, b.TryAcquirePermit())
	})
}

// begin takes an RPC to the point where its handler runs.
func begin(t *testing.T, a *tap.Accountant, method string) context.Context {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	ctx, err := a.Handle(ctx, &grpctap.Info{FullMethodName: method})
	require.NoError(t, err)
	require.NoError(t, ctx.Err())
	ctx = a.TagRPC(ctx, &stats.RPCTagInfo{FullMethodName: method})
	a.HandleRPC(ctx, &stats.Begin{})
	return ctx
}

// A panic of the user's own code leaves no permit behind, of the policies before it and of those after it.
func TestPanicsLeakNoPermit(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	failing := &stats.End{Error: status.Error(codes.Internal, "broken")}
	t.Run("a breaker's condition", func(t *testing.T) {
		t.Parallel()
		before, after := bulkhead.New[any](1), bulkhead.New[any](1)
		breaker := circuitbreaker.NewBuilder[any]().HandleIf(func(any, error) bool { panic(boom) }).WithSuccessThreshold(1).Build() //nolint:forbidigo // what it is for
		a := accountant(t, tap.WithPolicies(before, breaker, after))
		for range 3 {
			breaker.HalfOpen()
			ctx := begin(t, a, unaryCall)
			require.PanicsWithError(t, "boom", func() { a.HandleRPC(ctx, failing) })
			for _, b := range []bulkhead.Bulkhead[any]{before, after} {
				require.True(t, b.TryAcquirePermit(), "the permit is lost")
				b.ReleasePermit()
			}
		}
		require.Zero(t, a.Stats().Running)
	})
	t.Run("WithServerFault", func(t *testing.T) {
		t.Parallel()
		limit := bulkhead.New[any](1)
		a := accountant(t, tap.WithPolicies(limit), tap.WithServerFault(func(error) bool { panic(boom) })) //nolint:forbidigo // what it is for
		ctx := begin(t, a, unaryCall)
		require.PanicsWithError(t, "boom", func() { a.HandleRPC(ctx, failing) })
		require.True(t, limit.TryAcquirePermit(), "the permit is lost")
	})
	t.Run("a key", func(t *testing.T) {
		t.Parallel()
		limit := bulkhead.New[any](1)
		var calls atomic.Int32
		a := accountant(t, tap.WithKey(func(context.Context, *grpctap.Info) string { return "one" },
			func(string) []policy { return []policy{limit} }, 0),
			tap.WithKey(func(context.Context, *grpctap.Info) string { calls.Add(1); panic(boom) }, //nolint:forbidigo // what it is for
				func(string) []policy { return nil }, 0))
		_, err := a.Handle(t.Context(), &grpctap.Info{FullMethodName: unaryCall})
		require.Equal(t, codes.Internal, status.Code(err), "the RPC is refused, and the server lives")
		require.ErrorContains(t, err, "boom")
		require.True(t, limit.TryAcquirePermit(), "the permit is lost")
		_, err = tap.ServerInHandle(tap.WithKey(func(context.Context, *grpctap.Info) string { panic(boom) }, //nolint:forbidigo // what it is for
			func(string) []policy { return nil }, 0))(t.Context(), &grpctap.Info{FullMethodName: unaryCall})
		require.Equal(t, codes.Internal, status.Code(err))
	})
}
