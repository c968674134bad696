package stream

import (
	"context"
	"errors"
	"sync/atomic"
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
// without a limit on the number. The context and WithMaxOutage are the limits. It retries what may be resumed, and what
// another policy denied, such as an open circuit breaker. It does not retry a spent budget.
//
// It waits before each retry, the first included. The wait is random, between zero and a backoff (full jitter). The
// backoff is 100 ms first, and doubles up to 10 s. If the server asks for a longer wait, by google.rpc.RetryInfo or
// grpc-retry-pushback-ms, the policy waits as long as the server asks. After an attempt that brought something new, the
// backoff is at most as long as that attempt lasted, or 1 s if that is more.
//
// WithBackoff, WithBackoffFactor, WithDelay, WithRandomDelay and WithDelayFunc change the delay. WithJitter and
// WithJitterFactor replace the full jitter. The policy still waits at least as long as the server asks, with one
// exception: WithMaxDuration cuts a delay that does not fit. The other methods are those of [retrypolicy.Builder].
func NewRetryPolicyBuilder() retrypolicy.Builder[any] {
	return backoff.NewBuilder(firstBackoff, mostBackoff, settle).
		WithMaxRetries(-1).
		HandleIf(func(_ any, err error) bool { return worthWaiting(err) })
}

// settle makes what the server asked for the least, and tells the stream.
func settle(exec failsafe.ExecutionAttempt[any], delay time.Duration) time.Duration {
	s, ok := exec.Context().Value(scheduleKey{}).(*schedule)
	if !ok {
		return delay
	}
	delay = max(delay, s.hint(), s.floor())
	s.tell(delay)
	return delay
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

// schedule is what a stream has to do with the delay before a retry. The stream notes its failures here: an execution's
// LastError would tell them, too, but a timeout around the retry policy may write it meanwhile.
type schedule struct {
	tell  func(time.Duration)  // is told the delay
	floor func() time.Duration // is the least that the server has asked for, by its last word
	last  atomic.Pointer[failure]
}

// failure is what the delay before the next try depends on.
type failure struct{ hint, ceiling time.Duration }

// note notes the failure of a try.
func (s *schedule) note(f failure) { s.last.Store(&f) }

// noteEnd notes how an attempt has ended.
func (s *schedule) noteEnd(e *attemptError) { s.note(failure{hint: e.hint.Delay, ceiling: e.ceiling}) }

// hint is the least that the server has asked for with its last failure.
func (s *schedule) hint() time.Duration {
	if f := s.last.Load(); f != nil {
		return f.hint
	}
	return 0
}

// ceiling is the most that the backoff may come to: an attempt that brought something new lasted some time, and a server that
// restarts often is not to be waited for longer than that, or than a second. Zero: no limit.
func (s *schedule) ceiling() time.Duration {
	if f := s.last.Load(); f != nil {
		return f.ceiling
	}
	return 0
}

// scheduleKey is the context key of a *schedule.
type scheduleKey struct{}

func withSchedule(ctx context.Context, s *schedule) context.Context {
	return context.WithValue(backoff.WithLimit(ctx, s.ceiling), scheduleKey{}, s)
}
