package stream_test

import (
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/stream"
)

// What the server asks for is the least also where a limiter denies the try that comes next: that denial asks for nothing.
func TestAHintHoldsWhereTheNextTryIsDenied(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		later := withRetryInfo(t, codes.Unavailable, 10*time.Minute)
		w := scripted(t, lasts(20*time.Second, later, numbered(1)...), sends(nil, numbered(2)...))
		limit := ratelimiter.NewBursty[any](1, time.Minute) // the first open has taken what there is for this minute
		s := w.mustDial(positions(), stream.WithStreamPolicies(stream.NewRetryPolicyBuilder().Build(), limit))
		mustReceive(t, s, 1)
		time.Sleep(20 * time.Second)
		lost := time.Now()
		mustReceive(t, s, 2)
		require.GreaterOrEqual(t, time.Since(lost), 10*time.Minute, "the server asked for ten minutes")
		require.Less(t, time.Since(lost), 11*time.Minute)
		_, err := s.Recv()
		require.ErrorIs(t, err, io.EOF)
	})
}

// The retry policy of this package minds the server at open scope, too.
func TestAHintHoldsAtOpenScope(t *testing.T) {
	t.Parallel()
	tests := map[string]func(t *testing.T, r *resumption) error{
		"RetryInfo, by Resume": func(t *testing.T, _ *resumption) error {
			t.Helper()
			return withRetryInfo(t, codes.Unavailable, 10*time.Minute)
		},
		"a pushback, by the server": func(_ *testing.T, r *resumption) error {
			_, err := r.Recv()
			return err
		},
	}
	for name, first := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				s := scripted(t, pushesBack("600000", errGone), stays()).mustDial(
					resumes(func(_ context.Context, r *resumption) error {
						if r.Attempt() == 1 {
							return first(t, r)
						}
						return nil
					}), stream.WithOpenPolicies(stream.NewRetryPolicyBuilder().WithMaxRetries(2).Build()))
				require.GreaterOrEqual(t, time.Since(began), 10*time.Minute, "the server asked for ten minutes")
				require.Equal(t, uint64(2), s.Stats().Attempts)
			})
		})
	}
}

// The denial of an open breaker says when to try again.
func TestABreakersDenialTellsWhen(t *testing.T) {
	t.Parallel()
	once := func() retrypolicy.Builder[any] { return stream.NewRetryPolicyBuilder().WithJitter(0).WithMaxRetries(1) }
	type options = []stream.ClientOption
	tests := map[string]func(breaker failsafe.Policy[any]) options{
		"alone": func(breaker failsafe.Policy[any]) options { return options{stream.WithStreamPolicies(breaker)} },
		"inside a retry policy": func(breaker failsafe.Policy[any]) options {
			return options{stream.WithStreamPolicies(once().WithDelay(time.Millisecond).Build(), breaker)}
		},
		"at open scope": func(breaker failsafe.Policy[any]) options {
			return options{stream.WithOpenPolicies(breaker), stream.WithStreamPolicies(once().WithMaxRetries(0).Build())}
		},
	}
	for name, with := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				breaker := circuitbreaker.NewBuilder[any]().WithDelay(time.Minute).Build()
				breaker.Open()
				time.Sleep(10 * time.Second)
				_, err := scripted(t, stays()).dial(t.Context(), positions(), with(breaker)...)
				wantEnd(t, err, stream.ReasonPolicy, codes.Unavailable, "the breaker's code")
				require.ErrorIs(t, err, circuitbreaker.ErrOpen)
				details := status.Convert(err).Details()
				require.Len(t, details, 1)
				info, ok := details[0].(*errdetails.RetryInfo)
				require.True(t, ok)
				remains := info.GetRetryDelay().AsDuration()
				require.InDelta(t, 50*time.Second, remains, float64(10*time.Millisecond), "of the breaker's delay")
			})
		})
	}
}

// retryDelay returns what an error says of when to try again.
func retryDelay(t *testing.T, err error) time.Duration {
	t.Helper()
	details := status.Convert(err).Details()
	require.Len(t, details, 1, "details of %v", err)
	info, ok := details[0].(*errdetails.RetryInfo)
	require.True(t, ok, "%v is a RetryInfo", details[0])
	return info.GetRetryDelay().AsDuration()
}

// Of several breakers, all have to let an attempt through: the one that is open for longest says when to try again,
// wherever it stands. One that is closed says nothing.
func TestTheDelayOfSeveralBreakers(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		delays []time.Duration // of breakers, the outermost first; zero: closed
		want   time.Duration
	}{
		"the outer one for longer":  {[]time.Duration{time.Hour, time.Minute}, time.Hour},
		"the inner one for longer":  {[]time.Duration{time.Minute, time.Hour}, time.Hour},
		"the outer one alone":       {[]time.Duration{time.Minute, 0}, time.Minute},
		"the inner one alone":       {[]time.Duration{0, time.Minute}, time.Minute},
		"the one in the middle":     {[]time.Duration{time.Minute, time.Hour, 2 * time.Minute}, time.Hour},
		"one in the middle, closed": {[]time.Duration{time.Minute, 0, time.Hour}, time.Hour},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var breakers []failsafe.Policy[any]
				for _, delay := range test.delays {
					breaker := circuitbreaker.NewBuilder[any]().WithDelay(max(delay, time.Second)).Build()
					if delay > 0 {
						breaker.Open()
					}
					breakers = append(breakers, breaker)
				}
				never := stream.NewRetryPolicyBuilder().WithMaxRetries(0).Build()
				w := scripted(t, stays())
				_, err := w.dial(t.Context(), positions(), stream.WithStreamPolicies(breakers...))
				wantEnd(t, err, stream.ReasonPolicy, codes.Unavailable, "denied at stream scope")
				require.Equal(t, test.want, retryDelay(t, err), "at stream scope")
				_, err = w.dial(t.Context(), positions(), stream.WithOpenPolicies(breakers...), stream.WithStreamPolicies(never))
				wantEnd(t, err, stream.ReasonPolicy, codes.Unavailable, "denied at open scope")
				require.Equal(t, test.want, retryDelay(t, err), "at open scope")
			})
		})
	}
}
