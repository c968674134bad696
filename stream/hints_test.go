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
