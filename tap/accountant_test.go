package tap_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	grpctap "google.golang.org/grpc/tap"

	"github.com/streamsafe/streamsafe/internal/rpcstatus"
	"github.com/streamsafe/streamsafe/tap"
)

// 9 of the list in bench/compare: a bulkhead in a tap holds nothing, 50 of 50 are admitted at limit 1.
func Test09BulkheadInATapHoldsItsPermits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		a := accountant(t, tap.WithPolicies(bulkhead.New[any](1)))
		conn := serve(t, &service{unary: func(context.Context) error { <-release; return nil }}, a.ServerOptions()...)
		results := make(chan error, 50)
		for range 50 {
			go func() { results <- call(t.Context(), conn) }()
		}
		synctest.Wait()
		assert.Equal(t, int64(1), a.Stats().Running)
		for range 49 {
			assert.Equal(t, codes.ResourceExhausted, status.Code(<-results))
		}
		close(release)
		require.NoError(t, <-results, "the one that was let in")
		require.NoError(t, call(t.Context(), conn), "the permit is back")
		synctest.Wait()
		s := a.Stats()
		assert.Equal(t, uint64(49), s.Refused[tap.ReasonBulkhead])
		assert.Equal(t, uint64(2), s.Admitted)
		assert.Equal(t, uint64(2), s.Ended)
		assert.Zero(t, s.Running)
	})
}

// 9, too: every admission counts as a success of the breaker.
func Test09BreakerInATapSeesTheRealOutcome(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		answer := error(nil)
		breaker := circuitbreaker.NewBuilder[any]().WithFailureThreshold(3).WithDelay(time.Minute).Build()
		a := accountant(t, tap.WithPolicies(breaker))
		conn := serve(t, &service{unary: func(context.Context) error { return answer }}, a.ServerOptions()...)

		answer = status.Error(codes.InvalidArgument, "the client's fault")
		for range 10 {
			require.Equal(t, codes.InvalidArgument, status.Code(call(t.Context(), conn)))
		}
		synctest.Wait()
		require.True(t, breaker.IsClosed(), "no client can open the breaker")

		answer = status.Error(codes.Internal, "the server's fault")
		for range 3 {
			require.Equal(t, codes.Internal, status.Code(call(t.Context(), conn)))
			synctest.Wait()
		}
		require.True(t, breaker.IsOpen())
		time.Sleep(20 * time.Second)
		err := call(t.Context(), conn)
		require.Equal(t, codes.Unavailable, status.Code(err))
		require.Equal(t, rpcstatus.Hint{Given: true, Delay: 40 * time.Second}, rpcstatus.HintOf(err, nil), "when to come again")
		assert.Equal(t, uint64(3), a.Stats().Failed)
		assert.Equal(t, uint64(1), a.Stats().Refused[tap.ReasonCircuitBreaker])

		answer = nil
		time.Sleep(40 * time.Second)
		for range 3 {
			require.NoError(t, call(t.Context(), conn))
			synctest.Wait()
		}
		require.True(t, breaker.IsClosed())
	})
}

// A zombie handler goes on working for a client that has gone: its permit is not free.
func TestPermitsAreHeldUntilTheHandlerReturns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		a := accountant(t, tap.WithPolicies(bulkhead.New[any](1)))
		conn := serve(t, &service{unary: func(context.Context) error { <-release; return nil }}, a.ServerOptions()...)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.Equal(t, codes.DeadlineExceeded, status.Code(call(ctx, conn)))
		synctest.Wait()
		require.Equal(t, codes.ResourceExhausted, status.Code(call(t.Context(), conn)), "the handler still runs")
		close(release)
		synctest.Wait()
		require.NoError(t, call(t.Context(), conn))
	})
}

// A client that opens and cancels in a loop (HTTP/2 rapid reset) gets no more handlers than the bulkhead has permits.
func TestRapidResetStaysWithinTheLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const limit = 5
		var mu sync.Mutex
		working, most := 0, 0
		a := accountant(t, tap.WithPolicies(bulkhead.New[any](limit)))
		conn := serve(t, &service{unary: func(context.Context) error {
			mu.Lock()
			working++
			most = max(most, working)
			mu.Unlock()
			time.Sleep(time.Second) // whatever the client does
			mu.Lock()
			working--
			mu.Unlock()
			return nil
		}}, a.ServerOptions()...)
		require.NoError(t, call(t.Context(), conn), "the method is known from here on")
		for range 500 {
			ctx, cancel := context.WithCancel(t.Context())
			go func() { _ = call(ctx, conn) }()
			time.Sleep(time.Millisecond)
			cancel()
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		assert.LessOrEqual(t, most, limit)
		s := a.Stats()
		assert.Zero(t, s.Running)
		assert.Equal(t, s.Admitted, s.Ended+s.Unstarted)
		assert.Positive(t, s.Refused[tap.ReasonBulkhead])
	})
}

// Each of these RPCs passes the tap and never gets a handler: no End tells of it.
func TestRPCsThatNeverRunGiveTheirPermitsBack(t *testing.T) {
	t.Parallel()
	for name, never := range map[string]func(t *testing.T, conn *grpc.ClientConn){
		"unknown method": func(t *testing.T, conn *grpc.ClientConn) {
			t.Helper()
			err := conn.Invoke(t.Context(), "/grpc.testing.TestService/Nothing", &testpb.Empty{}, &testpb.Empty{})
			require.Equal(t, codes.Unimplemented, status.Code(err))
		},
		"unknown service": func(t *testing.T, conn *grpc.ClientConn) {
			t.Helper()
			err := conn.Invoke(t.Context(), "/nobody.Service/Nothing", &testpb.Empty{}, &testpb.Empty{})
			require.Equal(t, codes.Unimplemented, status.Code(err))
		},
		"unknown method, cancelled": func(t *testing.T, conn *grpc.ClientConn) {
			t.Helper()
			ctx, cancel := context.WithCancel(t.Context())
			s, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/nobody.Service/Nothing")
			require.NoError(t, err)
			cancel()
			require.Error(t, s.RecvMsg(&testpb.Empty{}))
		},
		"no method": func(t *testing.T, conn *grpc.ClientConn) {
			t.Helper()
			err := conn.Invoke(t.Context(), "nonsense", &testpb.Empty{}, &testpb.Empty{})
			require.Error(t, err)
			err = conn.Invoke(t.Context(), "/nonsense", &testpb.Empty{}, &testpb.Empty{})
			require.Equal(t, codes.Unimplemented, status.Code(err))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := bulkhead.New[any](1)
				a := accountant(t, tap.WithPolicies(b))
				conn := serve(t, &service{}, a.ServerOptions()...)
				for range 3 {
					never(t, conn)
					synctest.Wait()
					assert.Zero(t, a.Stats().Running)
				}
				require.NoError(t, call(t.Context(), conn))
				synctest.Wait()
				require.True(t, b.TryAcquirePermit(), "the permit is back")
				require.False(t, b.TryAcquirePermit(), "and only one")
			})
		})
	}
}

// The deadline passes between the tap and grpc's next look at it: grpc drops the RPC, and says nothing.
func TestADeadlineThatPassesAtTheDoorGivesThePermitBack(t *testing.T) {
	t.Parallel()
	type mark struct{}
	for name, next := range map[string]func(context.Context) context.Context{
		"as it is": func(ctx context.Context) context.Context { return ctx },
		"value":    func(ctx context.Context) context.Context { return context.WithValue(ctx, mark{}, 1) },
		"cancel": func(ctx context.Context) context.Context {
			ctx, cancel := context.WithCancel(ctx)
			context.AfterFunc(ctx, cancel)
			return ctx
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := bulkhead.New[any](1)
				a := accountant(t, tap.WithPolicies(b))
				slow := func(ctx context.Context, _ *grpctap.Info) (context.Context, error) {
					ctx = next(ctx)
					time.Sleep(2 * time.Second)
					return ctx, nil
				}
				conn := serve(t, &service{}, grpc.InTapHandle(tap.Chain(a.Handle, slow)), grpc.StatsHandler(a))
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				require.Equal(t, codes.DeadlineExceeded, status.Code(call(ctx, conn)))
				time.Sleep(10 * time.Second)
				s := a.Stats()
				assert.Equal(t, uint64(1), s.Admitted)
				assert.Equal(t, uint64(1), s.Unstarted)
				require.True(t, b.TryAcquirePermit(), "the permit is back")
				b.ReleasePermit()
				require.NoError(t, call(t.Context(), conn))
				synctest.Wait()
				require.Zero(t, a.Stats().Running)
			})
		})
	}
}

// What the accountant relies on: between the tap and the stats handler grpc asks the context that the tap returned, and
// nobody else does.
func TestGRPCAsksTheContextBeforeTheStatsHandlerHearsOfIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var order []string
		var mu sync.Mutex
		note := func(what string) { mu.Lock(); order = append(order, what); mu.Unlock() }
		handle := func(ctx context.Context, _ *grpctap.Info) (context.Context, error) {
			note("tap")
			return spyContext{ctx, func() { note("err") }}, nil
		}
		conn := serve(t, &service{}, grpc.InTapHandle(handle), grpc.StatsHandler(spyHandler{func() { note("tag") }}))
		require.NoError(t, call(t.Context(), conn))
		require.Equal(t, []string{"tap", "err", "tag"}, order[:3])
	})
}

type spyContext struct {
	context.Context
	asked func()
}

func (c spyContext) Err() error { c.asked(); return c.Context.Err() }

type spyHandler struct{ tagged func() }

func (h spyHandler) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context {
	h.tagged()
	return ctx
}
func (h spyHandler) HandleRPC(context.Context, stats.RPCStats)                         {}
func (h spyHandler) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (h spyHandler) HandleConn(context.Context, stats.ConnStats)                       {}

// A server does no work for a caller that has gone.
func TestAnExpiredRPCIsRefusedBeforeAnyPolicyIsAsked(t *testing.T) {
	t.Parallel()
	limiter := ratelimiter.NewBursty[any](1, time.Hour)
	ctx, cancel := context.WithTimeout(t.Context(), -1)
	defer cancel()
	a := accountant(t, tap.WithPolicies(limiter))
	for _, handle := range []grpctap.ServerInHandle{tap.ServerInHandle(tap.WithPolicies(limiter)), a.Handle} {
		_, err := handle(ctx, &grpctap.Info{FullMethodName: unaryCall})
		require.Equal(t, codes.DeadlineExceeded, status.Code(err))
	}
	require.True(t, limiter.TryAcquirePermit(), "nothing was spent")
	require.Equal(t, uint64(1), a.Stats().Refused[tap.ReasonExpired])
}

func TestStreamsPassTheTapToo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := accountant(t, tap.WithMethodPolicies(duplexCall, bulkhead.New[any](1)))
		conn := serve(t, &service{duplex: func(
			s grpc.BidiStreamingServer[testpb.StreamingOutputCallRequest, testpb.StreamingOutputCallResponse],
		) error {
			_, err := s.Recv()
			return err
		}}, a.ServerOptions()...)
		client := testpb.NewTestServiceClient(conn)
		first, err := client.FullDuplexCall(t.Context())
		require.NoError(t, err)
		synctest.Wait()
		second, err := client.FullDuplexCall(t.Context())
		require.NoError(t, err)
		_, err = second.Recv()
		require.Equal(t, codes.ResourceExhausted, status.Code(err))
		require.NoError(t, first.CloseSend())
		_, err = first.Recv()
		require.Error(t, err)
		synctest.Wait()
		require.Zero(t, a.Stats().Running)
		require.NoError(t, call(t.Context(), conn))
	})
}
