package policykind_test

import (
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/adaptivelimiter"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/cachepolicy"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/hedgepolicy"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/internal/policykind"
)

type own struct{ failsafe.Policy[any] }

// A new version of failsafe-go that moves a policy makes this red.
func TestKinds(t *testing.T) {
	t.Parallel()
	for want, policies := range map[policykind.Kind][]failsafe.Policy[any]{
		policykind.AdaptiveLimiter: {adaptivelimiter.NewWithDefaults[any]()},
		policykind.Bulkhead:        {bulkhead.New[any](1)},
		policykind.Cache:           {cachepolicy.New[any](nil)},
		policykind.CircuitBreaker:  {circuitbreaker.NewWithDefaults[any]()},
		policykind.Hedge:           {hedgepolicy.NewWithDelay[any](time.Second)},
		policykind.Retry:           {retrypolicy.NewWithDefaults[any](), retrypolicy.NewBuilder[any]().WithDelay(time.Second).Build()},
		policykind.Other:           {own{}, &own{}, nil},
	} {
		for _, p := range policies {
			require.Equal(t, want, policykind.Of(p), "%T", p)
		}
	}
}
