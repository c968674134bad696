package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"

	"github.com/streamsafe/streamsafe/internal/permit"
	"github.com/streamsafe/streamsafe/internal/policykind"
	"github.com/streamsafe/streamsafe/internal/trial"
)

// WithSendPolicies sets the policies of each Send of the application, the outermost first. Default: none.
//
// A policy that denies makes that one Send return an [*Error] with ReasonDenied, and errors.Is finds the policy's own error.
// Nothing was sent, no number was used, and the stream goes on. A wait for a permit is as long as the policy was built for,
// and ends with the stream. What the stream sends by itself (Resume, replay) needs no permit, and neither does a call after the
// end of the stream.
//
// Rate limiters, circuit breakers, bulkheads, adaptive limiters and throttlers are used without an executor, and cost no
// allocation but that of an adaptive limiter. So their listeners for single executions are not called (OnFull, say). Listeners
// for a change of state are. For a circuit breaker and a throttler, a message that was sent is a success. An attempt that breaks
// under the call by a fault of the server or the transport is a failure. The application's own cancel or Close is neither.
//
// Any other policy, a timeout say, makes the whole list run through an executor. If a timeout passes while the transport does
// not take the message, the attempt is given up, as WithSendTimeout does it: what may have reached the wire counts as sent. If
// it passes while Send waits for an attempt or for room, Send returns an error with ReasonDenied, and nothing was sent.
//
// On a server a denial is an error of that one SendMsg, with the status RESOURCE_EXHAUSTED, or UNAVAILABLE of a circuit breaker,
// and a RetryInfo: the client gets it if the handler returns it. A server takes the five kinds above only.
//
// These are errors: a hedge, a retry policy and a cache, which would repeat or invent messages; a fallback, which would hide that
// a message was not sent; a bulkhead or an adaptive limiter that is in both directions, as a Recv that waits would keep Send out.
func WithSendPolicies(policies ...failsafe.Policy[any]) Option {
	chain := &policyChain{policies: policies}
	return option{func(o *clientOptions) { o.sends = chain }, func(o *serverOptions) { o.sends = chain }}
}

// WithRecvPolicies sets the policies of each Recv of the application, the outermost first. Default: none.
//
// It is like [WithSendPolicies]. The permits are taken before Recv waits for a message, and a bulkhead is held for the wait. A
// denied Recv takes no message, and the position does not move: the next Recv returns the message. io.EOF is a success. An
// outage of the stream does not end the call: the break counts as a failure, and the message that comes after it as a success.
//
// If a timeout passes, the attempt is given up, as WithIdleTimeout does it. The stream resumes, and Recv goes on, with the policies
// from the beginning. A message that arrives at that moment is delivered. The timeout does not run while the stream has no
// attempt when Recv is called.
func WithRecvPolicies(policies ...failsafe.Policy[any]) Option {
	chain := &policyChain{policies: policies}
	return option{func(o *clientOptions) { o.recvs = chain }, func(o *serverOptions) { o.recvs = chain }}
}

// WithSendExecutor sets an executor for each Send, in place of [WithSendPolicies]. For its policies a Send is one execution, also
// if the stream resumes in between. It must not have a hedge, retry, cache or fallback policy. The context of the executor is
// not used. A nil executor is an error.
func WithSendExecutor(executor failsafe.Executor[any]) ClientOption {
	return clientOption(func(o *clientOptions) { o.sends = &policyChain{executor: executor} })
}

// WithRecvExecutor sets an executor for each Recv, in place of [WithRecvPolicies]. See [WithSendExecutor].
func WithRecvExecutor(executor failsafe.Executor[any]) ClientOption {
	return clientOption(func(o *clientOptions) { o.recvs = &policyChain{executor: executor} })
}

// NewCircuitBreakerBuilder returns a builder of circuit breakers that count faults of the server only: UNAVAILABLE,
// DEADLINE_EXCEEDED, INTERNAL, UNKNOWN and DATA_LOSS. By default such a breaker opens if 10 of the last 20 outcomes were faults,
// for 5 s, give or take a fifth, and closes after 3 successes in a row.
//
// What says nothing about the server is neither success nor failure: a cancel of the application, and the denial of a policy
// inside the breaker. Its permit of a half-open breaker is used again.
func NewCircuitBreakerBuilder() circuitbreaker.Builder[any] { return trial.NewServerBuilder() }

// messagePolicies is the policies of one direction, ready for use: a chain of permits, an executor, or neither.
type messagePolicies struct {
	chain    *permit.Chain
	executor failsafe.Executor[any]
}

func (p *messagePolicies) none() bool { return p.chain == nil && p.executor == nil }

// validateMessages checks the policies of both directions.
func validateMessages(sends, recvs *policyChain) error {
	errs := []error{sends.validateMessage("WithSendPolicies"), recvs.validateMessage("WithRecvPolicies")}
	if sends == nil || recvs == nil {
		return joined(errs)
	}
	for i, p := range sends.policies {
		for _, other := range recvs.policies {
			if holds(p) && p == other {
				errs = append(errs, fmt.Errorf("%s %d of WithSendPolicies is in WithRecvPolicies, too: "+
					"a Recv that waits would hold what Send needs", policykind.Of(p), i+1))
			}
		}
	}
	return joined(errs)
}

func (c *policyChain) validateMessage(option string) error {
	if c == nil {
		return nil
	}
	if len(c.policies) == 0 && c.executor == nil {
		return fmt.Errorf("%s, or its executor, has no policy", option)
	}
	var errs []error
	for i, p := range c.policies {
		switch kind := policykind.Of(p); kind {
		case policykind.Hedge, policykind.Retry, policykind.Cache, policykind.Fallback:
			errs = append(errs, fmt.Errorf("%s has no place in %s: it would repeat, invent or hide messages", kind, option))
		case policykind.AdaptiveLimiter, policykind.AdaptiveThrottler, policykind.Bulkhead, policykind.CircuitBreaker,
			policykind.RateLimiter, policykind.Timeout, policykind.Other:
		}
		if p == nil {
			errs = append(errs, fmt.Errorf("a policy of %s is nil", option))
			continue
		}
		for _, other := range c.policies[:i] {
			if holds(p) && p == other {
				errs = append(errs, fmt.Errorf("%s is twice in %s: it would wait for itself", policykind.Of(p), option))
			}
		}
	}
	return joined(errs)
}

// holds reports whether p is a policy whose permits are held during a call.
func holds(p failsafe.Policy[any]) bool {
	kind := policykind.Of(p)
	return kind == policykind.Bulkhead || kind == policykind.AdaptiveLimiter
}

// messages returns the policies of one direction of a stream, whose context is ctx.
func (c *policyChain) messages(ctx context.Context) messagePolicies {
	switch {
	case c == nil:
		return messagePolicies{}
	case c.executor != nil:
		return messagePolicies{executor: c.executor.WithContext(ctx)}
	}
	if chain, err := permit.NewChain(c.policies...); err == nil && waitsAsBuilt(chain) {
		return messagePolicies{chain: chain}
	}
	policies := make([]failsafe.Policy[any], len(c.policies))
	for i, p := range c.policies {
		if breaker, ok := p.(circuitbreaker.CircuitBreaker[any]); ok {
			p = &trial.Breaker{CircuitBreaker: trial.Bare(breaker)} // or a call that was cancelled would count (invariant 37)
		}
		policies[i] = p
	}
	return messagePolicies{executor: failsafe.With(policies...).WithContext(ctx)}
}

func waitsAsBuilt(chain *permit.Chain) bool {
	for _, g := range chain.Gates() {
		if !g.Waits() {
			return false
		}
	}
	return true
}

// errNotCalled is the denial of an executor that has answered in place of the stream.
var errNotCalled = errors.New("the executor returned no error, and did not call the stream")

// deniedError is the denial of one call by a policy.
func deniedError(op string, by string, after time.Duration, err error) error {
	if err == nil {
		err = errNotCalled
	}
	if after > 0 {
		err = &openBreakerError{error: err, delay: after}
	}
	if by != "" {
		err = fmt.Errorf("%s: %w", by, err)
	}
	return &Error{Op: op, Reason: ReasonDenied, Cause: withoutEOF(err)}
}

// retryAfter returns when an open circuit breaker of the chain lets something pass again, if that is what err tells.
func (c *policyChain) retryAfter(err error) (delay time.Duration) {
	if !errors.Is(err, circuitbreaker.ErrOpen) {
		return 0
	}
	for _, p := range c.policies {
		if breaker, ok := p.(circuitbreaker.CircuitBreaker[any]); ok {
			delay = max(delay, breaker.RemainingDelay())
		}
	}
	return delay
}
