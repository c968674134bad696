package tap_test

import (
	"context"
	"math"
	"strconv"
	"testing"

	"github.com/failsafe-go/failsafe-go/adaptivelimiter"
	"github.com/failsafe-go/failsafe-go/adaptivethrottler"
	"github.com/failsafe-go/failsafe-go/priority"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	grpctap "google.golang.org/grpc/tap"

	"github.com/streamsafe/streamsafe/tap"
)

// 13: a header from the network panics a prioritized throttler.
func Test13HostileLevelsAreRefused(t *testing.T) {
	t.Parallel()
	a := accountant(t, tap.WithPriority(), tap.WithPolicies(
		adaptivethrottler.NewBuilder[any]().BuildPrioritized(adaptivethrottler.NewPrioritizer()),
		adaptivelimiter.NewBuilder[any]().BuildPrioritized(adaptivelimiter.NewPrioritizer()),
	))
	for _, header := range []string{"x-failsafe-level", "x-failsafe-priority"} {
		for _, value := range []string{
			"-1", "500", "99999", strconv.Itoa(math.MaxInt), strconv.Itoa(math.MinInt), "99999999999999999999", "", "high", "1e2", "0x1", " 1",
		} {
			require.Equal(t, codes.InvalidArgument, status.Code(knock(a.Handle, unaryCall, header, value)), "%s: %q", header, value)
		}
	}
	require.Equal(t, codes.InvalidArgument, status.Code(knock(a.Handle, unaryCall, "x-failsafe-priority", "5")))
	twice := []string{"x-failsafe-level", "1", "x-failsafe-level", "2"}
	require.Equal(t, codes.InvalidArgument, status.Code(knock(a.Handle, unaryCall, twice...)))
	require.Equal(t, uint64(24), a.Stats().Refused[tap.ReasonMalformed])
	for header, values := range map[string][]string{
		"x-failsafe-level": {"0", "1", "499"}, "x-failsafe-priority": {"0", "1", "2", "3", "4"}, "other": {"nonsense"},
	} {
		for _, value := range values {
			require.NoError(t, knock(a.Handle, unaryCall, header, value))
		}
	}
	for _, deaf := range []*tap.Accountant{
		accountant(t, tap.WithPriority()),
		accountant(t, tap.WithPolicies(adaptivethrottler.NewBuilder[any]().BuildPrioritized(adaptivethrottler.NewPrioritizer()))),
	} {
		require.NoError(t, knock(deaf.Handle, unaryCall, "x-failsafe-level", "nonsense"), "nobody reads it")
	}

	for _, ctx := range []context.Context{
		priority.ContextWithLevel(t.Context(), 500), priority.ContextWithLevel(t.Context(), math.MaxInt),
		priority.ContextWithLevel(t.Context(), -17), priority.ContextWithPriority(t.Context(), 17),
		priority.ContextWithPriority(t.Context(), -17),
	} {
		_, err := a.Handle(ctx, &grpctap.Info{FullMethodName: unaryCall})
		require.NoError(t, err)
	}
}

// Where there is not room for all, the important ones get in.
func TestLevelsReachThePolicies(t *testing.T) {
	t.Parallel()
	prioritizer := adaptivethrottler.NewPrioritizerBuilder().WithLevelTracker(fixed(250)).Build()
	throttler := adaptivethrottler.NewBuilder[any]().WithFailureRateThreshold(0, 1, 1e9).WithMaxRejectionRate(1).BuildPrioritized(prioritizer)
	for range 100 {
		throttler.RecordFailure()
	}
	prioritizer.Calibrate()
	require.Equal(t, 250, prioritizer.RejectionThreshold())
	handle := tap.ServerInHandle(tap.WithPolicies(throttler), tap.WithPriority())
	for _, c := range []struct {
		header, value string
		want          codes.Code
	}{
		{"x-failsafe-level", "249", codes.ResourceExhausted},
		{"x-failsafe-level", "250", codes.OK},
		{"x-failsafe-priority", "1", codes.ResourceExhausted},
		{"x-failsafe-priority", "3", codes.OK},
		{"other", "", codes.ResourceExhausted},
	} {
		require.Equal(t, c.want, status.Code(knock(handle, unaryCall, c.header, c.value)), c)
	}
	_, err := handle(priority.ContextWithLevel(t.Context(), 300), &grpctap.Info{
		FullMethodName: unaryCall, Header: map[string][]string{"x-failsafe-level": {"1"}},
	})
	require.NoError(t, err, "what an earlier handle says goes before what a client says")
	deaf := tap.ServerInHandle(tap.WithPolicies(throttler))
	require.Equal(t, codes.ResourceExhausted, status.Code(knock(deaf, unaryCall, "x-failsafe-level", "499")), "not asked for")
	_, err = deaf(priority.ContextWithLevel(t.Context(), 300), &grpctap.Info{FullMethodName: unaryCall})
	require.NoError(t, err)
}

func TestAPrioritizedLimiterDoesNotWait(t *testing.T) {
	t.Parallel()
	limiter := adaptivelimiter.NewBuilder[any]().WithLimits(1, 1, 1).BuildPrioritized(adaptivelimiter.NewPrioritizer())
	a := accountant(t, tap.WithPolicies(limiter), tap.WithPriority())
	require.NoError(t, knock(a.Handle, unaryCall, "x-failsafe-level", "499"))
	require.Equal(t, codes.ResourceExhausted, status.Code(knock(a.Handle, unaryCall, "x-failsafe-level", "499")))
	require.Equal(t, 1, limiter.Inflight())
}

// fixed is a level tracker that has seen one level only.
type fixed int

func (fixed) RecordLevel(int)        {}
func (f fixed) GetLevel(float64) int { return int(f) }

func FuzzMetadata(f *testing.F) {
	for _, seed := range []string{"", "0", "499", "500", "-1", "99999999999999999999", "*", "\x00", "é"} {
		f.Add(unaryCall, seed, seed, seed)
	}
	a, err := tap.NewAccountant(
		tap.WithPriority(),
		tap.WithPolicies(
			adaptivethrottler.NewBuilder[any]().BuildPrioritized(adaptivethrottler.NewPrioritizer()),
			adaptivelimiter.NewBuilder[any]().WithLimits(1, 100, 100).BuildPrioritized(adaptivelimiter.NewPrioritizer()),
		),
		tap.WithKey(tap.ByMetadata("tenant"), twice(nil), 10),
		tap.WithMethodPolicies("/a.S/*"),
	)
	if err != nil {
		f.Fatal(err)
	}
	refuse := func(ctx context.Context, _ *grpctap.Info) (context.Context, error) {
		return ctx, status.Error(codes.Aborted, "")
	}
	handle := tap.Chain(a.Handle, refuse)
	f.Fuzz(func(t *testing.T, method, tenant, level, rank string) {
		err := knock(handle, method, "tenant", tenant, "x-failsafe-level", level, "x-failsafe-priority", rank)
		switch status.Code(err) { //nolint:exhaustive // no other may occur
		case codes.Aborted, codes.InvalidArgument, codes.ResourceExhausted, codes.Unimplemented:
		default:
			t.Errorf("%q %q %q %q: %v", method, tenant, level, rank, err)
		}
		if running := a.Stats().Running; running != 0 {
			t.Errorf("%d still run", running)
		}
	})
}
