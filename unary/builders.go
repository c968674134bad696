package unary

import (
	"errors"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/hedgepolicy"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"google.golang.org/grpc/codes"

	"github.com/streamsafe/streamsafe/internal/backoff"
	"github.com/streamsafe/streamsafe/internal/rpcstatus"
	"github.com/streamsafe/streamsafe/internal/trial"
)

// The backoff of NewRetryPolicyBuilder.
const (
	firstBackoff = 50 * time.Millisecond
	mostBackoff  = 2 * time.Second
)

// NewRetryPolicyBuilder returns a builder of retry policies. By default such a policy retries what [Retryable] allows,
// up to 2 times. Before each retry it waits for a random time, up to a backoff that starts at 50 ms and doubles up to
// 2 s (full jitter). If the server asked for a delay, by google.rpc.RetryInfo or grpc-retry-pushback-ms, it waits for that
// time at least. A retry is not waited for if it would begin after the deadline of the caller or of a timeout
// around the policy, after WithMaxDuration, or if the server asks for more than [WithMaxHint]: the call ends with the
// failure at once.
//
// WithBackoff, WithBackoffFactor, WithDelay, WithRandomDelay and WithDelayFunc change the delay, and WithJitter and
// WithJitterFactor replace the full jitter; what the server asked for is the least in every case. HandleIf and
// HandleErrors add to what is retried. OnAbort is told when the server's word, or a deadline, forbids the retry of what
// would be retried otherwise. The other methods are those of [retrypolicy.Builder].
func NewRetryPolicyBuilder() retrypolicy.Builder[any] {
	return backoff.NewBuilder(firstBackoff, mostBackoff, settle).
		HandleIf(func(_ any, err error) bool { return worthARetry(err) }).
		AbortIf(func(_ any, err error) bool {
			failed, ok := errors.AsType[*tryError](err)
			return ok && failed.final
		})
}

// settle makes the delay at least what the server asked for, so that OnRetryScheduled tells what is waited. It gives up if
// the delay goes beyond the deadline.
func settle(exec failsafe.ExecutionAttempt[any], delay time.Duration) time.Duration {
	if at := notBefore(exec.LastError()); !at.IsZero() {
		delay = max(delay, time.Until(at))
	}
	e, ok := exec.(*execution)
	if !ok {
		return delay
	}
	if deadline, ok := e.scope.ctx.Deadline(); ok && time.Until(deadline) <= delay {
		e.frame.giveUp = true
		return 0
	}
	return delay
}

// Retryable reports whether NewRetryPolicyBuilder's policies retry after an error:
//
//	UNAVAILABLE                    always
//	DEADLINE_EXCEEDED              if the method is idempotent
//	RESOURCE_EXHAUSTED             if it is idempotent and the server said when to come back
//	everything else, and denials   never: a breaker that is open is there to make calls fail fast
//
// A grpc-retry-pushback-ms that asks not to retry makes it never, and so does a retry policy inside that was stopped, by its
// budget say. Idempotency is known of errors that a policy sees, and of no others.
func Retryable(err error) bool {
	failed, ok := errors.AsType[*tryError](err)
	return worthARetry(err) && (!ok || !failed.hint.Never)
}

// worthARetry is Retryable but for the server's pushback, which ends the retries in another way: listeners hear of it.
func worthARetry(err error) bool {
	if err == nil || rpcstatus.IsDenial(err) {
		return false
	}
	if _, stopped := errors.AsType[*rpcstatus.StoppedError](err); stopped {
		return false
	}
	var failed tryError
	if known, ok := errors.AsType[*tryError](err); ok {
		failed = *known
	}
	code := rpcstatus.Of(err).Code()
	return code == codes.Unavailable ||
		failed.idempotent && (code == codes.DeadlineExceeded || code == codes.ResourceExhausted && failed.hint.Given)
}

// NewCircuitBreakerBuilder returns a builder of circuit breakers that count [ServerFault] only. By default such a
// breaker opens when 10 of the last 20 calls failed, for 5 s, give or take a fifth; then it lets calls through, and closes
// when 3 have succeeded in a row.
//
// A call that says nothing about the server is neither success nor failure, and its permit of a half-open breaker is used
// again: one that the caller or a hedge that won has cancelled, one that a policy inside the breaker has denied, and one
// that ends with CANCELLED. That holds for every breaker given to WithPolicies, and under executors for these.
func NewCircuitBreakerBuilder() circuitbreaker.Builder[any] { return trial.NewServerBuilder() }

// ServerFault reports whether an error tells against the health of the server: UNAVAILABLE, DEADLINE_EXCEEDED,
// INTERNAL, UNKNOWN, DATA_LOSS, a timeout or a panic. A wrong request (INVALID_ARGUMENT, NOT_FOUND …), a limit
// (RESOURCE_EXHAUSTED), a caller that has gone (CANCELLED) and a policy's denial do not.
func ServerFault(err error) bool { return rpcstatus.IsServerFault(err) }

// NewHedgePolicyBuilder returns a builder of hedge policies: if a call is not done after the delay, another attempt
// of it begins, one at most by default, and the first success wins; the others are cancelled. Methods that are not
// idempotent (see [WithIdempotent]) are not hedged.
//
// Under the interceptors of this package a failure counts only when no other attempt runs, whatever the builder's
// CancelOn methods say: a hedge that fails fast does not beat a first try that is still at work. Each attempt has its
// own reply.
func NewHedgePolicyBuilder(delay time.Duration) hedgepolicy.Builder[any] {
	return hedgepolicy.NewBuilderWithDelayFunc(func(exec failsafe.ExecutionAttempt[any]) time.Duration {
		if c := callOf(exec); c != nil && c.settings.isIdempotent(c.method) {
			return delay
		}
		return -1
	})
}
