package tap_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	grpctap "google.golang.org/grpc/tap"

	"github.com/streamsafe/streamsafe/tap"
)

// twice lets each key in two times, ever.
func twice(made *[]string) func(key string) []failsafe.Policy[any] {
	return func(key string) []failsafe.Policy[any] {
		if made != nil {
			*made = append(*made, key)
		}
		return policies(ratelimiter.NewBursty[any](2, 1000*time.Hour))
	}
}

func TestEachKeyHasPoliciesOfItsOwn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var made []string
		conn := serve(t, &service{}, grpc.InTapHandle(tap.ServerInHandle(tap.WithKey(tap.ByMetadata("Tenant"), twice(&made), 0))))
		for _, tenant := range []string{"a", "b"} {
			ctx := metadata.AppendToOutgoingContext(t.Context(), "tenant", tenant)
			for _, want := range []codes.Code{codes.OK, codes.OK, codes.ResourceExhausted} {
				require.Equal(t, want, status.Code(call(ctx, conn)), tenant)
			}
		}
		for _, want := range []codes.Code{codes.OK, codes.OK, codes.ResourceExhausted} {
			require.Equal(t, want, status.Code(call(t.Context(), conn)), "no tenant is a tenant like others")
		}
		for _, tenant := range []string{tap.OverflowKey, strings.Repeat("long", 65)} {
			require.NoError(t, call(metadata.AppendToOutgoingContext(t.Context(), "tenant", tenant), conn), "of the overflow")
		}
		require.Equal(t, []string{tap.OverflowKey, "a", "b", ""}, made, "once for each key")
	})
}

// A tenant that floods the server spends nothing of what others have.
func TestKeysAreAskedFirst(t *testing.T) {
	t.Parallel()
	server := ratelimiter.NewBursty[any](3, time.Hour)
	handle := tap.ServerInHandle(tap.WithPolicies(server), tap.WithKey(tap.ByMetadata("tenant"), twice(nil), 0))
	for range 100 {
		_ = knock(handle, unaryCall, "tenant", "greedy")
	}
	require.NoError(t, knock(handle, unaryCall, "tenant", "modest"))
	require.Error(t, knock(handle, unaryCall, "tenant", "modest"), "the server's own limit")
}

func TestKeysBeyondTheBound(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var made []string
		handle := tap.ServerInHandle(tap.WithKey(tap.ByMetadata("tenant"), twice(&made), 3))
		ask := func(tenant string) codes.Code { return status.Code(knock(handle, unaryCall, "tenant", tenant)) }
		for _, tenant := range []string{"a", "b", "c"} {
			require.Equal(t, codes.OK, ask(tenant))
		}
		require.Equal(t, codes.OK, ask("x1"))
		require.Equal(t, codes.OK, ask("x2"))
		for i := range 1000 {
			require.Equal(t, codes.ResourceExhausted, ask(fmt.Sprint("made up ", i)), "whoever makes up keys shares one limit")
		}
		require.Equal(t, codes.ResourceExhausted, ask(tap.OverflowKey), "which cannot be had by its name either")
		require.Equal(t, codes.ResourceExhausted, ask(strings.Repeat("long", 100)))
		require.Equal(t, codes.OK, ask("a"), "and takes none from those who have one")
		require.Len(t, made, 4, "nothing is made for those who get nothing")

		time.Sleep(59 * time.Second)
		require.Equal(t, codes.ResourceExhausted, ask("d"), "a key is not idle yet")
		require.Equal(t, codes.OK, ask("b"))
		time.Sleep(time.Second)
		require.Equal(t, codes.OK, ask("d"), "in the place of a or c")
		require.Equal(t, codes.ResourceExhausted, ask("b"), "which was used, and has its limit still")
		require.Equal(t, codes.OK, ask("d"))
		require.Equal(t, codes.ResourceExhausted, ask("d"))
	})
}

// A key whose RPCs are still running keeps its place, and with it its permits.
func TestAKeyInUseKeepsItsPlace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var made []string
		a := accountant(t, tap.WithKey(tap.ByMetadata("tenant"), func(key string) []failsafe.Policy[any] {
			made = append(made, key)
			return policies(bulkhead.New[any](1))
		}, 1))
		conn := serve(t, &service{unary: func(context.Context) error { <-release; return nil }}, a.ServerOptions()...)
		ask := func(tenant string) codes.Code {
			return status.Code(call(metadata.AppendToOutgoingContext(t.Context(), "tenant", tenant), conn))
		}
		var calls sync.WaitGroup
		calls.Go(func() { _ = ask("a") })
		synctest.Wait()
		time.Sleep(time.Hour)
		calls.Go(func() { _ = ask("b") }) // into the overflow
		synctest.Wait()
		require.Equal(t, codes.ResourceExhausted, ask("a"))
		require.Equal(t, codes.ResourceExhausted, ask("c"), "no room")
		close(release)
		calls.Wait()
		time.Sleep(time.Hour)
		require.Equal(t, codes.OK, ask("c"))
		require.Equal(t, codes.OK, ask("a"))
		require.Equal(t, []string{tap.OverflowKey, "a", "c"}, made)
		synctest.Wait()
		require.Zero(t, a.Stats().Running)
	})
}

func TestTwoMakeOneKeyAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		both := make(chan struct{})
		var making atomic.Int32
		handle := tap.ServerInHandle(tap.WithKey(tap.ByMethod(), func(key string) []failsafe.Policy[any] {
			if key != tap.OverflowKey {
				if making.Add(1) == 2 {
					close(both)
				}
				<-both
			}
			return policies(ratelimiter.NewBursty[any](1, time.Hour))
		}, 0))
		answers := make(chan error, 2)
		for range 2 {
			go func() { answers <- knock(handle, unaryCall) }()
		}
		got := []codes.Code{status.Code(<-answers), status.Code(<-answers)}
		require.ElementsMatch(t, []codes.Code{codes.OK, codes.ResourceExhausted}, got, "one limiter, whoever made it")
		require.Equal(t, int32(2), making.Load())
	})
}

func TestSelectors(t *testing.T) {
	t.Parallel()
	info := &grpctap.Info{FullMethodName: unaryCall, Header: metadata.Pairs("tenant", "first", "tenant", "second")}
	require.Equal(t, "first", tap.ByMetadata("TENANT")(t.Context(), info))
	require.Empty(t, tap.ByMetadata("other")(t.Context(), info))
	require.Equal(t, unaryCall, tap.ByMethod()(t.Context(), info))
	require.Empty(t, tap.ByPeer()(t.Context(), info))
	for want, addr := range map[string]net.Addr{
		"192.0.2.1": &net.TCPAddr{IP: net.ParseIP("192.0.2.1"), Port: 17},
		"/socket":   &net.UnixAddr{Name: "/socket"},
	} {
		require.Equal(t, want, tap.ByPeer()(peer.NewContext(t.Context(), &peer.Peer{Addr: addr}), info))
	}
}
