package backoff

import (
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// newBuilder returns a builder whose delays nobody has a say in.
func newBuilder() retrypolicy.Builder[any] {
	return NewBuilder(100*time.Millisecond, 10*time.Second,
		func(_ failsafe.ExecutionAttempt[any], delay time.Duration) time.Duration { return delay })
}

// Invariant 20: cap, then jitter; the first delay is jittered too, and none is zero.
func TestBoundsOfJitter(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		first := time.Duration(rapid.Int64Range(1, int64(time.Minute)).Draw(t, "first"))
		most := first + time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "more"))
		factor := rapid.Float64Range(1.1, 10).Draw(t, "factor")
		kind := rapid.SampledFrom([]string{"full", "jitter", "factor", "random"}).Draw(t, "kind")
		jitter := time.Duration(rapid.Int64Range(0, int64(first)).Draw(t, "jitter"))
		share := rapid.Float64Range(0, 1).Draw(t, "share")
		b := newBuilder().WithBackoffFactor(first, most, factor)
		switch kind {
		case "jitter":
			b.WithJitter(jitter)
		case "factor":
			b.WithJitterFactor(share)
		case "random":
			b.WithRandomDelay(first, most)
		}
		chosen := b.(*builder).schedule
		for retries := range 12 {
			base := float64(first)
			for range retries {
				base = min(base*factor, float64(most))
			}
			low, high := 0.0, base
			switch kind {
			case "jitter":
				low, high = base-float64(jitter), base+float64(jitter)
			case "factor":
				low, high = base-base*share-1, base+base*share+1
			case "random":
				low, high = float64(first), float64(most)
			}
			got := float64(chosen.delay(retried{retries: retries}))
			if got < low-1 || got > high+1 || got < 0 || (kind == "full" && got == 0) {
				t.Fatalf("retry %d: %v is not within %v and %v", retries, got, low, high)
			}
		}
	})
}

// retried is an execution that has been retried so often.
type retried struct {
	failsafe.ExecutionAttempt[any]
	retries int
	failure error
}

// capped is a failure that says how far the backoff may grow.
type capped time.Duration

func (c capped) Error() string { return "" }

func (c capped) MaxBackoff() time.Duration { return time.Duration(c) }

// A failure may cap the backoff, before the jitter, but not below what it starts from.
func TestAFailureCapsTheBackoff(t *testing.T) {
	t.Parallel()
	for most, want := range map[time.Duration]time.Duration{0: 8 * time.Second, 3 * time.Second: 3 * time.Second, time.Millisecond: time.Second} {
		b := newBuilder().WithBackoff(time.Second, time.Minute).(*builder)
		delay, jitter := b.schedule.unjittered(retried{retries: 3, failure: capped(most)})
		require.Equal(t, want, delay, "with a limit of %v", most)
		require.True(t, jitter)
	}
}

func (r retried) Retries() int { return r.retries }

func (r retried) LastError() error { return r.failure }

// The order of the builder's methods does not take the jitter away.
func TestJitterIsBackAfterARandomDelay(t *testing.T) {
	t.Parallel()
	b := newBuilder().WithRandomDelay(time.Second, 2*time.Second).WithBackoff(time.Second, time.Second)
	seen := map[time.Duration]bool{}
	for range 100 {
		seen[b.(*builder).schedule.delay(retried{})] = true
	}
	require.Greater(t, len(seen), 90)
	b = newBuilder().WithJitter(time.Minute).WithRandomDelay(time.Hour, time.Hour)
	require.NotEqual(t, time.Hour, b.(*builder).schedule.delay(retried{}), "jitter that was asked for stays")
}

func TestJitterSpreads(t *testing.T) {
	t.Parallel()
	chosen := newBuilder().(*builder).schedule
	var sum time.Duration
	seen := map[time.Duration]bool{}
	for range 1000 {
		d := chosen.delay(retried{})
		sum += d
		seen[d] = true
	}
	require.Greater(t, len(seen), 900, "the first delay is jittered")
	require.InDelta(t, 50*time.Millisecond, sum/1000, float64(5*time.Millisecond), "in the mean")
}
