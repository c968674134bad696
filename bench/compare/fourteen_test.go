package compare

import (
	"context"
	"errors"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/failsafegrpc"
	"github.com/failsafe-go/failsafe-go/fallback"
	"github.com/failsafe-go/failsafe-go/hedgepolicy"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/stretchr/testify/assert"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/streamsafe/streamsafe/stream"
	"github.com/streamsafe/streamsafe/unary"
)

// Two attempts that run at the same time must not write to the same reply, nor to the same target for headers.
func Test01HedgesShareReplyAndTargets(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		compare(t, func(t *testing.T, m maker) bool {
			t.Helper()
			var mu sync.Mutex
			replies, headers := map[*response]bool{}, map[*metadata.MD]bool{}
			var header metadata.MD
			_, err := call(t.Context(), m.client(hedgepolicy.NewWithDelay[any](time.Millisecond)),
				func(_ context.Context, reply *response, opts []grpc.CallOption) error {
					mu.Lock()
					replies[reply] = true
					for _, opt := range opts {
						if target, ok := opt.(grpc.HeaderCallOption); ok {
							headers[target.HeaderAddr] = true
						}
					}
					mu.Unlock()
					time.Sleep(time.Second)
					return nil
				}, grpc.Header(&header))
			time.Sleep(time.Minute)
			assert.NoError(t, err)
			mu.Lock()
			defer mu.Unlock()
			return len(replies) == 2 && len(headers) == 2
		})
	})
}

func Test02PolicyErrorsAreUnknown(t *testing.T) {
	t.Parallel()
	compare(t, func(t *testing.T, m maker) bool {
		t.Helper()
		open := circuitbreaker.NewWithDefaults[any]()
		open.Open()
		full := bulkhead.New[any](1)
		full.TryAcquirePermit()
		code := func(p policy) codes.Code {
			_, err := call(t.Context(), m.client(p), func(context.Context, *response, []grpc.CallOption) error { return nil })
			return status.Code(err)
		}
		return code(open) == codes.Unavailable && code(full) == codes.ResourceExhausted
	})
}

func Test03RetryHidesTheCallersDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		compare(t, func(t *testing.T, m maker) bool {
			t.Helper()
			wait := func(ctx context.Context, _ *response, _ []grpc.CallOption) error {
				<-ctx.Done()
				return status.FromContextError(ctx.Err()).Err()
			}
			in := m.client(retrypolicy.NewWithDefaults[any]())
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, deadline := call(ctx, in, wait)
			ctx, cancel = context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			_, cancelled := call(ctx, in, wait)
			return status.Code(deadline) == codes.DeadlineExceeded && status.Code(cancelled) == codes.Canceled
		})
	})
}

func Test04ServersHintsAreIgnored(t *testing.T) {
	t.Parallel()
	hinted, err := status.New(codes.Unavailable, "later").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(2 * time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		own := map[bool]policy{true: unary.NewRetryPolicyBuilder().Build(), false: failsafegrpc.NewRetryPolicyBuilder[any]().Build()}
		isOurs := true
		compare(t, func(t *testing.T, m maker) bool {
			t.Helper()
			in := m.client(own[isOurs])
			isOurs = false
			began := time.Now()
			_, _ = call(t.Context(), in, func(context.Context, *response, []grpc.CallOption) error { return hinted.Err() })
			waited := time.Since(began) >= 4*time.Second

			attempts := 0
			_, _ = call(t.Context(), in, func(_ context.Context, _ *response, opts []grpc.CallOption) error {
				attempts++
				for _, opt := range opts {
					if target, ok := opt.(grpc.TrailerCallOption); ok {
						*target.TrailerAddr = metadata.Pairs("grpc-retry-pushback-ms", "-1")
					}
				}
				return status.Error(codes.Unavailable, "do not come back")
			}, grpc.Trailer(&metadata.MD{}))
			return waited && attempts == 1
		})
	})
}

func Test05ExecutorsContextLeavesGoroutines(t *testing.T) { //nolint:paralleltest // it counts the goroutines of the process
	synctest.Test(t, func(t *testing.T) {
		compare(t, func(t *testing.T, m maker) bool {
			t.Helper()
			own, cancel := context.WithCancel(t.Context())
			defer cancel()
			caller, stop := context.WithCancel(t.Context())
			defer stop()
			in := m.clientExecutor(failsafe.With[any]().WithContext(own))
			synctest.Wait()
			before := runtime.NumGoroutine()
			for range 200 {
				_, err := call(caller, in, func(context.Context, *response, []grpc.CallOption) error { return nil })
				assert.NoError(t, err)
			}
			synctest.Wait()
			return runtime.NumGoroutine() < before+100
		})
	})
}

func Test06ServersReplyIsReplaced(t *testing.T) {
	t.Parallel()
	typed := failsafegrpc.NewUnaryServerInterceptor[*request](retrypolicy.NewWithDefaults[*request]())
	got, err := handle(t.Context(), typed, func(context.Context) (any, error) { return text("the reply"), nil })
	assert.NoError(t, err)
	assert.NotEqual(t, text("the reply"), got, "failsafegrpc holds the rule now")

	want := text("the reply")
	got, err = handle(t.Context(), ours().server(retrypolicy.NewWithDefaults[any]()), func(context.Context) (any, error) { return want, nil })
	assert.NoError(t, err)
	assert.Same(t, want, got, "streamsafe breaks the rule")
}

func Test07FallbackNeverReachesTheReply(t *testing.T) {
	t.Parallel()
	compare(t, func(t *testing.T, m maker) bool {
		t.Helper()
		reply, err := call(t.Context(), m.client(fallback.NewWithResult[any](text("stand-in"))),
			func(context.Context, *response, []grpc.CallOption) error {
				return status.Error(codes.Internal, "broken")
			})
		assert.NoError(t, err)
		return textOf(reply) == "stand-in"
	})
}

// The reply's type is not the policies', as it is on a connection with more than one method.
func Test08PredicateSeesNil(t *testing.T) {
	t.Parallel()
	nilSeen := false
	typed := failsafegrpc.NewUnaryClientInterceptor[*request](
		retrypolicy.NewBuilder[*request]().HandleIf(func(r *request, _ error) bool { nilSeen = nilSeen || r == nil; return false }).Build())
	_, err := call(t.Context(), typed, func(context.Context, *response, []grpc.CallOption) error { return nil })
	assert.NoError(t, err)
	assert.True(t, nilSeen, "failsafegrpc holds the rule now")

	compare(t, func(t *testing.T, m maker) bool {
		t.Helper()
		open := circuitbreaker.NewWithDefaults[any]()
		open.Open()
		nilSeen := false
		_, _ = call(t.Context(), m.client(
			retrypolicy.NewBuilder[any]().HandleIf(func(r any, _ error) bool { nilSeen = nilSeen || r == nil; return false }).Build(), open),
			func(context.Context, *response, []grpc.CallOption) error { return nil })
		return !nilSeen
	})
}

func Test10ServerWorksForACallerThatHasGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		compare(t, func(t *testing.T, m maker) bool {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
			defer cancel()
			in := m.server(retrypolicy.NewBuilder[any]().WithDelay(time.Second).WithMaxRetries(9).Build())
			tries := 0
			_, err := handle(ctx, in, func(context.Context) (any, error) {
				tries++
				return nil, errors.New("broken")
			})
			return tries == 2 && status.Code(err) == codes.DeadlineExceeded
		})
	})
}

func Test11PanicKeepsThePermit(t *testing.T) {
	t.Parallel()
	compare(t, func(t *testing.T, m maker) bool {
		t.Helper()
		limit := bulkhead.New[any](1)
		assert.Panics(t, func() {
			_, _ = handle(t.Context(), m.server(limit), func(context.Context) (any, error) {
				panic("broken") //nolint:forbidigo // what it is about
			})
		})
		return limit.TryAcquirePermit()
	})
}

func Test12FailingHedgeBeatsTheFirstTry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		compare(t, func(t *testing.T, m maker) bool {
			t.Helper()
			var attempts atomic.Int32
			reply, err := call(t.Context(), m.client(hedgepolicy.NewWithDelay[any](time.Millisecond)),
				func(_ context.Context, reply *response, _ []grpc.CallOption) error {
					if attempts.Add(1) == 2 {
						return status.Error(codes.Unavailable, "no luck")
					}
					time.Sleep(time.Second)
					proto.Merge(reply, text("first"))
					return nil
				})
			time.Sleep(time.Minute)
			return err == nil && textOf(reply) == "first"
		})
	})
}

// echo answers each message of a stream.
type echo struct {
	testpb.UnimplementedTestServiceServer
}

func (echo) FullDuplexCall(s grpc.BidiStreamingServer[streamRequest, streamResponse]) error {
	for {
		if _, err := s.Recv(); err != nil {
			return err
		}
		if err := s.Send(&streamResponse{}); err != nil {
			return err
		}
	}
}

// A breaker that is open stops calls, and a stream goes by it: there is nothing in failsafegrpc for one.
func Test14StreamsBypassEverything(t *testing.T) {
	t.Parallel()
	listener := bufconn.Listen(1 << 16)
	server := grpc.NewServer()
	testpb.RegisterTestServiceServer(server, echo{})
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }() // ends with Stop; the test waits
	defer func() {
		server.Stop()
		assert.NoError(t, <-served)
	}()
	open := circuitbreaker.NewBuilder[any]().WithDelay(time.Hour).Build()
	open.Open()
	conn, err := grpc.NewClient("passthrough:///server", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithUnaryInterceptor(failsafegrpc.NewUnaryClientInterceptor[any](open)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { assert.NoError(t, conn.Close()) }()
	client := testpb.NewTestServiceClient(conn)

	_, err = client.UnaryCall(t.Context(), &request{})
	assert.ErrorIs(t, err, circuitbreaker.ErrOpen, "calls are stopped")
	bare, err := client.FullDuplexCall(t.Context())
	assert.NoError(t, err)
	assert.NoError(t, bare.Send(&streamRequest{}))
	_, err = bare.Recv()
	assert.NoError(t, err, "failsafegrpc holds the rule now")
	assert.NoError(t, bare.CloseSend())

	_, err = stream.Resilient(t.Context(), client.FullDuplexCall, stream.Callbacks[streamRequest, streamResponse]{},
		stream.WithStreamPolicies(retrypolicy.NewBuilder[any]().WithMaxRetries(0).Build(), open), stream.WithOpenPolicies(open))
	assert.Equal(t, codes.Unavailable, status.Code(err), "streamsafe breaks the rule: %v", err)
	assert.ErrorIs(t, err, circuitbreaker.ErrOpen)
}
