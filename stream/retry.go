package stream

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/budget"
	"github.com/failsafe-go/failsafe-go/retrypolicy"

	"github.com/streamsafe/streamsafe/internal/rpcstatus"
)

// The backoff of NewRetryPolicyBuilder.
const (
	defaultBackoff    = 100 * time.Millisecond
	defaultMaxBackoff = 10 * time.Second
)

// NewRetryPolicyBuilder returns a builder of retry policies for WithStreamPolicies. By default such a policy retries
// without limit (the context is the limit) what may be resumed, and what another policy denied: breaker open, limit
// reached. Before each retry, the first included, it waits for a random time between nothing and a backoff that starts
// at 100 ms and doubles up to 10 s (full jitter), and at least for what the server asked for by google.rpc.RetryInfo or
// grpc-retry-pushback-ms.
//
// WithBackoff, WithBackoffFactor, WithDelay, WithRandomDelay and WithDelayFunc change the delay, and WithJitter and
// WithJitterFactor replace the full jitter; what the server asked for is the least in every case. The other methods are
// those of [retrypolicy.Builder].
func NewRetryPolicyBuilder() retrypolicy.Builder[any] {
	b := &retryBuilder{Builder: retrypolicy.NewBuilder[any]()}
	b.backoff = backoff{first: defaultBackoff, most: defaultMaxBackoff, factor: 2}
	b.Builder.WithMaxRetries(-1).HandleIf(func(_ any, err error) bool { return worthWaiting(err) })
	return b
}

// worthWaiting reports whether a failed try of an outage is to be followed by another.
func worthWaiting(err error) bool {
	if e, ok := errors.AsType[*attemptError](err); ok {
		return !e.final
	}
	if errors.Is(err, budget.ErrExceeded) {
		return false
	}
	return rpcstatus.IsDenial(err) || isTimeout(err) || resumable(err, rpcstatus.HintOf(err, nil))
}

// backoff computes the delay before a retry.
type backoff struct {
	first, most time.Duration
	factor      float64
	random      [2]time.Duration // drawn from, where the second is not zero
	custom      failsafe.DelayFunc[any]
	jitter      func(time.Duration) time.Duration // nil: full jitter, but for what is random already
}

// delay returns how long to wait after exec's last failure (invariant 20: cap, then jitter).
func (b backoff) delay(exec failsafe.ExecutionAttempt[any]) time.Duration {
	delay, jitter := b.unjittered(exec)
	switch {
	case b.jitter != nil:
		delay = b.jitter(delay)
	case jitter:
		delay = upTo(delay)
	}
	if e, ok := errors.AsType[*attemptError](exec.LastError()); ok {
		delay = max(delay, e.hint.Delay)
	}
	return delay
}

// unjittered returns the delay without jitter, and whether it needs any.
func (b backoff) unjittered(exec failsafe.ExecutionAttempt[any]) (delay time.Duration, jitter bool) {
	if b.custom != nil {
		if delay := b.custom(exec); delay >= 0 {
			return delay, true
		}
	}
	if b.random[1] > 0 {
		return b.random[0] + upTo(b.random[1]-b.random[0]), false
	}
	next := float64(b.first)
	for range exec.Retries() {
		if next *= b.factor; next >= float64(b.most) {
			return b.most, true
		}
	}
	return time.Duration(next), true
}

// upTo returns a random duration above zero and up to d; d where it is not above zero.
func upTo(d time.Duration) time.Duration {
	if d <= 0 {
		return d
	}
	return 1 + rand.N(d)
}

// scheduleKey is the context key of a func(time.Duration) that is told the delay before a retry.
type scheduleKey struct{}

func withSchedule(ctx context.Context, tell func(time.Duration)) context.Context {
	return context.WithValue(ctx, scheduleKey{}, tell)
}

// retryBuilder is a retrypolicy.Builder whose delay minds what the server asked for.
type retryBuilder struct {
	retrypolicy.Builder[any]
	backoff backoff
}

// Build returns a policy with the builder's configuration.
func (b *retryBuilder) Build() retrypolicy.RetryPolicy[any] {
	chosen := b.backoff
	return b.Builder.WithDelayFunc(func(exec failsafe.ExecutionAttempt[any]) time.Duration {
		delay := chosen.delay(exec)
		if tell, ok := exec.Context().Value(scheduleKey{}).(func(time.Duration)); ok {
			tell(delay)
		}
		return delay
	}).Build()
}
