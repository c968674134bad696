package unary_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/adaptivelimiter"
	"github.com/failsafe-go/failsafe-go/adaptivethrottler"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/fallback"
	"github.com/failsafe-go/failsafe-go/hedgepolicy"
	"github.com/failsafe-go/failsafe-go/timeout"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/unary"
)

type breaker = circuitbreaker.CircuitBreaker[any]

// hangs waits until the attempt is cut.
func hangs(ctx context.Context) error {
	<-ctx.Done()
	return status.FromContextError(ctx.Err()).Err()
}

// Invariant 37: a trial that the caller cancelled is neither success nor failure, and its permit is used again. Breakers that
// failsafe-go made are treated alike, but for executors: there they judge by themselves.
func TestACancelledTrialIsNoVerdict(t *testing.T) {
	t.Parallel()
	ours := func() breaker { return unary.NewCircuitBreakerBuilder().WithDelay(time.Hour).Build() }
	stock := func() breaker {
		return circuitbreaker.NewBuilder[any]().WithDelay(time.Hour).WithSuccessThreshold(3).Build()
	}
	handled := func() breaker {
		return circuitbreaker.NewBuilder[any]().WithDelay(time.Hour).WithSuccessThreshold(3).
			HandleIf(func(_ any, err error) bool { return status.Code(err) == codes.Unavailable }).Build()
	}
	for name, c := range map[string]struct {
		breaker func() breaker
		options func(breaker) options
		each    func(breaker) []grpc.CallOption // options of each call
	}{
		"client":            {ours, func(b breaker) options { return client(unary.WithPolicies(b)) }, nil},
		"server":            {ours, func(b breaker) options { return onServer(unary.WithPolicies(b)) }, nil},
		"client's executor": {ours, func(b breaker) options { return client(withExecutor(b)) }, nil},
		"server's executor": {ours, func(b breaker) options { return onServer(withExecutor(b)) }, nil},
		"stock, client":     {stock, func(b breaker) options { return client(unary.WithPolicies(b)) }, nil},
		"stock, server":     {stock, func(b breaker) options { return onServer(unary.WithPolicies(b)) }, nil},
		"conditions":        {handled, func(b breaker) options { return client(unary.WithPolicies(b)) }, nil},
		"stock, in each call": {stock, func(breaker) options { return options{} }, func(b breaker) []grpc.CallOption {
			return []grpc.CallOption{unary.WithPolicies(b)}
		}},
		"inside of others": {ours, func(b breaker) options {
			return client(unary.WithPolicies(unary.NewRetryPolicyBuilder().Build(), b, timeout.New[any](time.Hour)))
		}, nil},
		"around others": {ours, func(b breaker) options {
			return client(unary.WithPolicies(b, unary.NewRetryPolicyBuilder().Build(),
				hedgepolicy.NewWithDelay[any](time.Hour), bulkhead.New[any](9)))
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				hanging, b := true, c.breaker()
				w := start(t, c.options(b), server{handle: func(ctx context.Context, _ *request) (*response, error) {
					if hanging {
						return nil, hangs(ctx)
					}
					return &response{}, nil
				}})
				var opts []grpc.CallOption
				if c.each != nil {
					opts = c.each(b)
				}
				b.HalfOpen()
				for range 9 { // three times the permits of the trial
					ctx, cancel := context.WithCancel(t.Context())
					time.AfterFunc(time.Second, cancel)
					_, err := w.UnaryCall(ctx, &request{}, opts...)
					require.Equal(t, codes.Canceled, status.Code(err), "%v", err)
					synctest.Wait()
					require.Equal(t, circuitbreaker.HalfOpenState, b.State())
					require.Zero(t, b.Metrics().Executions())
				}
				hanging = false
				for range 3 {
					require.Equal(t, circuitbreaker.HalfOpenState, b.State())
					_, err := w.UnaryCall(t.Context(), &request{}, opts...)
					require.NoError(t, err, "the trial's permits are lost")
					synctest.Wait()
				}
				require.Equal(t, circuitbreaker.ClosedState, b.State())

				hanging = true
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(time.Second, cancel)
				_, _ = w.UnaryCall(ctx, &request{}, opts...)
				synctest.Wait()
				require.Zero(t, b.Metrics().Executions(), "nor when it is closed")
			})
		})
	}
}

// A trial's permits are neither lost nor exceeded where two interceptors share the breaker, and one of them cancels.
func TestATrialsPermitsBelongToTheBreaker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := circuitbreaker.NewBuilder[any]().WithDelay(time.Hour).WithSuccessThreshold(3).Build()
		one, other := unary.ClientInterceptor(unary.WithPolicies(b)), unary.ServerInterceptor(unary.WithPolicies(b))
		b.HalfOpen()
		for range 3 {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			_, err := call(ctx, one, func(ctx context.Context, _ *response, _ []grpc.CallOption) error { return hangs(ctx) })
			require.Equal(t, codes.Canceled, status.Code(err))
		}
		release, ended := make(chan struct{}), make(chan error, 4)
		for range 4 {
			go func() { // ends with its call; the test waits
				_, err := handle(t.Context(), other, func(context.Context) (any, error) { <-release; return text(""), nil })
				ended <- err
			}()
		}
		require.ErrorIs(t, <-ended, circuitbreaker.ErrOpen, "three at a time")
		synctest.Wait()
		require.Empty(t, ended)
		close(release)
		for range 3 {
			require.NoError(t, <-ended)
		}
		require.True(t, b.IsClosed())
	})
}

// What says nothing about the server is no success either: a denial inside, a reply that is not the server's, a hedge that
// lost.
func TestWhatIsNoVerdict(t *testing.T) {
	t.Parallel()
	full := func() failsafe.Policy[any] {
		b := bulkhead.New[any](1)
		b.TryAcquirePermit()
		return b
	}
	open := circuitbreaker.NewBuilder[any]().WithDelay(time.Hour).Build()
	open.Open()
	ok := func(context.Context) error { return nil }
	for name, c := range map[string]struct {
		inside    func() policies // made in the bubble
		attempt   func(context.Context) error
		successes uint
		failures  uint
	}{
		"success":                 {nil, ok, 1, 0},
		"the client's fault":      {nil, func(context.Context) error { return status.Error(codes.NotFound, "no") }, 1, 0},
		"the server's fault":      {nil, func(context.Context) error { return status.Error(codes.Unavailable, "no") }, 0, 1},
		"CANCELLED by the server": {nil, func(context.Context) error { return status.Error(codes.Canceled, "no") }, 0, 0},
		"limiter":                 {func() policies { return policies{full()} }, ok, 0, 0},
		"breaker":                 {func() policies { return policies{open} }, ok, 0, 0},
		"stand-in for a denial":   {func() policies { return policies{fallback.NewWithResult[any](text("")), full()} }, ok, 0, 0},
		"timeout":                 {func() policies { return policies{timeout.New[any](time.Second)} }, hangs, 0, 1},
		"waited in vain": {
			func() policies { return policies{timeout.New[any](time.Second), occupied(t)} }, ok, 0, 0,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := unary.NewCircuitBreakerBuilder().Build()
				chain := policies{b}
				if c.inside != nil {
					chain = append(chain, c.inside()...)
				}
				_, _ = call(t.Context(), unary.ClientInterceptor(unary.WithPolicies(chain...)),
					func(ctx context.Context, _ *response, _ []grpc.CallOption) error { return c.attempt(ctx) })
				assert.Equal(t, c.successes, b.Metrics().Successes(), "successes")
				assert.Equal(t, c.failures, b.Metrics().Failures(), "failures")
			})
		})
	}
	t.Run("a hedge that lost", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			b := circuitbreaker.NewBuilder[any]().WithFailureThreshold(9).Build()
			attempts := make(chan int, 1)
			attempts <- 1
			_, err := call(t.Context(), unary.ClientInterceptor(unary.WithPolicies(hedgepolicy.NewWithDelay[any](time.Second), b)),
				func(ctx context.Context, _ *response, _ []grpc.CallOption) error {
					select {
					case <-attempts:
						return hangs(ctx)
					default:
						return nil
					}
				})
			require.NoError(t, err)
			synctest.Wait()
			require.EqualValues(t, 1, b.Metrics().Successes())
			require.Zero(t, b.Metrics().Failures())
		})
	})
	t.Run("a call from before the trial", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			b := unary.NewCircuitBreakerBuilder().Build()
			_, err := call(t.Context(), unary.ClientInterceptor(unary.WithPolicies(b)),
				func(context.Context, *response, []grpc.CallOption) error { b.HalfOpen(); return nil })
			require.NoError(t, err)
			require.Zero(t, b.Metrics().Executions())
		})
	})
	t.Run("throttler", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			throttler := adaptivethrottler.NewBuilder[any]().WithFailureRateThreshold(.1, 1, time.Minute).WithMaxRejectionRate(1).Build()
			in := unary.ClientInterceptor(unary.WithPolicies(throttler))
			for range 50 {
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(time.Millisecond, cancel)
				_, err := call(ctx, in, func(ctx context.Context, _ *response, _ []grpc.CallOption) error { return hangs(ctx) })
				require.Equal(t, codes.Canceled, status.Code(err))
			}
			require.Zero(t, throttler.RejectionRate(), "callers who left made it reject")
			for range 50 {
				_, _ = call(t.Context(), in, fails(codes.Unavailable))
			}
			require.Positive(t, throttler.RejectionRate())
		})
	})
	t.Run("limiter around a denial", func(t *testing.T) {
		t.Parallel()
		changed := 0
		probe := adaptivelimiter.NewBuilder[any]().WithRecentWindow(time.Nanosecond, time.Nanosecond, 1).
			OnLimitChanged(func(adaptivelimiter.LimitChangedEvent) { changed++ }).Build()
		in := unary.ClientInterceptor(unary.WithPolicies(probe, full()))
		for range 100 {
			_, err := call(t.Context(), in, fails(codes.OK))
			require.ErrorIs(t, err, bulkhead.ErrFull)
		}
		require.Zero(t, changed, "the time of a denial was taken for the server's")
		require.Zero(t, probe.Inflight())
		for range 100 {
			_, err := call(t.Context(), unary.ClientInterceptor(unary.WithPolicies(probe)), fails(codes.OK))
			require.NoError(t, err)
		}
		require.Positive(t, changed)
	})
}
