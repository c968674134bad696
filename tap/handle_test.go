package tap_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/adaptivelimiter"
	"github.com/failsafe-go/failsafe-go/adaptivethrottler"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	grpctap "google.golang.org/grpc/tap"

	"github.com/streamsafe/streamsafe/internal/rpcstatus"
	"github.com/streamsafe/streamsafe/tap"
)

// 2: through a tap, policy errors reach callers as PERMISSION_DENIED.
func Test02RefusalsReachClientsWithTheirStatus(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		policy func() failsafe.Policy[any]
		code   codes.Code
		reason tap.Reason
		delay  time.Duration
	}{
		"breaker": {func() failsafe.Policy[any] {
			b := circuitbreaker.NewBuilder[any]().WithDelay(time.Minute).Build()
			b.Open()
			return b
		}, codes.Unavailable, tap.ReasonCircuitBreaker, time.Minute},
		"rate limiter": {func() failsafe.Policy[any] {
			l := ratelimiter.NewBursty[any](1, time.Hour)
			l.TryAcquirePermit()
			return l
		}, codes.ResourceExhausted, tap.ReasonRateLimiter, time.Second},
		"bulkhead": {func() failsafe.Policy[any] {
			return bulkhead.New[any](0)
		}, codes.ResourceExhausted, tap.ReasonBulkhead, time.Second},
		"limiter": {func() failsafe.Policy[any] {
			l := adaptivelimiter.NewBuilder[any]().WithLimits(1, 1, 1).Build()
			l.TryAcquirePermit()
			return l
		}, codes.ResourceExhausted, tap.ReasonAdaptiveLimiter, time.Second},
		"throttler": {func() failsafe.Policy[any] {
			t := adaptivethrottler.NewBuilder[any]().WithFailureRateThreshold(0, 1, time.Hour).WithMaxRejectionRate(1).Build()
			for range 1000 {
				t.RecordFailure()
			}
			return t
		}, codes.ResourceExhausted, tap.ReasonThrottler, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := accountant(t, tap.WithPolicies(c.policy()), tap.WithRetryDelay(time.Second))
				conn := serve(t, &service{}, a.ServerOptions()...)
				err := call(t.Context(), conn)
				for range 50 { // a throttler refuses at random
					if err == nil {
						err = call(t.Context(), conn)
					}
				}
				require.Equal(t, c.code, status.Code(err))
				hint := rpcstatus.HintOf(err, nil)
				require.True(t, hint.Given)
				require.Equal(t, c.delay, hint.Delay)
				require.Equal(t, uint64(1), a.Stats().Refused[c.reason], c.reason)
			})
		})
	}
}

// A plain handle takes what need not be given back, and asks the rest.
func TestAPlainHandle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		breaker := circuitbreaker.NewBuilder[any]().WithDelay(time.Minute).WithSuccessThreshold(1).Build()
		var counters tap.Counters
		handle := tap.ServerInHandle(tap.WithPolicies(breaker, ratelimiter.NewBursty[any](2, time.Second)), tap.WithCounters(&counters))
		conn := serve(t, &service{}, grpc.InTapHandle(handle))
		require.NoError(t, call(t.Context(), conn))
		require.NoError(t, call(t.Context(), conn))
		err := call(t.Context(), conn)
		require.Equal(t, codes.ResourceExhausted, status.Code(err))
		require.False(t, rpcstatus.HintOf(err, nil).Given, "nobody knows how long")
		require.Zero(t, breaker.Metrics().Executions(), "no admission is an outcome")

		breaker.Open()
		time.Sleep(time.Second)
		for range 5 {
			err = call(t.Context(), conn)
			require.Equal(t, codes.Unavailable, status.Code(err))
			require.Equal(t, 59*time.Second, rpcstatus.HintOf(err, nil).Delay)
		}
		time.Sleep(29 * time.Second)
		require.Equal(t, 30*time.Second, rpcstatus.HintOf(call(t.Context(), conn), nil).Delay)
		time.Sleep(30 * time.Second)
		require.NoError(t, call(t.Context(), conn), "the permits of the breaker's trial are for others to take")
		require.True(t, breaker.TryAcquirePermit())
		s := counters.Stats()
		require.Equal(t, uint64(3), s.Admitted)
		require.Equal(t, map[tap.Reason]uint64{tap.ReasonRateLimiter: 1, tap.ReasonCircuitBreaker: 6}, s.Refused)
	})
}

func TestMethodPatterns(t *testing.T) {
	t.Parallel()
	none := func() failsafe.Policy[any] { return bulkhead.New[any](0) }
	handle := accountant(t,
		tap.WithMethodPolicies("/a.S/*", none()),
		tap.WithMethodPolicies("/a.S/Free"),
		tap.WithMethodPolicies("/b.S/M", none()),
		tap.Exempt("/c.S/*", "/d.S/M"),
		tap.WithMethodPolicies("/c.S/M", none()),
		tap.WithMethodPolicies("/e.S/M"),
		tap.WithMethodPolicies("/e.S/M", none()),
	).Handle
	for method, want := range map[string]codes.Code{
		"/a.S/X": codes.ResourceExhausted, "/a.S/Free": codes.OK, "/b.S/M": codes.ResourceExhausted, "/b.S/N": codes.OK,
		"/c.S/M": codes.ResourceExhausted, "/c.S/N": codes.OK, "/d.S/M": codes.OK, "/e.S/M": codes.ResourceExhausted,
		"": codes.Unimplemented, "/": codes.Unimplemented, "nothing": codes.Unimplemented, "a.S/X": codes.Unimplemented,
		"/nothing": codes.Unimplemented, "//": codes.OK,
	} {
		require.Equal(t, want, status.Code(knock(handle, method)), method)
	}
}

func TestHealthAndReflectionAreExemptUnlessNamed(t *testing.T) {
	t.Parallel()
	none := tap.WithPolicies(bulkhead.New[any](0))
	services := []string{healthpb.Health_Check_FullMethodName, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"}
	a := accountant(t, none)
	for _, method := range services {
		require.NoError(t, knock(a.Handle, method))
	}
	require.Error(t, knock(a.Handle, unaryCall))
	require.Equal(t, uint64(2), a.Stats().Exempt)
	require.Zero(t, a.Stats().Admitted)

	require.Error(t, knock(accountant(t, none, tap.WithMethodPolicies("/grpc.health.v1.Health/*")).Handle, services[0]))
	require.NoError(t, knock(accountant(t, none, tap.WithMethodPolicies("*")).Handle, services[0]), "that names nothing")
	require.Error(t, knock(accountant(t, none, tap.Exempt("*"), tap.WithMethodPolicies(unaryCall)).Handle, unaryCall))
	require.NoError(t, knock(accountant(t, none, tap.Exempt("*"), tap.WithMethodPolicies(unaryCall)).Handle, emptyCall))
}

func TestWrongOptions(t *testing.T) {
	t.Parallel()
	key := tap.ByMethod()
	for name, c := range map[string]struct {
		option tap.Option
		want   string
		also   bool // for an accountant too
	}{
		"retry policy":     {tap.WithPolicies(retrypolicy.NewWithDefaults[any]()), "has no place in a tap", true},
		"nil policy":       {tap.WithPolicies(nil), "a policy is nil", true},
		"bulkhead":         {tap.WithPolicies(bulkhead.New[any](1)), "it needs an Accountant", false},
		"adaptive limiter": {tap.WithMethodPolicies("*", adaptivelimiter.NewWithDefaults[any]()), "it needs an Accountant", false},
		"pattern":          {tap.WithMethodPolicies("nonsense"), "method pattern", true},
		"exempt pattern":   {tap.Exempt("nonsense"), "method pattern", true},
		"no key":           {tap.WithKey(nil, nil, 0), "WithKey needs", true},
		"negative keys":    {tap.WithKey(key, func(string) []failsafe.Policy[any] { return nil }, -1), "WithKey needs", true},
		"policy of a key": {tap.WithKey(key, func(string) []failsafe.Policy[any] {
			return policies(retrypolicy.NewWithDefaults[any]())
		}, 0), "has no place in a tap", true},
		"observer": {tap.WithObserver(1), "implements none", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.ErrorContains(t, tap.Validate(c.option), c.want)
			_, err := tap.NewAccountant(c.option)
			if c.also {
				require.ErrorContains(t, err, c.want)
			} else {
				require.NoError(t, err)
			}
			refusal := knock(tap.ServerInHandle(c.option), unaryCall)
			require.Equal(t, codes.Internal, status.Code(refusal), "a handle cannot tell otherwise")
			require.ErrorContains(t, refusal, c.want)
			require.NoError(t, knock(tap.ServerInHandle(c.option), healthpb.Health_Check_FullMethodName))
		})
	}
	require.NoError(t, tap.Validate(tap.Option{}))
	require.NoError(t, tap.Validate())
}

func TestChain(t *testing.T) {
	t.Parallel()
	type mark struct{}
	first := func(ctx context.Context, _ *grpctap.Info) (context.Context, error) {
		return context.WithValue(ctx, mark{}, "seen"), nil
	}
	saw := 0
	refuse := error(nil)
	last := func(ctx context.Context, _ *grpctap.Info) (context.Context, error) {
		assert.Equal(t, "seen", ctx.Value(mark{}))
		saw++
		return ctx, refuse
	}
	outer, inner := bulkhead.New[any](1), bulkhead.New[any](1)
	a, b := accountant(t, tap.WithPolicies(outer)), accountant(t, tap.WithPolicies(inner))
	handle := tap.Chain(first, nil, a.Handle, tap.Chain(b.Handle, last))

	for cause, want := range map[error]codes.Code{
		ratelimiter.ErrExceeded:                 codes.ResourceExhausted,
		circuitbreaker.ErrOpen:                  codes.Unavailable,
		status.Error(codes.Unauthenticated, ""): codes.Unauthenticated,
		context.DeadlineExceeded:                codes.DeadlineExceeded,
	} {
		refuse = cause
		require.Equal(t, want, status.Code(knock(handle, unaryCall)), cause)
		_, ok := status.FromError(knock(handle, unaryCall))
		require.True(t, ok, "no bare error")
	}
	refuse = errors.New("no")
	require.Equal(t, refuse, knock(handle, unaryCall), "what this means is grpc's to say")
	require.Equal(t, 9, saw, "every permit came back")
	require.Equal(t, uint64(9), a.Stats().Unstarted)
	require.Equal(t, uint64(9), b.Stats().Unstarted)

	flat := tap.Chain(first, a.Handle, b.Handle, last)
	for range 2 {
		require.Equal(t, refuse, knock(flat, unaryCall))
	}
	refuse = nil
	require.NoError(t, knock(handle, unaryCall))
	require.False(t, outer.TryAcquirePermit())
	require.False(t, inner.TryAcquirePermit())
	require.NoError(t, knock(tap.Chain(), unaryCall))
}

// The permit of a half-open breaker cannot be given back without a verdict, and there is none.
func TestARefusedTrialLeavesTheBreakerItsPermit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		breaker := circuitbreaker.NewBuilder[any]().WithSuccessThreshold(2).Build()
		shut := true
		a := accountant(t, tap.WithPolicies(breaker))
		conn := serve(t, &service{}, grpc.StatsHandler(a), grpc.InTapHandle(tap.Chain(a.Handle,
			func(ctx context.Context, _ *grpctap.Info) (context.Context, error) {
				if shut {
					return ctx, ratelimiter.ErrExceeded
				}
				return ctx, nil
			})))
		breaker.HalfOpen()
		for range 10 {
			require.Equal(t, codes.ResourceExhausted, status.Code(call(t.Context(), conn)))
		}
		require.True(t, breaker.IsHalfOpen(), "a refusal is no verdict")
		breaker.Open()
		require.Equal(t, codes.Unavailable, status.Code(call(t.Context(), conn)), "what was left of the trial is no way in")
		breaker.HalfOpen()
		require.Zero(t, breaker.Metrics().Executions())
		shut = false
		for range 2 {
			require.NoError(t, call(t.Context(), conn), "and the permits are there")
			synctest.Wait()
		}
		require.True(t, breaker.IsClosed())
	})
}

func TestATrialIsForAsManyAsTheBreakerSays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		breaker := circuitbreaker.NewBuilder[any]().WithSuccessThreshold(2).Build()
		a := accountant(t, tap.WithPolicies(breaker), tap.WithRetryDelay(time.Second))
		conn := serve(t, &service{unary: func(context.Context) error { time.Sleep(time.Second); return nil }}, a.ServerOptions()...)
		breaker.HalfOpen()
		results := make(chan error, 10)
		for range cap(results) {
			go func() { results <- call(t.Context(), conn) }()
		}
		for range 8 {
			err := <-results
			require.Equal(t, codes.Unavailable, status.Code(err))
			require.Equal(t, time.Second, rpcstatus.HintOf(err, nil).Delay)
		}
		require.NoError(t, <-results)
		require.NoError(t, <-results)
		synctest.Wait()
		require.True(t, breaker.IsClosed())
	})
}

// A pattern that names no method of a service linked in is a mistake, and not a rule that nothing obeys.
func TestMisspeltPatterns(t *testing.T) {
	t.Parallel()
	for name, opt := range map[string]tap.Option{
		"UnaryCal":   tap.WithMethodPolicies("/grpc.testing.TestService/UnaryCal"),
		"TestServce": tap.Exempt("/grpc.testing.TestServce/*"),
	} {
		require.ErrorContains(t, tap.Validate(opt), name)
		_, err := tap.NewAccountant(opt)
		require.ErrorContains(t, err, name)
		require.NoError(t, knock(tap.ServerInHandle(opt), unaryCall), "a handle cannot return an error: it works without")
	}
	require.NoError(t, tap.Validate(tap.WithMethodPolicies("/not.linked.In/Method"), tap.Exempt("/grpc.testing.TestService/*")))
}
