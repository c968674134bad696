package stream_test

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/adaptivelimiter"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/cachepolicy"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/fallback"
	"github.com/failsafe-go/failsafe-go/hedgepolicy"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/failsafe-go/failsafe-go/timeout"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/stream"
)

type policy = failsafe.Policy[any]

func hourlyBreaker() circuitbreaker.CircuitBreaker[any] {
	return circuitbreaker.NewBuilder[any]().WithFailureThreshold(1).WithDelay(time.Hour).Build()
}

// Each kind of policy at its limit, with the code that the client sees.
func TestServerPoliciesAtTheirLimits(t *testing.T) {
	t.Parallel()
	open := hourlyBreaker()
	open.Open()
	for name, c := range map[string]struct {
		policy policy
		code   codes.Code
	}{
		"rate limiter":     {ratelimiter.NewBursty[any](1, time.Hour), codes.ResourceExhausted},
		"bulkhead":         {bulkhead.New[any](1), codes.ResourceExhausted},
		"adaptive limiter": {adaptivelimiter.NewBuilder[any]().WithLimits(1, 1, 1).Build(), codes.ResourceExhausted},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := hosts(t, greetsThen(func(s bidi, _ uint64) error { _, err := s.Recv(); return err }), stream.WithServerPolicies(c.policy))
			first := h.accepted(oneStream, 1)
			end := endOf(t, h.call(t.Context()))
			require.Equal(t, c.code, end.Code(), end.Message())
			require.Contains(t, end.Message(), "WithServerPolicies")
			require.True(t, stream.Resumable(end.Err()), "it says when to come again")
			require.NoError(t, first.CloseSend())
		})
	}
	t.Run("circuit breaker", func(t *testing.T) {
		t.Parallel()
		h := hosts(t, func(bidi) error { return nil }, stream.WithServerPolicies(open))
		end := endOf(t, h.call(t.Context()))
		require.Equal(t, codes.Unavailable, end.Code(), end.Message())
		require.NotEmpty(t, end.Details())
	})
	t.Run("timeout", func(t *testing.T) {
		t.Parallel()
		causes := make(chan error, 1)
		breaker := hourlyBreaker()
		h := hosts(t, func(s bidi) error {
			_, err := s.Recv()
			causes <- context.Cause(s.Context())
			return err
		}, stream.WithServerPolicies(breaker, timeout.New[any](time.Hour), timeout.New[any](50*time.Millisecond)))
		end := endOf(t, h.call(t.Context()))
		require.Equal(t, codes.DeadlineExceeded, end.Code(), end.Message())
		err := within(t, causes, "the handler")
		requireEnded(t, err, stream.EndTimeout)
		require.ErrorIs(t, err, timeout.ErrExceeded)
		require.Eventually(t, breaker.IsOpen, patience(), time.Millisecond, "a handler that hangs is a fault of the server")
	})
}

func TestServerPoliciesThatAreOfNoUse(t *testing.T) {
	t.Parallel()
	for _, p := range []policy{
		retrypolicy.NewWithDefaults[any](), fallback.NewWithResult[any](nil), hedgepolicy.NewWithDelay[any](time.Second),
		cachepolicy.New[any](nil), nil,
	} {
		require.Error(t, stream.Validate(stream.WithServerPolicies(p)), "%T", p)
	}
	require.ErrorContains(t, stream.Validate(stream.WithServerPolicies()), "no policy")
	require.NoError(t, stream.Validate(stream.WithServerPolicies(bulkhead.New[any](1), timeout.New[any](time.Second))))
}

// Invariant 48: permits come back however a handler ends, apart and in place.
func TestPermitsComeBack(t *testing.T) {
	t.Parallel()
	ways := map[string]func(bidi) error{
		"returns": func(bidi) error { return nil },
		"fails":   func(bidi) error { return errNever },
		"panics":  func(bidi) error { panic("help") }, //nolint:forbidigo // that is the test
		"exits":   func(bidi) error { runtime.Goexit(); return nil },
	}
	for transport, start := range transports {
		for kind, opts := range map[string][]stream.ServerOption{"apart": early(), "in place": nil} {
			for name, way := range ways {
				t.Run(transport+", "+kind+", "+name, func(t *testing.T) {
					t.Parallel()
					room := bulkhead.New[any](1)
					h := start(t, way, append(opts, stream.WithServerPolicies(room))...)
					for range 3 {
						require.NotEqual(t, codes.ResourceExhausted, endOf(t, h.call(t.Context())).Code())
						require.Eventually(t, func() bool {
							free := room.TryAcquirePermit()
							if free {
								room.ReleasePermit()
							}
							return free
						}, patience(), time.Millisecond, "the permit")
					}
				})
			}
		}
	}
}

// Invariant 43: the permit of a handler that goes on after its end is held until it returns.
func TestAnAbandonedHandlerKeepsItsPermit(t *testing.T) {
	t.Parallel()
	release, returned := make(chan struct{}), make(chan struct{})
	h := hosts(t, greetsThen(func(s bidi, epoch uint64) error {
		if epoch == 1 {
			defer close(returned)
			<-release
		}
		return nil
	}), stream.WithServerPolicies(bulkhead.New[any](1), timeout.New[any](50*time.Millisecond)))
	require.Equal(t, codes.DeadlineExceeded, endOf(t, h.accepted(oneStream, 1)).Code())
	require.Equal(t, codes.ResourceExhausted, endOf(t, h.attempt(otherStream, 1)).Code(), "the bulkhead is full")
	close(release)
	within(t, returned, "the handler")
	require.Eventually(t, func() bool { return endOf(t, h.attempt(otherStream, 2)).Message() == "EOF" }, patience(), time.Millisecond)
}

// The attempt of a client that comes again ends the older one, which holds the last permit.
func TestTheFenceComesBeforeThePolicies(t *testing.T) {
	t.Parallel()
	h := hosts(t, greetsThen(func(s bidi, _ uint64) error { <-s.Context().Done(); return nil }),
		stream.WithServerPolicies(bulkhead.NewBuilder[any](1).WithMaxWaitTime(time.Minute).Build()))
	first := h.accepted(oneStream, 1)
	h.accepted(oneStream, 2)
	requireSuperseded(t, first, 2)
}

// Invariant 49: a client that leaves is no fault of the server, whatever Send returned and the handler made of it.
func TestAClientThatLeavesIsNoFailure(t *testing.T) {
	t.Parallel()
	for transport, start := range transports {
		for kind, opts := range map[string][]stream.ServerOption{"apart": early(), "in place": nil} {
			t.Run(transport+", "+kind, func(t *testing.T) {
				t.Parallel()
				breaker := hourlyBreaker()
				returned := make(chan error, 1)
				h := start(t, func(s bidi) error {
					for {
						if err := s.Send(frame{size: 1000}.response()); err != nil {
							err = status.Errorf(codes.Internal, "sending: %v", err)
							returned <- err
							return err
						}
					}
				}, append(opts, stream.WithServerPolicies(breaker))...)
				ctx, cancel := context.WithCancel(t.Context())
				s := h.call(ctx)
				for range 10 {
					_, err := s.Recv()
					require.NoError(t, err)
				}
				cancel()
				require.Error(t, within(t, returned, "the handler"))
				time.Sleep(20 * time.Millisecond)
				require.True(t, breaker.IsClosed())
				require.Zero(t, breaker.Metrics().Failures())
			})
		}
	}
}

// Invariant 37: a trial that the client cancels is neither success nor failure.
func TestATrialThatIsCancelled(t *testing.T) {
	t.Parallel()
	breaker := circuitbreaker.NewBuilder[any]().WithFailureThreshold(1).WithSuccessThreshold(1).WithDelay(time.Millisecond).Build()
	returned := make(chan struct{}, 10)
	h := hosts(t, greetsThen(func(s bidi, epoch uint64) error {
		if epoch == 1 {
			return status.Error(codes.Internal, "a fault")
		}
		<-s.Context().Done()
		returned <- struct{}{}
		return s.Context().Err()
	}), append(early(), stream.WithServerPolicies(breaker))...)
	require.Equal(t, codes.Internal, endOf(t, h.accepted(oneStream, 1)).Code())
	require.Eventually(t, breaker.IsOpen, patience(), time.Millisecond)
	for epoch := uint64(2); epoch < 5; epoch++ {
		time.Sleep(5 * time.Millisecond)
		ctx, cancel := context.WithCancel(outgoing(t.Context(), oneStream, epoch))
		s, err := h.client.FullDuplexCall(ctx)
		require.NoError(t, err)
		_, err = s.Recv()
		require.NoError(t, err, "a trial")
		require.True(t, breaker.IsHalfOpen())
		cancel()
		within(t, returned, "the handler")
		time.Sleep(5 * time.Millisecond)
		require.True(t, breaker.IsHalfOpen(), "no verdict")
	}
}

// A bulkhead that streams have filled does not keep health checks out.
func TestHealthChecksPassFullPolicies(t *testing.T) {
	t.Parallel()
	full := bulkhead.New[any](1)
	require.True(t, full.TryAcquirePermit())
	server := grpc.NewServer(grpc.StreamInterceptor(stream.ServerInterceptor(stream.WithServerPolicies(full, timeout.New[any](time.Hour)))))
	healthpb.RegisterHealthServer(server, health.NewServer())
	testpb.RegisterTestServiceServer(server, &feed{handler: func(bidi) error { return nil }})
	h := (&host{t: t}).serves(server)
	client := healthpb.NewHealthClient(h.conn)
	_, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{})
	require.NoError(t, err)
	watch, err := client.Watch(t.Context(), &healthpb.HealthCheckRequest{})
	require.NoError(t, err)
	_, err = watch.Recv()
	require.NoError(t, err)
	require.Equal(t, codes.ResourceExhausted, endOf(t, h.call(t.Context())).Code())
}

// A condition that panics takes neither the server nor another permit with it.
func TestAConditionThatPanics(t *testing.T) {
	t.Parallel()
	for kind, opts := range map[string][]stream.ServerOption{"apart": early(), "in place": nil} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			breaker := circuitbreaker.NewBuilder[any]().
				HandleIf(func(any, error) bool { panic("a condition") }).Build() //nolint:forbidigo // that is the test
			room := bulkhead.New[any](1)
			h := hosts(t, func(bidi) error { return errors.New("a fault") }, append(opts, stream.WithServerPolicies(room, breaker))...)
			require.Equal(t, codes.Unknown, endOf(t, h.call(t.Context())).Code())
			require.Eventually(t, room.TryAcquirePermit, patience(), time.Millisecond)
		})
	}
}
