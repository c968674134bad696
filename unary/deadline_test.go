package unary_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/hedgepolicy"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/failsafe-go/failsafe-go/timeout"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/unary"
)

// Invariant 39: the server knows the deadline that a timeout will enforce, and which attempt it works on. The earliest of
// several limits counts, the caller's own among them.
func TestTheServerKnowsTheTimeLimit(t *testing.T) {
	t.Parallel()
	listened := func(d time.Duration) failsafe.Policy[any] {
		return timeout.NewBuilder[any](d).OnTimeoutExceeded(func(failsafe.ExecutionDoneEvent[any]) {}).Build()
	}
	for name, c := range map[string]struct {
		policies policies
		caller   time.Duration
		want     time.Duration
	}{
		"timeout":               {policies{timeout.New[any](time.Second)}, time.Hour, time.Second},
		"with a listener":       {policies{listened(time.Second)}, time.Hour, time.Second},
		"inner":                 {policies{timeout.New[any](time.Minute), timeout.New[any](time.Second)}, time.Hour, time.Second},
		"outer":                 {policies{timeout.New[any](time.Second), listened(time.Minute)}, time.Hour, time.Second},
		"around others":         {policies{timeout.New[any](time.Second), retrypolicy.NewWithDefaults[any](), hedgepolicy.NewWithDelay[any](time.Hour)}, time.Hour, time.Second},
		"the caller is earlier": {policies{timeout.New[any](time.Minute)}, time.Second, time.Second},
		"preset":                {unary.Interactive().Policies(), time.Hour, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var left time.Duration
				w := start(t, client(unary.WithPolicies(c.policies...)), server{handle: func(ctx context.Context, _ *request) (*response, error) {
					if deadline, ok := ctx.Deadline(); ok {
						left = time.Until(deadline)
					}
					return &response{}, nil
				}})
				ctx, cancel := context.WithTimeout(t.Context(), c.caller)
				defer cancel()
				_, err := w.UnaryCall(ctx, &request{})
				require.NoError(t, err)
				require.Equal(t, c.want, left)
			})
		})
	}
}

// What a timeout cuts is DEADLINE_EXCEEDED to the attempt and to the policies around, and the listener is told once.
func TestATimeoutCutsByADeadline(t *testing.T) {
	t.Parallel()
	for _, listened := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			told := 0
			limit := timeout.NewBuilder[any](time.Second)
			if listened {
				limit = limit.OnTimeoutExceeded(func(failsafe.ExecutionDoneEvent[any]) { told++ })
			}
			inner, outer := unary.NewCircuitBreakerBuilder().Build(), unary.NewCircuitBreakerBuilder().Build()
			w := start(t, client(unary.WithPolicies(outer, limit.Build(), inner)),
				server{handle: func(ctx context.Context, _ *request) (*response, error) { return nil, hangs(ctx) }})
			for range 3 {
				began := time.Now()
				_, err := w.UnaryCall(t.Context(), &request{})
				require.Equal(t, codes.DeadlineExceeded, status.Code(err), "%v", err)
				require.ErrorIs(t, err, timeout.ErrExceeded)
				require.Equal(t, time.Second, time.Since(began))
			}
			for name, b := range map[string]breaker{"inside": inner, "around": outer} {
				require.EqualValues(t, 3, b.Metrics().Failures(), name)
				require.Zero(t, b.Metrics().Successes(), name)
			}
			if listened {
				require.Equal(t, 3, told)
			}
		})
	}
}

// A success that comes at the last moment is a success, and an error of the attempt's own before the limit is not hidden.
func TestWhatATimeoutLetsPass(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		in := unary.ClientInterceptor(unary.WithPolicies(timeout.New[any](time.Second)))
		_, err := call(t.Context(), in, func(context.Context, *response, []grpc.CallOption) error {
			time.Sleep(2 * time.Second) // it does not mind its context
			return nil
		})
		require.NoError(t, err)
		_, err = call(t.Context(), in, fails(codes.NotFound))
		require.Equal(t, codes.NotFound, status.Code(err))
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, err = call(ctx, in, func(ctx context.Context, _ *response, _ []grpc.CallOption) error { return hangs(ctx) })
		require.Equal(t, codes.DeadlineExceeded, status.Code(err))
		require.NotErrorIs(t, err, timeout.ErrExceeded, "it was the caller's deadline")
	})
}

// The number of attempts before travels with each attempt but the first. That of a retry outside is added to.
func TestTheServerKnowsTheAttempt(t *testing.T) {
	t.Parallel()
	for name, option := range both(retrypolicy.NewWithDefaults[any]()) {
		synctest.Test(t, func(t *testing.T) {
			var got [][]string
			w := start(t, client(option), server{handle: func(ctx context.Context, _ *request) (*response, error) {
				got = append(got, metadata.ValueFromIncomingContext(ctx, "x-retry-attempt"))
				return nil, status.Error(codes.Unavailable, "down")
			}})
			_, err := w.UnaryCall(metadata.AppendToOutgoingContext(t.Context(), "other", "stays"), &request{})
			require.Equal(t, codes.Unavailable, status.Code(err))
			require.Equal(t, [][]string{nil, {"1"}, {"2"}}, got, name)
		})
	}
	synctest.Test(t, func(t *testing.T) {
		var got [2]atomic.Value
		var attempts atomic.Int32
		w := start(t, client(unary.WithPolicies(hedgepolicy.NewWithDelay[any](time.Second))),
			server{handle: func(ctx context.Context, _ *request) (*response, error) {
				got[attempts.Add(1)-1].Store(metadata.ValueFromIncomingContext(ctx, "x-retry-attempt"))
				time.Sleep(2 * time.Second)
				return &response{}, nil
			}})
		_, err := w.UnaryCall(metadata.AppendToOutgoingContext(t.Context(), "x-retry-attempt", "2"), &request{})
		require.NoError(t, err)
		time.Sleep(time.Minute) // the hedge ends
		require.Equal(t, []string{"2"}, got[0].Load())
		require.Equal(t, []string{"3"}, got[1].Load())
	})
}

// Two retries, one around the other, do not multiply: whoever sees that somebody outside tries again does not. On the first
// of the outer attempts, the inner one cannot know.
func TestRetriesDoNotMultiply(t *testing.T) {
	t.Parallel()
	retry := func() unary.Option { return unary.WithPolicies(retrypolicy.NewWithDefaults[any]()) }
	for name, o := range map[string]options{
		"client, server":         {client: []unary.Option{retry()}, server: []unary.Option{retry()}},
		"client, server of ours": {client: []unary.Option{retry()}, server: []unary.Option{unary.WithPolicies(unary.NewRetryPolicyBuilder().Build())}},
		"under executors": {
			client: []unary.Option{withExecutor(retrypolicy.NewWithDefaults[any]())},
			server: []unary.Option{withExecutor(retrypolicy.NewWithDefaults[any]())},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				runs := 0
				w := start(t, o, server{handle: func(context.Context, *request) (*response, error) {
					runs++
					return nil, status.Error(codes.Unavailable, "down")
				}})
				_, err := w.UnaryCall(t.Context(), &request{})
				require.Equal(t, codes.Unavailable, status.Code(err))
				require.Equal(t, 5, runs, "3 in the first attempt of the client, and 1 in each other")
			})
		})
	}
	t.Run("a middleware's, ours", func(t *testing.T) {
		t.Parallel()
		runs := 0
		in := unary.ClientInterceptor(retry())
		for attempt := range 3 { // what go-grpc-middleware does
			ctx := t.Context()
			if attempt > 0 {
				ctx = metadata.AppendToOutgoingContext(ctx, "x-retry-attempt", string(rune('0'+attempt)))
			}
			_, err := call(ctx, in, func(context.Context, *response, []grpc.CallOption) error {
				runs++
				return status.Error(codes.Unavailable, "down")
			})
			require.Equal(t, codes.Unavailable, status.Code(err))
		}
		require.Equal(t, 5, runs)
	})
	t.Run("nonsense is no retry", func(t *testing.T) {
		t.Parallel()
		for _, value := range []string{"", "0", "-1", "soon", "99999999999999999999"} {
			runs := 0
			_, _ = call(metadata.AppendToOutgoingContext(t.Context(), "x-retry-attempt", value), unary.ClientInterceptor(retry()),
				func(context.Context, *response, []grpc.CallOption) error {
					runs++
					return status.Error(codes.Unavailable, "down")
				})
			require.Equal(t, 3, runs, value)
		}
	})
}

// What happens in a scope is seen from the scopes inside it: a listener hears of the timeout around, and not that its
// context was cancelled.
func TestAnOuterTimeoutIsSeenInside(t *testing.T) {
	t.Parallel()
	for name, outer := range map[string]timeout.Builder[any]{
		"plain": timeout.NewBuilder[any](time.Second),
		"told":  timeout.NewBuilder[any](time.Second).OnTimeoutExceeded(func(failsafe.ExecutionDoneEvent[any]) {}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var seen error
				b := circuitbreaker.NewBuilder[any]().WithFailureThreshold(9).
					OnFailure(func(e failsafe.ExecutionEvent[any]) { seen = e.LastError() }).Build()
				_, err := call(t.Context(), unary.ClientInterceptor(unary.WithPolicies(outer.Build(), timeout.New[any](time.Hour), b,
					retrypolicy.NewBuilder[any]().WithDelay(time.Minute).Build())), fails(codes.Unavailable))
				require.ErrorIs(t, err, timeout.ErrExceeded)
				require.ErrorIs(t, seen, timeout.ErrExceeded)
			})
		})
	}
}
