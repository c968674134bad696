package tap_test

import (
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go/ratelimiter"
	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/tap"
)

var _ interface {
	tap.AdmittedObserver
	tap.RefusedObserver
	tap.EndedObserver
} = (*journal)(nil)

func TestHooksHaveTheNamesOfTheMethods(t *testing.T) {
	t.Parallel()
	hooks, methods := reflect.TypeFor[tap.Hooks](), reflect.TypeFor[*journal]()
	require.Equal(t, methods.NumMethod(), hooks.NumField())
	for i := range methods.NumMethod() {
		_, has := hooks.FieldByName(methods.Method(i).Name)
		require.True(t, has, methods.Method(i).Name)
	}
}

// Hooks are told of what they have functions for. What they have none for leaves them their room.
func TestHooksAreToldOfTheirEventsOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		refused := make(chan tap.Reason, 1)
		handle := tap.ServerInHandle(
			tap.WithObserver(tap.Hooks{OnRefused: func(_ tap.Info, reason tap.Reason, _ error) { refused <- reason }}),
			tap.WithPolicies(ratelimiter.NewBursty[any](4*1024, time.Hour)))
		for range 4 * 1024 { // more than an observer may fall behind
			require.NoError(t, knock(handle, unaryCall))
		}
		require.Error(t, knock(handle, unaryCall))
		synctest.Wait()
		require.Equal(t, tap.ReasonRateLimiter, <-refused)
	})
}

func TestHooksWithoutAFunctionAreRefused(t *testing.T) {
	t.Parallel()
	for _, o := range []tap.Observer{tap.Hooks{}, &tap.Hooks{}, (*tap.Hooks)(nil)} {
		require.ErrorContains(t, tap.Validate(tap.WithObserver(o)), "none of the observer interfaces")
	}
	require.NoError(t, tap.Validate(tap.WithObserver(tap.Hooks{OnEnded: func(tap.Info, time.Duration, error) {}})))
}
