package tap

import (
	"strconv"
	"strings"
	"testing"

	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/stats"
	grpctap "google.golang.org/grpc/tap"
)

// A server with a handler for unknown methods serves any name. What clients make up is kept up to a bound.
func TestMadeUpMethodsAreBounded(t *testing.T) {
	t.Parallel()
	a, err := NewAccountant(WithPolicies(bulkhead.New[any](9)))
	require.NoError(t, err)
	serve := func(method string) {
		ctx, err := a.Handle(t.Context(), &grpctap.Info{FullMethodName: method})
		require.NoError(t, err)
		ctx = a.TagRPC(ctx, &stats.RPCTagInfo{})
		a.HandleRPC(ctx, &stats.Begin{})
		a.HandleRPC(ctx, &stats.End{})
	}
	kept := func() int { return len(*a.served.Load()) }
	long := "/" + strings.Repeat("s", maxServedLength)
	serve(long[:maxServedLength-2] + "/m")
	require.Equal(t, 1, kept(), "a name of the greatest length")
	serve(long[:maxServedLength-1] + "/m")
	require.Equal(t, 1, kept(), "a longer one is not kept")

	known := make(map[string]struct{}, maxServed)
	for i := range maxServed - 1 {
		known["/s/"+strconv.Itoa(i)] = struct{}{}
	}
	a.served.Store(&known)
	for i := range 3 {
		serve("/made/up" + strconv.Itoa(i))
		require.Equal(t, maxServed, kept())
	}
	require.Zero(t, a.Stats().Running)
}
