package unary_test

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/fallback"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/unary"
)

type tenant struct{}

func tenantOf(ctx context.Context, _ string) string {
	name, _ := ctx.Value(tenant{}).(string)
	return name
}

// Each key has policies of its own, around those of the method; what a key spends is not the others'.
func TestKeys(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		made := map[string]int{}
		once := func(key string) []failsafe.Policy[any] {
			made[key]++
			return policies{ratelimiter.NewBursty[any](1, time.Hour)}
		}
		opts := []unary.Option{
			unary.WithKey(tenantOf, once, 2),
			unary.WithPolicies(fallback.NewWithError[any](status.Error(codes.Aborted, "of the method"))),
		}
		require.NoError(t, unary.Validate(opts...))
		in := unary.ClientInterceptor(opts...)
		as := func(key string, opts ...grpc.CallOption) codes.Code {
			_, err := call(context.WithValue(t.Context(), tenant{}, key), in, fails(codes.Unavailable), opts...)
			return status.Code(err)
		}
		for _, key := range []string{"a", "b"} {
			require.Equal(t, codes.Aborted, as(key), "the policies of the method are inside")
			require.Equal(t, codes.ResourceExhausted, as(key))
		}
		require.Equal(t, codes.Aborted, as("c"), "no room: the policies for overflow")
		require.Equal(t, codes.ResourceExhausted, as("d"), "which all share")
		require.Equal(t, codes.ResourceExhausted, as(strings.Repeat("x", 257)))
		require.Equal(t, codes.ResourceExhausted, as(unary.OverflowKey))
		require.Equal(t, codes.Unavailable, as("a", unary.WithPolicies()), "a call's own options replace all")
		require.Equal(t, map[string]int{"a": 1, "b": 1, unary.OverflowKey: 1}, made)

		time.Sleep(59 * time.Second)
		require.Equal(t, codes.ResourceExhausted, as("b"))
		time.Sleep(time.Second)
		require.Equal(t, codes.Aborted, as("c"), "a was idle for a minute")
		require.Equal(t, codes.ResourceExhausted, as("b"), "and b was not")
		require.Equal(t, map[string]int{"a": 1, "b": 1, "c": 1, unary.OverflowKey: 1}, made)
	})
}

func TestKeysOnAServerAndMistakes(t *testing.T) {
	t.Parallel()
	one := func(string) []failsafe.Policy[any] { return policies{bulkhead.New[any](0)} }
	in := unary.ServerInterceptor(unary.WithKey(tenantOf, one, 0))
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			_, err := handle(context.WithValue(t.Context(), tenant{}, strconv.Itoa(i%10)), in,
				func(context.Context) (any, error) { return text(""), nil })
			if status.Code(err) != codes.ResourceExhausted {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, opt := range []unary.Option{
		unary.WithKey(nil, one, 0), unary.WithKey(tenantOf, nil, 0), unary.WithKey(tenantOf, one, -1),
	} {
		require.ErrorContains(t, unary.Validate(opt), "WithKey needs")
	}
	broken := unary.ClientInterceptor(unary.WithKey(tenantOf, func(string) []failsafe.Policy[any] { return policies{nil} }, 0))
	_, err := call(t.Context(), broken, fails(codes.OK))
	require.Equal(t, codes.Internal, status.Code(err))
	require.ErrorContains(t, err, "a policy is nil")
	under := unary.ClientInterceptor(unary.WithKey(tenantOf, one, 0), unary.WithExecutor(failsafe.With[any]()))
	_, err = call(t.Context(), under, fails(codes.OK))
	require.NoError(t, err, "executors have no policies of a key")
}
