package tap_test

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/adaptivelimiter"
	"github.com/failsafe-go/failsafe-go/adaptivethrottler"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	grpctap "google.golang.org/grpc/tap"

	"github.com/streamsafe/streamsafe/tap"
)

// A million RPCs knock from eight goroutines. Some begin and end, some never begin; no more than the limits run at once,
// and in the end every permit is back.
func TestAMillionAdmissionsAreAccountedFor(t *testing.T) {
	t.Parallel()
	const askers, server, tenant = 8, 5, 2
	each := 125_000
	if testing.Short() {
		each /= 10
	}
	whole := bulkhead.New[any](server)
	limiter := adaptivelimiter.NewBuilder[any]().WithLimits(server, server, server).Build()
	rate := ratelimiter.NewBursty[any](uint(askers*each), 1000*time.Hour)
	var mu sync.Mutex
	mine := make(map[string]bulkhead.Bulkhead[any])
	a := accountant(t, tap.WithPolicies(whole, limiter, rate), tap.WithKey(tap.ByMetadata("tenant"),
		func(key string) []failsafe.Policy[any] {
			mu.Lock()
			defer mu.Unlock()
			if mine[key] == nil {
				mine[key] = bulkhead.New[any](tenant)
			}
			return policies(mine[key])
		}, 3))
	tenants := []string{"a", "b", "c"}
	var running, refused, unrun, ended atomic.Int64
	var runningOf [3]atomic.Int64
	var work sync.WaitGroup
	for asker := range askers {
		work.Go(func() {
			for i := range each {
				which := (asker + i) % len(tenants)
				info := &grpctap.Info{FullMethodName: unaryCall, Header: map[string][]string{"tenant": tenants[which : which+1]}}
				ctx, err := a.Handle(t.Context(), info)
				if err != nil {
					refused.Add(1)
					continue
				}
				if running.Add(1) > server || runningOf[which].Add(1) > tenant {
					t.Errorf("%d run, %d of tenant %d", running.Load(), runningOf[which].Load(), which)
				}
				if i%3 == 0 {
					runtime.Gosched()
				}
				running.Add(-1)
				runningOf[which].Add(-1)
				if i%5 == 0 {
					unrun.Add(1)
					_, err := tap.Chain(func(context.Context, *grpctap.Info) (context.Context, error) { return ctx, nil },
						func(ctx context.Context, _ *grpctap.Info) (context.Context, error) { return ctx, bulkhead.ErrFull },
					)(ctx, info)
					assert.Equal(t, codes.ResourceExhausted, status.Code(err))
					continue
				}
				ended.Add(1)
				ctx = a.TagRPC(ctx, &stats.RPCTagInfo{FullMethodName: unaryCall})
				a.HandleRPC(ctx, &stats.Begin{})
				a.HandleRPC(ctx, &stats.End{})
			}
		})
	}
	work.Wait()
	s := a.Stats()
	require.Equal(t, uint64(askers*each), s.Admitted+uint64(refused.Load()))
	require.Equal(t, uint64(ended.Load()), s.Ended)
	require.Equal(t, uint64(unrun.Load()), s.Unstarted)
	require.Equal(t, uint64(refused.Load()), s.Refused[tap.ReasonBulkhead]+s.Refused[tap.ReasonAdaptiveLimiter])
	require.Zero(t, s.Running)
	require.Zero(t, limiter.Inflight())
	for range askers*each - int(s.Admitted) {
		if !rate.TryAcquirePermit() {
			t.Fatal("the rate limiter gave out more permits than there were admissions")
		}
	}
	require.False(t, rate.TryAcquirePermit(), "and not less")
	free := func(b bulkhead.Bulkhead[any]) (n int) {
		for b.TryAcquirePermit() {
			n++
		}
		return n
	}
	require.Equal(t, server, free(whole))
	for _, key := range tenants {
		require.Equal(t, tenant, free(mine[key]), key)
	}
}

// What an RPC says after its end, or twice, changes nothing.
func TestAnAdmissionEndsOnce(t *testing.T) {
	t.Parallel()
	b := bulkhead.New[any](2)
	require.True(t, b.TryAcquirePermit())
	a := accountant(t, tap.WithPolicies(b))
	ctx, cancel := context.WithCancel(t.Context())
	ctx, err := a.Handle(ctx, &grpctap.Info{FullMethodName: unaryCall})
	require.NoError(t, err)
	a.HandleRPC(ctx, &stats.End{})
	a.HandleRPC(ctx, &stats.Begin{})
	for range 2 {
		require.Equal(t, ctx, a.TagRPC(ctx, &stats.RPCTagInfo{}))
		a.HandleRPC(ctx, &stats.Begin{})
	}
	cancel()
	require.Error(t, ctx.Err())
	require.False(t, b.TryAcquirePermit(), "a running RPC keeps its permit when its context is done")
	for range 2 {
		a.HandleRPC(ctx, &stats.End{})
	}
	require.Equal(t, uint64(1), a.Stats().Ended)
	require.True(t, b.TryAcquirePermit())
	require.False(t, b.TryAcquirePermit())
	require.Equal(t, ctx, a.TagRPC(ctx, &stats.RPCTagInfo{}))
	a.HandleRPC(t.Context(), &stats.Begin{})
	a.HandleRPC(t.Context(), &stats.End{})
}

//nolint:paralleltest // AllocsPerRun counts what the whole process allocates
func TestAllocations(t *testing.T) {
	open := circuitbreaker.NewBuilder[any]().WithDelay(time.Hour).Build()
	open.Open()
	var counters tap.Counters
	keyed := tap.WithKey(tap.ByMetadata("tenant"), func(string) []failsafe.Policy[any] {
		return policies(ratelimiter.NewSmoothWithMaxRate[any](time.Nanosecond))
	}, 0)
	accept := policies(
		circuitbreaker.NewWithDefaults[any](), adaptivethrottler.NewWithDefaults[any](), ratelimiter.NewBursty[any](1e9, time.Hour))
	limiter := ratelimiter.NewBursty[any](1, time.Hour)
	limiter.TryAcquirePermit()
	spent := tap.WithPolicies(limiter)
	full := tap.WithPolicies(bulkhead.New[any](0))
	ctx := t.Context()
	info := &grpctap.Info{FullMethodName: unaryCall, Header: map[string][]string{"tenant": {"a"}}}
	for name, c := range map[string]struct {
		handle grpctap.ServerInHandle
		want   float64
	}{
		"accept":             {tap.ServerInHandle(tap.WithPolicies(accept...), tap.WithCounters(&counters), tap.WithMethodPolicies(unaryCall, accept...)), 0},
		"accept by key":      {tap.ServerInHandle(keyed, tap.WithMethodPolicies("/grpc.testing.TestService/*", accept...)), 0},
		"accept in a chain":  {tap.Chain(tap.ServerInHandle(tap.WithPolicies(accept...)), tap.ServerInHandle(keyed)), 0},
		"refuse, limiter":    {tap.ServerInHandle(spent, tap.WithRetryDelay(time.Second), tap.WithCounters(&counters)), 0},
		"refuse, breaker":    {tap.ServerInHandle(tap.WithPolicies(open)), 0},
		"exempt, accountant": {accountant(t, full, tap.Exempt("*")).Handle, 0},
		"refuse, accountant": {accountant(t, full).Handle, 1},
		"accept, accountant": {accountant(t, tap.WithPolicies(accept...), keyed).Handle, 1},
	} {
		require.LessOrEqual(t, testing.AllocsPerRun(1000, func() { _, _ = c.handle(ctx, info) }), c.want, name)
	}
}
