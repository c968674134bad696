package unary_test

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/priority"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/internal/rpcstatus"
	"github.com/streamsafe/streamsafe/unary"
)

// A deadline of the executor's context is a deadline of the call: the caller and the server see it as one.
func TestTheExecutorsDeadline(t *testing.T) {
	t.Parallel()
	for name, caller := range map[string]time.Duration{"earlier than the caller's": time.Hour, "later": time.Second} {
		for _, inServer := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					own, cancel := context.WithTimeout(t.Context(), 2*time.Second)
					defer cancel()
					option := unary.WithExecutor(failsafe.With[any](retrypolicy.NewWithDefaults[any]()).WithContext(own))
					o := client(option)
					if inServer {
						o = onServer(option)
					}
					var left time.Duration
					w := start(t, o, server{handle: func(ctx context.Context, _ *request) (*response, error) {
						deadline, ok := ctx.Deadline()
						require.True(t, ok)
						left = time.Until(deadline)
						return nil, hangs(ctx)
					}})
					ctx, cancel := context.WithTimeout(t.Context(), caller)
					defer cancel()
					began := time.Now()
					_, err := w.UnaryCall(ctx, &request{})
					require.Equal(t, codes.DeadlineExceeded, status.Code(err), "%v", err)
					require.Equal(t, min(caller, 2*time.Second), time.Since(began))
					synctest.Wait()
					require.Equal(t, min(caller, 2*time.Second), left)
				})
			})
		}
	}
	t.Run("cancelled, with a cause", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			own, cancel := context.WithCancelCause(t.Context())
			cause := errors.New("shutting down")
			time.AfterFunc(time.Second, func() { cancel(cause) })
			_, err := call(t.Context(), unary.ClientInterceptor(unary.WithExecutor(failsafe.With[any]().WithContext(own))),
				func(ctx context.Context, _ *response, _ []grpc.CallOption) error { return hangs(ctx) })
			require.Equal(t, codes.Canceled, status.Code(err))
			require.ErrorIs(t, err, cause)
		})
	})
	t.Run("leaves no goroutine", func(t *testing.T) { //nolint:paralleltest // it counts the goroutines of the process
		synctest.Test(t, func(t *testing.T) {
			own, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			in := unary.ClientInterceptor(unary.WithExecutor(failsafe.With[any]().WithContext(own)))
			synctest.Wait()
			before := runtime.NumGoroutine()
			for range 200 {
				_, err := call(t.Context(), in, fails(codes.OK))
				require.NoError(t, err)
			}
			synctest.Wait()
			require.Less(t, runtime.NumGoroutine(), before+100)
		})
	})
}

// The values of the executor's context are those of the call, where the caller's has none.
func TestTheExecutorsValues(t *testing.T) {
	t.Parallel()
	type key struct{}
	synctest.Test(t, func(t *testing.T) {
		own := context.WithValue(priority.ContextWithLevel(context.Background(), 444), key{}, "own")
		option := unary.WithExecutor(failsafe.With[any]().WithContext(own))
		level := -2
		w := start(t, options{client: []unary.Option{option, unary.WithPriority()}, server: []unary.Option{unary.WithPriority()}},
			server{handle: func(ctx context.Context, _ *request) (*response, error) {
				level = priority.LevelFromContext(ctx)
				return &response{}, nil
			}})
		_, err := w.UnaryCall(t.Context(), &request{})
		require.NoError(t, err)
		require.Equal(t, 444, level)
		_, err = w.UnaryCall(priority.ContextWithLevel(t.Context(), 5), &request{})
		require.NoError(t, err)
		require.Equal(t, 5, level, "the caller's come first")

		for _, own := range []context.Context{own, priority.ContextWithLevel(context.WithValue(t.Context(), key{}, "own"), 444)} {
			in := unary.ServerInterceptor(unary.WithExecutor(failsafe.With[any]().WithContext(own)))
			_, err = handle(t.Context(), in, func(ctx context.Context) (any, error) {
				require.Equal(t, "own", ctx.Value(key{}))
				require.Equal(t, 444, priority.LevelFromContext(ctx))
				return text(""), nil
			})
			require.NoError(t, err)
		}
	})
}

// What is not to be tried again is not, whatever the executor's policies say: a handler that panicked, a server's word.
func TestExecutorsTryNothingAgainThatIsFinal(t *testing.T) {
	t.Parallel()
	stock := withExecutor(retrypolicy.NewWithDefaults[any]())
	runs := 0
	require.PanicsWithError(t, "boom", func() {
		_, _ = handle(t.Context(), unary.ServerInterceptor(stock), func(ctx context.Context) (any, error) { runs++; return boom(ctx) })
	})
	require.Equal(t, 1, runs)
	for name, ms := range map[string]string{"do not retry": "-1", "too long": "6000"} {
		runs = 0
		_, err := call(t.Context(), unary.ClientInterceptor(stock), func(_ context.Context, _ *response, opts []grpc.CallOption) error {
			runs++
			setTargets(opts, metadata.Pairs(rpcstatus.PushbackKey, ms))
			return status.Error(codes.Unavailable, "down")
		})
		require.Equal(t, codes.Unavailable, status.Code(err))
		require.Equal(t, 1, runs, name)
	}
}
