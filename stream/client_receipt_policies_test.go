package stream_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/timeout"
	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/stream"
)

// Receipts work under policies: what a policy has denied has none.
func TestReceiptsUnderPolicies(t *testing.T) {
	t.Parallel()
	for _, form := range []string{"permits", "executor"} {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				breaker := stream.NewCircuitBreakerBuilder().WithDelay(time.Hour).Build()
				policies := []failsafe.Policy[any]{breaker}
				if form == "executor" {
					policies = append(policies, timeout.New[any](time.Hour))
				}
				w := newWorld(t, &feed{})
				s := w.mustOpen(withReplay(), stream.WithSendPolicies(policies...))
				receipts := mustTrack(t, s, 1, 5)
				breaker.Open()
				r, err := s.SendTracked(sized(6).request())
				requireReason(t, err, stream.ReasonDenied, "the breaker is open")
				require.Nil(t, r)
				for _, r := range receipts {
					require.NoError(t, r.Wait(t.Context()))
				}
				require.Equal(t, upTo(5), w.feed.stored)
			})
		})
	}
}
