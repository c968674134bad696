package stream_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/stream"
)

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
