package stream

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/common"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/failsafe-go/failsafe-go/timeout"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/internal/policykind"
	"github.com/streamsafe/streamsafe/internal/rpcstatus"
)

// WithStreamPolicies sets the policies for outages, the outermost first, as in failsafe.With. One execution is one outage.
// The loss of an attempt is its first failed try. Each further try opens an attempt. A try succeeds when its attempt has
// stayed attached as long as WithStableFor says. So a retry policy decides whether and when to reconnect, a circuit
// breaker counts attempts that die early, and a budget pays for each reconnect.
//
// Default: NewRetryPolicyBuilder().Build(). Start from that builder for a retry policy of your own. One from failsafe-go's
// builder has no delay and no jitter by default, and gives up after two retries.
//
// An error that is not resumed (see [Resumable]) ends the stream, whatever a retry policy says. A fallback may replace the
// error that the stream ends with. It cannot supply a stream.
//
// A bulkhead or an adaptive limiter is held for the life of the stream. It does not replace the default retry policy.
//
// Put a timeout into WithOpenPolicies. Here it would cut an attempt that is attached and not yet stable. A hedge, a cache
// and a nil policy are errors, and so are no policies at all.
func WithStreamPolicies(policies ...failsafe.Policy[any]) ClientOption {
	return clientOption(func(o *clientOptions) { o.stream = &policyChain{policies: policies} })
}

// WithStreamExecutor sets an executor for outages, in place of WithStreamPolicies. All its policies apply to one outage: a
// bulkhead is not held for the life of the stream. An error that is not resumed counts as a success for them, so that none
// of them tries again. The executor must not have a hedge policy. A nil executor is an error.
func WithStreamExecutor(executor failsafe.Executor[any]) ClientOption {
	return clientOption(func(o *clientOptions) { o.stream = &policyChain{executor: executor} })
}

// WithOpenPolicies sets the policies for opening an attempt, Resume included, the outermost first: a timeout, a rate
// limiter, a hedge. Each try is an attempt with its own number. A timeout limits only the opening. Default: none.
//
// With a hedge two opens race, and the slower one is closed. Their Resume callbacks run at the same time. A failed hedge
// does not cancel the other open. While failsafe-go's hedge waits for its delay, it does not look at contexts: Recv and
// Close may wait as long.
//
// A cache and a nil policy are errors, and so are no policies at all. A hedge is an error together with grpc.Header,
// grpc.Trailer or grpc.Peer in WithCallOptions.
func WithOpenPolicies(policies ...failsafe.Policy[any]) ClientOption {
	return clientOption(func(o *clientOptions) { o.open = &policyChain{policies: policies} })
}

// WithOpenExecutor sets an executor for opening an attempt, in place of WithOpenPolicies. A nil executor is an error.
func WithOpenExecutor(executor failsafe.Executor[any]) ClientOption {
	return clientOption(func(o *clientOptions) { o.open = &policyChain{executor: executor} })
}

func (c *policyChain) validate(scope string) error {
	if c == nil {
		return nil
	}
	if c.policies == nil && c.executor == nil {
		return fmt.Errorf("no policy at %s scope", scope)
	}
	var errs []error
	for _, p := range c.policies {
		switch kind := policykind.Of(p); {
		case p == nil:
			errs = append(errs, fmt.Errorf("a policy at %s scope is nil", scope))
		case kind == policykind.Cache, kind == policykind.Hedge && scope == "stream":
			errs = append(errs, fmt.Errorf("%s is of no use at %s scope", kind, scope))
		}
	}
	return joined(errs)
}

// isExecutor reports whether an executor was given.
func (c *policyChain) isExecutor() bool { return c != nil && c.executor != nil }

// hedges reports whether a hedge is among the policies.
func (c *policyChain) hedges() bool {
	return c != nil && slices.ContainsFunc(c.policies, func(p failsafe.Policy[any]) bool { return policykind.Of(p) == policykind.Hedge })
}

// openExecutor returns the executor for the opening of one attempt.
func (o *clientOptions) openExecutor() failsafe.Executor[any] {
	switch {
	case o.open == nil:
		return noPolicies()
	case o.open.executor != nil:
		return o.open.executor
	}
	var policies []failsafe.Policy[any]
	for _, p := range o.open.policies {
		if policykind.Of(p) == policykind.Retry {
			p = lastWord{p}
		}
		policies = append(policies, p)
	}
	return failsafe.With(policies...)
}

// All streams without policies of their own share these executors, which have no state.
//
//nolint:gochecknoglobals // see above
var (
	defaultRetries = sync.OnceValue(func() failsafe.Executor[any] { return failsafe.With(NewRetryPolicyBuilder().Build()) })
	noPolicies     = sync.OnceValue(func() failsafe.Executor[any] { return failsafe.With[any]() })
)

// streamExecutors returns the executor for the life of the stream, nil where there is none, and the one for an outage.
func (o *clientOptions) streamExecutors() (life, outage failsafe.Executor[any]) {
	switch {
	case o.stream == nil:
		return nil, defaultRetries()
	case o.stream.executor != nil:
		return nil, o.stream.executor
	}
	var forLife, forOutage []failsafe.Policy[any]
	for _, p := range o.stream.policies {
		kind := policykind.Of(p)
		if kind == policykind.Bulkhead || kind == policykind.AdaptiveLimiter {
			forLife = append(forLife, p)
			continue
		}
		if kind == policykind.Retry {
			p = lastWord{p}
		}
		forOutage = append(forOutage, p)
	}
	outage = defaultRetries()
	if len(forOutage) > 0 {
		outage = failsafe.With(forOutage...)
	}
	if len(forLife) == 0 {
		return nil, outage
	}
	return failsafe.With(forLife...), outage
}

// withRetryInfo returns err, where a breaker of the chain has made it, with the status that says when to try again.
func (c *policyChain) withRetryInfo(err error) error {
	if c == nil || !errors.Is(err, circuitbreaker.ErrOpen) {
		return err
	}
	if exceeded, ok := err.(retrypolicy.ExceededError); ok { //nolint:errorlint // it is taken apart
		exceeded.LastError = c.withRetryInfo(exceeded.LastError)
		return exceeded
	}
	return &openBreakerError{error: err, delay: c.retryAfter(err)}
}

// openBreakerError is a breaker's denial, and when it lets something pass again.
type openBreakerError struct {
	error
	delay time.Duration
}

func (e *openBreakerError) Unwrap() error { return e.error }

// GRPCStatus is UNAVAILABLE, with a RetryInfo.
func (e *openBreakerError) GRPCStatus() *status.Status {
	return rpcstatus.WithRetryInfo(rpcstatus.Of(e.error), e.delay)
}

// lastWord is a retry policy that lets final errors pass: it sees a success in their place, and the policies around it
// see them again.
type lastWord struct{ failsafe.Policy[any] }

// applier is the part of policy.Executor that an executor calls.
type applier interface {
	Apply(inner func(failsafe.Execution[any]) *common.PolicyResult[any]) func(failsafe.Execution[any]) *common.PolicyResult[any]
}

// ToExecutor implements failsafe.Policy.
func (p lastWord) ToExecutor(token any) any {
	executor := p.Policy.ToExecutor(token)
	if inner, ok := executor.(applier); ok {
		return lastWordExecutor{inner}
	}
	return executor
}

type lastWordExecutor struct{ applier }

// Apply runs the policy around inner.
func (e lastWordExecutor) Apply(
	inner func(failsafe.Execution[any]) *common.PolicyResult[any],
) func(failsafe.Execution[any]) *common.PolicyResult[any] {
	return func(exec failsafe.Execution[any]) *common.PolicyResult[any] {
		var verdict *common.PolicyResult[any]
		result := e.applier.Apply(func(exec failsafe.Execution[any]) *common.PolicyResult[any] {
			r := inner(exec)
			if isFinal(r.Error) {
				verdict = r.WithFailure()
				return &common.PolicyResult[any]{Done: true, Success: true, SuccessAll: true}
			}
			return r
		})(exec)
		if verdict != nil {
			return verdict
		}
		return result
	}
}

// isTimeout reports whether a policy's time limit has made err.
func isTimeout(err error) bool { return errors.Is(err, timeout.ErrExceeded) }

// isFinal reports whether err ends the stream whatever policies say.
func isFinal(err error) bool {
	if e, ok := errors.AsType[*openError](err); ok {
		return e.final
	}
	e, ok := errors.AsType[*attemptError](err)
	return ok && e.final
}
