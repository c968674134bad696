package bench

import (
	"context"
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/failsafegrpc"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/stats"
	grpctap "google.golang.org/grpc/tap"

	"github.com/streamsafe/streamsafe/internal/verify"
	"github.com/streamsafe/streamsafe/tap"
)

// tapCase is one set of policies in a tap, by this module and by failsafe-go's own package.
type tapCase struct {
	name     string
	policies func() []failsafe.Policy[any]
}

func tapCases() []tapCase {
	limiter := func() failsafe.Policy[any] { return ratelimiter.NewBursty[any](1e9, 1000*time.Hour) }
	return []tapCase{
		{"none", func() []failsafe.Policy[any] { return nil }},
		{"limiter", func() []failsafe.Policy[any] { return []failsafe.Policy[any]{limiter()} }},
		{"limiter+breaker", func() []failsafe.Policy[any] {
			return []failsafe.Policy[any]{circuitbreaker.NewWithDefaults[any](), limiter()}
		}},
		{"refused", func() []failsafe.Policy[any] {
			spent := ratelimiter.NewBursty[any](1, 1000*time.Hour)
			spent.TryAcquirePermit()
			return []failsafe.Policy[any]{spent}
		}},
	}
}

func (c tapCase) handles() map[string]grpctap.ServerInHandle {
	return map[string]grpctap.ServerInHandle{
		"streamsafe":   tap.ServerInHandle(tap.WithPolicies(c.policies()...)),
		"failsafegrpc": failsafegrpc.NewServerInHandle(c.policies()...),
	}
}

func tapInfo() *grpctap.Info {
	return &grpctap.Info{FullMethodName: "/bench.Service/Method", Header: map[string][]string{"tenant": {"a"}}}
}

// BenchmarkTap is what admission costs one RPC.
func BenchmarkTap(b *testing.B) {
	for _, c := range tapCases() {
		for impl, handle := range c.handles() {
			b.Run("policies="+c.name+"/impl="+impl, func(b *testing.B) {
				ctx, info := b.Context(), tapInfo()
				b.ReportAllocs()
				for b.Loop() {
					_, _ = handle(ctx, info)
				}
			})
		}
	}
}

// BenchmarkTapOwn is what has no counterpart in failsafe-go: limits by key, and permits held until the RPC ends.
func BenchmarkTapOwn(b *testing.B) {
	b.Run("key", func(b *testing.B) {
		handle := tap.ServerInHandle(tap.WithKey(tap.ByMetadata("tenant"), func(string) []failsafe.Policy[any] {
			return []failsafe.Policy[any]{ratelimiter.NewBursty[any](1e9, 1000*time.Hour)}
		}, 0))
		ctx, info := b.Context(), tapInfo()
		b.ReportAllocs()
		for b.Loop() {
			_, _ = handle(ctx, info)
		}
	})
	b.Run("accountant", func(b *testing.B) {
		a, err := tap.NewAccountant(tap.WithPolicies(bulkhead.New[any](10), circuitbreaker.NewWithDefaults[any]()))
		require.NoError(b, err)
		ctx, info := b.Context(), tapInfo()
		tag, begin, end := &stats.RPCTagInfo{}, &stats.Begin{}, &stats.End{}
		b.ReportAllocs()
		for b.Loop() {
			rpc, err := a.Handle(ctx, info)
			if err != nil {
				b.Fatal(err)
			}
			rpc = a.TagRPC(rpc, tag)
			a.HandleRPC(rpc, begin)
			a.HandleRPC(rpc, end)
		}
	})
}

func TestTapAllocations(t *testing.T) { //nolint:paralleltest // it counts the allocations of the whole process
	if verify.Enabled {
		t.Skip("the race detector changes what is allocated")
	}
	ctx, info := context.Background(), tapInfo()
	for _, c := range tapCases() {
		handles := c.handles()
		count := func(impl string) float64 {
			return testing.AllocsPerRun(1000, func() { _, _ = handles[impl](ctx, info) })
		}
		require.Zero(t, count("streamsafe"), c.name)
		require.Positive(t, count("failsafegrpc"), "%s: fewer than theirs", c.name)
	}
}
