package trial

import (
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"

	"github.com/streamsafe/streamsafe/internal/rpcstatus"
)

// builder builds a [Breaker]. Its methods pass on what they are given, and return this builder, which the embedded one's
// would not.
type builder struct {
	circuitbreaker.Builder[any]
}

// NewBuilder returns a builder of circuit breakers that take trials back.
func NewBuilder() circuitbreaker.Builder[any] { return &builder{circuitbreaker.NewBuilder[any]()} }

// NewServerBuilder returns a builder of circuit breakers that count faults of the server only. By default such a breaker opens
// when 10 of the last 20 outcomes were faults, for 5 s, give or take a fifth, and closes after 3 successes in a row.
func NewServerBuilder() circuitbreaker.Builder[any] {
	return NewBuilder().
		HandleIf(func(_ any, err error) bool { return rpcstatus.IsServerFault(err) }).
		WithFailureThresholdRatio(10, 20).
		WithDelay(5 * time.Second).WithJitterFactor(0.2).
		WithSuccessThreshold(3)
}

// Build returns a breaker with the builder's configuration.
func (b *builder) Build() circuitbreaker.CircuitBreaker[any] { return &Breaker{b.Builder.Build()} }

// HandleErrors is documented in [circuitbreaker.Builder].
func (b *builder) HandleErrors(errs ...error) circuitbreaker.Builder[any] {
	b.Builder.HandleErrors(errs...)
	return b
}

// HandleErrorTypes is documented in [circuitbreaker.Builder].
func (b *builder) HandleErrorTypes(errs ...any) circuitbreaker.Builder[any] {
	b.Builder.HandleErrorTypes(errs...)
	return b
}

// HandleResult is documented in [circuitbreaker.Builder].
func (b *builder) HandleResult(result any) circuitbreaker.Builder[any] {
	b.Builder.HandleResult(result)
	return b
}

// HandleIf is documented in [circuitbreaker.Builder].
func (b *builder) HandleIf(predicate func(any, error) bool) circuitbreaker.Builder[any] {
	b.Builder.HandleIf(predicate)
	return b
}

// OnSuccess is documented in [circuitbreaker.Builder].
func (b *builder) OnSuccess(listener func(failsafe.ExecutionEvent[any])) circuitbreaker.Builder[any] {
	b.Builder.OnSuccess(listener)
	return b
}

// OnFailure is documented in [circuitbreaker.Builder].
func (b *builder) OnFailure(listener func(failsafe.ExecutionEvent[any])) circuitbreaker.Builder[any] {
	b.Builder.OnFailure(listener)
	return b
}

// OnStateChanged is documented in [circuitbreaker.Builder].
func (b *builder) OnStateChanged(listener func(circuitbreaker.StateChangedEvent)) circuitbreaker.Builder[any] {
	b.Builder.OnStateChanged(listener)
	return b
}

// OnClose is documented in [circuitbreaker.Builder].
func (b *builder) OnClose(listener func(circuitbreaker.StateChangedEvent)) circuitbreaker.Builder[any] {
	b.Builder.OnClose(listener)
	return b
}

// OnOpen is documented in [circuitbreaker.Builder].
func (b *builder) OnOpen(listener func(circuitbreaker.StateChangedEvent)) circuitbreaker.Builder[any] {
	b.Builder.OnOpen(listener)
	return b
}

// OnHalfOpen is documented in [circuitbreaker.Builder].
func (b *builder) OnHalfOpen(listener func(circuitbreaker.StateChangedEvent)) circuitbreaker.Builder[any] {
	b.Builder.OnHalfOpen(listener)
	return b
}

// WithFailureThreshold is documented in [circuitbreaker.Builder].
func (b *builder) WithFailureThreshold(threshold uint) circuitbreaker.Builder[any] {
	b.Builder.WithFailureThreshold(threshold)
	return b
}

// WithFailureThresholdRatio is documented in [circuitbreaker.Builder].
func (b *builder) WithFailureThresholdRatio(threshold, capacity uint) circuitbreaker.Builder[any] {
	b.Builder.WithFailureThresholdRatio(threshold, capacity)
	return b
}

// WithFailureThresholdPeriod is documented in [circuitbreaker.Builder].
func (b *builder) WithFailureThresholdPeriod(threshold uint, period time.Duration) circuitbreaker.Builder[any] {
	b.Builder.WithFailureThresholdPeriod(threshold, period)
	return b
}

// WithFailureRateThreshold is documented in [circuitbreaker.Builder].
func (b *builder) WithFailureRateThreshold(rate float64, executions uint, period time.Duration) circuitbreaker.Builder[any] {
	b.Builder.WithFailureRateThreshold(rate, executions, period)
	return b
}

// WithDelay is documented in [circuitbreaker.Builder].
func (b *builder) WithDelay(delay time.Duration) circuitbreaker.Builder[any] {
	b.Builder.WithDelay(delay)
	return b
}

// WithDelayFunc is documented in [circuitbreaker.Builder].
func (b *builder) WithDelayFunc(delay failsafe.DelayFunc[any]) circuitbreaker.Builder[any] {
	b.Builder.WithDelayFunc(delay)
	return b
}

// WithRandomDelay is documented in [circuitbreaker.Builder].
func (b *builder) WithRandomDelay(delayMin, delayMax time.Duration) circuitbreaker.Builder[any] {
	b.Builder.WithRandomDelay(delayMin, delayMax)
	return b
}

// WithJitter is documented in [circuitbreaker.Builder].
func (b *builder) WithJitter(jitter time.Duration) circuitbreaker.Builder[any] {
	b.Builder.WithJitter(jitter)
	return b
}

// WithJitterFactor is documented in [circuitbreaker.Builder].
func (b *builder) WithJitterFactor(factor float64) circuitbreaker.Builder[any] {
	b.Builder.WithJitterFactor(factor)
	return b
}

// WithSuccessThreshold is documented in [circuitbreaker.Builder].
func (b *builder) WithSuccessThreshold(threshold uint) circuitbreaker.Builder[any] {
	b.Builder.WithSuccessThreshold(threshold)
	return b
}

// WithSuccessThresholdRatio is documented in [circuitbreaker.Builder].
func (b *builder) WithSuccessThresholdRatio(threshold, capacity uint) circuitbreaker.Builder[any] {
	b.Builder.WithSuccessThresholdRatio(threshold, capacity)
	return b
}
