package stream

import (
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/budget"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
)

// The methods of retryBuilder that change the delay keep it to themselves; the others pass on what they are given.
// Each returns the retryBuilder, which the embedded builder's would not.

func (b *retryBuilder) WithDelay(delay time.Duration) retrypolicy.Builder[any] {
	b.backoff.first, b.backoff.most, b.backoff.factor, b.backoff.random = delay, delay, 1, [2]time.Duration{}
	return b
}

func (b *retryBuilder) WithBackoff(delay, maxDelay time.Duration) retrypolicy.Builder[any] {
	return b.WithBackoffFactor(delay, maxDelay, 2)
}

func (b *retryBuilder) WithBackoffFactor(delay, maxDelay time.Duration, factor float64) retrypolicy.Builder[any] {
	b.backoff.first, b.backoff.most, b.backoff.factor, b.backoff.random = delay, maxDelay, factor, [2]time.Duration{}
	return b
}

func (b *retryBuilder) WithRandomDelay(delayMin, delayMax time.Duration) retrypolicy.Builder[any] {
	b.backoff.random = [2]time.Duration{delayMin, delayMax}
	return b
}

func (b *retryBuilder) WithDelayFunc(delayFunc failsafe.DelayFunc[any]) retrypolicy.Builder[any] {
	b.backoff.custom = delayFunc
	return b
}

func (b *retryBuilder) WithJitter(jitter time.Duration) retrypolicy.Builder[any] {
	b.backoff.jitter = func(d time.Duration) time.Duration { return max(0, d-jitter+upTo(2*jitter)) }
	return b
}

func (b *retryBuilder) WithJitterFactor(factor float64) retrypolicy.Builder[any] {
	b.backoff.jitter = func(d time.Duration) time.Duration {
		jitter := time.Duration(float64(d) * factor)
		return max(0, d-jitter+upTo(2*jitter))
	}
	return b
}

func (b *retryBuilder) HandleErrors(errs ...error) retrypolicy.Builder[any] {
	b.Builder.HandleErrors(errs...)
	return b
}

func (b *retryBuilder) HandleErrorTypes(errs ...any) retrypolicy.Builder[any] {
	b.Builder.HandleErrorTypes(errs...)
	return b
}

func (b *retryBuilder) HandleResult(result any) retrypolicy.Builder[any] {
	b.Builder.HandleResult(result)
	return b
}

func (b *retryBuilder) HandleIf(predicate func(any, error) bool) retrypolicy.Builder[any] {
	b.Builder.HandleIf(predicate)
	return b
}

func (b *retryBuilder) OnSuccess(listener func(failsafe.ExecutionEvent[any])) retrypolicy.Builder[any] {
	b.Builder.OnSuccess(listener)
	return b
}

func (b *retryBuilder) OnFailure(listener func(failsafe.ExecutionEvent[any])) retrypolicy.Builder[any] {
	b.Builder.OnFailure(listener)
	return b
}

func (b *retryBuilder) AbortOnResult(result any) retrypolicy.Builder[any] {
	b.Builder.AbortOnResult(result)
	return b
}

func (b *retryBuilder) AbortOnErrors(errs ...error) retrypolicy.Builder[any] {
	b.Builder.AbortOnErrors(errs...)
	return b
}

func (b *retryBuilder) AbortOnErrorTypes(errs ...any) retrypolicy.Builder[any] {
	b.Builder.AbortOnErrorTypes(errs...)
	return b
}

func (b *retryBuilder) AbortIf(predicate func(any, error) bool) retrypolicy.Builder[any] {
	b.Builder.AbortIf(predicate)
	return b
}

func (b *retryBuilder) ReturnLastFailure() retrypolicy.Builder[any] {
	b.Builder.ReturnLastFailure()
	return b
}

func (b *retryBuilder) WithMaxAttempts(maxAttempts int) retrypolicy.Builder[any] {
	b.Builder.WithMaxAttempts(maxAttempts)
	return b
}

func (b *retryBuilder) WithMaxRetries(maxRetries int) retrypolicy.Builder[any] {
	b.Builder.WithMaxRetries(maxRetries)
	return b
}

func (b *retryBuilder) WithMaxDuration(maxDuration time.Duration) retrypolicy.Builder[any] {
	b.Builder.WithMaxDuration(maxDuration)
	return b
}

func (b *retryBuilder) WithBudget(retryBudget budget.Budget) retrypolicy.Builder[any] {
	b.Builder.WithBudget(retryBudget)
	return b
}

func (b *retryBuilder) OnAbort(listener func(failsafe.ExecutionEvent[any])) retrypolicy.Builder[any] {
	b.Builder.OnAbort(listener)
	return b
}

func (b *retryBuilder) OnRetry(listener func(failsafe.ExecutionEvent[any])) retrypolicy.Builder[any] {
	b.Builder.OnRetry(listener)
	return b
}

func (b *retryBuilder) OnRetryScheduled(
	listener func(failsafe.ExecutionScheduledEvent[any]),
) retrypolicy.Builder[any] {
	b.Builder.OnRetryScheduled(listener)
	return b
}

func (b *retryBuilder) OnRetriesExceeded(listener func(failsafe.ExecutionEvent[any])) retrypolicy.Builder[any] {
	b.Builder.OnRetriesExceeded(listener)
	return b
}
