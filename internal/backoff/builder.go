package backoff

import (
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/budget"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
)

// builder is a retrypolicy.Builder that computes the delays itself.
//
// The methods that change the delay keep it to themselves; the others pass on what they are given. Each returns this
// builder, which the embedded one's would not.
type builder struct {
	retrypolicy.Builder[any]
	schedule schedule
}

// Build returns a policy with the builder's configuration.
func (b *builder) Build() retrypolicy.RetryPolicy[any] {
	chosen := b.schedule
	return b.Builder.WithDelayFunc(chosen.delay).Build()
}

// WithDelay sets a fixed delay; the jitter applies to it.
func (b *builder) WithDelay(delay time.Duration) retrypolicy.Builder[any] {
	return b.WithBackoffFactor(delay, delay, 1)
}

// WithBackoff sets the backoff, with a factor of 2.
func (b *builder) WithBackoff(delay, maxDelay time.Duration) retrypolicy.Builder[any] {
	return b.WithBackoffFactor(delay, maxDelay, 2)
}

// WithBackoffFactor sets the backoff.
func (b *builder) WithBackoffFactor(delay, maxDelay time.Duration, factor float64) retrypolicy.Builder[any] {
	b.schedule.first, b.schedule.most, b.schedule.factor = delay, maxDelay, factor
	b.schedule.random = [2]time.Duration{}
	return b
}

// WithRandomDelay sets a delay drawn from a range, without further jitter.
func (b *builder) WithRandomDelay(delayMin, delayMax time.Duration) retrypolicy.Builder[any] {
	b.schedule.random = [2]time.Duration{delayMin, delayMax}
	return b
}

// WithDelayFunc sets a function to compute delays; where it returns less than zero, the backoff counts.
func (b *builder) WithDelayFunc(delayFunc failsafe.DelayFunc[any]) retrypolicy.Builder[any] {
	b.schedule.custom = delayFunc
	return b
}

// WithJitter replaces the full jitter: up to so much more or less.
func (b *builder) WithJitter(jitter time.Duration) retrypolicy.Builder[any] {
	b.schedule.jitter = func(d time.Duration) time.Duration { return max(0, d-jitter+UpTo(2*jitter)) }
	return b
}

// WithJitterFactor replaces the full jitter: up to so large a part more or less.
func (b *builder) WithJitterFactor(factor float64) retrypolicy.Builder[any] {
	b.schedule.jitter = func(d time.Duration) time.Duration {
		jitter := time.Duration(float64(d) * factor)
		return max(0, d-jitter+UpTo(2*jitter))
	}
	return b
}

// HandleErrors is documented in [retrypolicy.Builder].
func (b *builder) HandleErrors(errs ...error) retrypolicy.Builder[any] {
	b.Builder.HandleErrors(errs...)
	return b
}

// HandleErrorTypes is documented in [retrypolicy.Builder].
func (b *builder) HandleErrorTypes(errs ...any) retrypolicy.Builder[any] {
	b.Builder.HandleErrorTypes(errs...)
	return b
}

// HandleResult is documented in [retrypolicy.Builder].
func (b *builder) HandleResult(result any) retrypolicy.Builder[any] {
	b.Builder.HandleResult(result)
	return b
}

// HandleIf is documented in [retrypolicy.Builder].
func (b *builder) HandleIf(predicate func(any, error) bool) retrypolicy.Builder[any] {
	b.Builder.HandleIf(predicate)
	return b
}

// OnSuccess is documented in [retrypolicy.Builder].
func (b *builder) OnSuccess(listener func(failsafe.ExecutionEvent[any])) retrypolicy.Builder[any] {
	b.Builder.OnSuccess(listener)
	return b
}

// OnFailure is documented in [retrypolicy.Builder].
func (b *builder) OnFailure(listener func(failsafe.ExecutionEvent[any])) retrypolicy.Builder[any] {
	b.Builder.OnFailure(listener)
	return b
}

// AbortOnResult is documented in [retrypolicy.Builder].
func (b *builder) AbortOnResult(result any) retrypolicy.Builder[any] {
	b.Builder.AbortOnResult(result)
	return b
}

// AbortOnErrors is documented in [retrypolicy.Builder].
func (b *builder) AbortOnErrors(errs ...error) retrypolicy.Builder[any] {
	b.Builder.AbortOnErrors(errs...)
	return b
}

// AbortOnErrorTypes is documented in [retrypolicy.Builder].
func (b *builder) AbortOnErrorTypes(errs ...any) retrypolicy.Builder[any] {
	b.Builder.AbortOnErrorTypes(errs...)
	return b
}

// AbortIf is documented in [retrypolicy.Builder].
func (b *builder) AbortIf(predicate func(any, error) bool) retrypolicy.Builder[any] {
	b.Builder.AbortIf(predicate)
	return b
}

// ReturnLastFailure is documented in [retrypolicy.Builder].
func (b *builder) ReturnLastFailure() retrypolicy.Builder[any] {
	b.Builder.ReturnLastFailure()
	return b
}

// WithMaxAttempts is documented in [retrypolicy.Builder].
func (b *builder) WithMaxAttempts(attempts int) retrypolicy.Builder[any] {
	b.Builder.WithMaxAttempts(attempts)
	return b
}

// WithMaxRetries is documented in [retrypolicy.Builder].
func (b *builder) WithMaxRetries(retries int) retrypolicy.Builder[any] {
	b.Builder.WithMaxRetries(retries)
	return b
}

// WithMaxDuration is documented in [retrypolicy.Builder].
func (b *builder) WithMaxDuration(limit time.Duration) retrypolicy.Builder[any] {
	b.Builder.WithMaxDuration(limit)
	return b
}

// WithBudget is documented in [retrypolicy.Builder].
func (b *builder) WithBudget(retries budget.Budget) retrypolicy.Builder[any] {
	b.Builder.WithBudget(retries)
	return b
}

// OnAbort is documented in [retrypolicy.Builder].
func (b *builder) OnAbort(listener func(failsafe.ExecutionEvent[any])) retrypolicy.Builder[any] {
	b.Builder.OnAbort(listener)
	return b
}

// OnRetry is documented in [retrypolicy.Builder].
func (b *builder) OnRetry(listener func(failsafe.ExecutionEvent[any])) retrypolicy.Builder[any] {
	b.Builder.OnRetry(listener)
	return b
}

// OnRetryScheduled is documented in [retrypolicy.Builder].
func (b *builder) OnRetryScheduled(listener func(failsafe.ExecutionScheduledEvent[any])) retrypolicy.Builder[any] {
	b.Builder.OnRetryScheduled(listener)
	return b
}

// OnRetriesExceeded is documented in [retrypolicy.Builder].
func (b *builder) OnRetriesExceeded(listener func(failsafe.ExecutionEvent[any])) retrypolicy.Builder[any] {
	b.Builder.OnRetriesExceeded(listener)
	return b
}
