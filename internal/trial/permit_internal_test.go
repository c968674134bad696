package trial

import (
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/stretchr/testify/require"
)

func newBreaker() circuitbreaker.CircuitBreaker[any] {
	b := circuitbreaker.NewBuilder[any]().WithDelay(time.Hour).WithSuccessThreshold(1).Build()
	b.HalfOpen()
	return b
}

// What is kept is used once, and only by the half-open state that it is from.
func TestPermitsAreUsedOnce(t *testing.T) {
	t.Parallel()
	b := newBreaker()
	halfOpen, ok := Acquire(b)
	require.True(t, ok)
	require.True(t, halfOpen)
	_, ok = Acquire(b)
	require.False(t, ok, "a trial of one")
	Return(b)
	require.True(t, (&Breaker{b}).TryAcquirePermit(), "whoever asks")
	_, ok = Acquire(b)
	require.False(t, ok)

	Return(&Breaker{b})
	b.Open()
	_, ok = Acquire(b)
	require.False(t, ok, "the permit went with the state")
	b.HalfOpen()
	_, ok = Acquire(b)
	require.True(t, ok)
	_, ok = Acquire(b)
	require.False(t, ok, "one permit, and not two")

	b.Close()
	halfOpen, ok = Acquire(b)
	require.True(t, ok)
	require.False(t, halfOpen)
	Return(b)
	require.True(t, b.IsClosed())
}

// stranger is a breaker that cannot be a key.
type stranger struct {
	circuitbreaker.CircuitBreaker[any]
	_ []int
}

// Breakers that are dropped in the middle of a trial do not pile up. One for which there is no room begins its trial anew.
func TestKeptPermitsAreBounded(t *testing.T) {
	t.Parallel()
	var k keeper
	dropped := make([]circuitbreaker.CircuitBreaker[any], 0, maxKept)
	for range maxKept {
		dropped = append(dropped, newBreaker())
		require.True(t, k.put(dropped[len(dropped)-1]))
	}
	one := newBreaker()
	require.False(t, k.put(one), "no room")
	require.True(t, k.put(dropped[0]), "one that is known")
	dropped[1].Close()
	require.True(t, k.put(one), "a breaker that is half-open no more makes room")
	require.Len(t, k.permits, maxKept)

	require.False(t, k.put(stranger{CircuitBreaker: one}))
	require.False(t, k.take(stranger{CircuitBreaker: one}))
	odd := stranger{CircuitBreaker: newBreaker()}
	Return(odd)
	require.True(t, odd.IsOpen(), "rather than a trial without permits")
}
