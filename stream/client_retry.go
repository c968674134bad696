package stream

import (
	"context"
	"errors"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/budget"
	"github.com/failsafe-go/failsafe-go/retrypolicy"

	"github.com/streamsafe/streamsafe/internal/backoff"
	"github.com/streamsafe/streamsafe/internal/rpcstatus"
)

// The backoff of NewRetryPolicyBuilder.
const (
	firstBackoff = 100 * time.Millisecond
	mostBackoff  = 10 * time.Second
)

// NewRetryPolicyBuilder returns a builder of retry policies for WithStreamPolicies. By default such a policy retries
// without limit (the context is the limit) what may be resumed, and what another policy denied: breaker open, limit
// reached. Before each retry, the first included, it waits for a random time between nothing and a backoff that starts
// at 100 ms and doubles up to 10 s (full jitter), and at least for what the server asked for by google.rpc.RetryInfo or
// grpc-retry-pushback-ms.
//
// WithBackoff, WithBackoffFactor, WithDelay, WithRandomDelay and WithDelayFunc change the delay, and WithJitter and
// WithJitterFactor replace the full jitter; what the server asked for is the least in every case but one: a delay that does
// not fit into WithMaxDuration is cut. The other methods are those of [retrypolicy.Builder].
func NewRetryPolicyBuilder() retrypolicy.Builder[any] {
	return backoff.NewBuilder(firstBackoff, mostBackoff, settle).
		WithMaxRetries(-1).
		HandleIf(func(_ any, err error) bool { return worthWaiting(err) })
}

// settle makes what the server asked for the least, and tells the stream.
func settle(exec failsafe.ExecutionAttempt[any], delay time.Duration) time.Duration {
	var hint time.Duration
	if e, ok := errors.AsType[*attemptError](exec.LastError()); ok {
		hint = e.hint.Delay
	}
	if e, ok := errors.AsType[*openError](exec.LastError()); ok {
		hint = max(hint, e.loss.hint().Delay)
	}
	if s, ok := exec.Context().Value(scheduleKey{}).(*schedule); ok {
		delay = max(delay, hint, s.floor())
		s.tell(delay)
	}
	return max(delay, hint)
}

// worthWaiting reports whether a failed try of an outage is to be followed by another.
func worthWaiting(err error) bool {
	if e, ok := errors.AsType[*attemptError](err); ok {
		return !e.final
	}
	if e, ok := errors.AsType[*openError](err); ok {
		return !e.final
	}
	if errors.Is(err, budget.ErrExceeded) {
		return false
	}
	return rpcstatus.IsDenial(err) || isTimeout(err) || carriesStatus(err) && Resumable(err)
}

// schedule is what a stream has to do with the delay before a retry.
type schedule struct {
	tell  func(time.Duration)  // is told the delay
	floor func() time.Duration // is the least that the server has asked for, by its last word
}

// scheduleKey is the context key of a *schedule.
type scheduleKey struct{}

func withSchedule(ctx context.Context, s *schedule) context.Context {
	return context.WithValue(ctx, scheduleKey{}, s)
}
