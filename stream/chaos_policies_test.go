package stream_test

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
	"github.com/failsafe-go/failsafe-go/timeout"

	"github.com/streamsafe/streamsafe/stream"
)

// The policies for messages of the random tests.

// restraint is what the policies for the messages of one direction are like. Its zero value has none.
type restraint struct {
	every time.Duration // a permit of a rate limiter; zero: it has no limiter
	wait  time.Duration // for such a permit; zero: a message that comes too early is denied
	trips bool          // a circuit breaker, which a break opens
	one   bool          // a bulkhead for one message
	limit time.Duration // of a timeout, which needs an executor; zero: none
	own   bool          // the application has an executor
}

func (r restraint) none() bool { return r.every == 0 && !r.trips && !r.one && r.limit == 0 }

// String names the policies.
func (r restraint) String() string {
	if r.none() {
		return "no policy"
	}
	var words []string
	add := func(when bool, format string, args ...any) {
		if when {
			words = append(words, fmt.Sprintf(format, args...))
		}
	}
	add(r.every > 0, "a permit each %v (wait %v)", r.every, r.wait)
	add(r.trips, "a breaker")
	add(r.one, "a bulkhead")
	add(r.limit > 0, "a timeout of %v", r.limit)
	add(r.own, "in an executor")
	return strings.Join(words, ", ")
}

// drawRestraint draws one, whose waits are multiples of unit.
func drawRestraint(d dice, unit time.Duration) restraint {
	r := restraint{trips: d.oneIn(3), one: d.oneIn(2), own: d.oneIn(4)}
	if !d.oneIn(3) {
		r.every = unit * time.Duration(d.between(1, 8)) / 4
		r.wait = pick(d, 0, 0, unit)
	}
	if d.oneIn(4) {
		r.limit = 200 * unit // a slow machine has to receive something in this time
	}
	return r
}

// restrained is a restraint at work.
type restrained struct {
	restraint
	policies []failsafe.Policy[any]
	breaker  circuitbreaker.CircuitBreaker[any] // nil: none
	bulkhead bulkhead.Bulkhead[any]             // nil: none
}

// build makes the policies. A breaker is open for delay.
func (r restraint) build(delay time.Duration) *restrained {
	b := &restrained{restraint: r}
	if r.trips {
		b.breaker = stream.NewCircuitBreakerBuilder().WithFailureThreshold(1).WithDelay(delay).WithSuccessThreshold(1).Build()
		b.policies = append(b.policies, b.breaker)
	}
	if r.every > 0 {
		b.policies = append(b.policies, ratelimiter.NewSmoothBuilderWithMaxRate[any](r.every).WithMaxWaitTime(r.wait).Build())
	}
	if r.one {
		b.bulkhead = bulkhead.New[any](1)
		b.policies = append(b.policies, b.bulkhead)
	}
	if r.limit > 0 {
		b.policies = append(b.policies, timeout.New[any](r.limit))
	}
	return b
}

// restrainBoth are the options for the policies of both directions.
func restrainBoth(sends, recvs *restrained) (opts []stream.ClientOption) {
	switch {
	case sends.none():
	case sends.own:
		opts = append(opts, stream.WithSendExecutor(failsafe.With(sends.policies...)))
	default:
		opts = append(opts, stream.WithSendPolicies(sends.policies...))
	}
	switch {
	case recvs.none():
	case recvs.own:
		opts = append(opts, stream.WithRecvExecutor(failsafe.With(recvs.policies...)))
	default:
		opts = append(opts, stream.WithRecvPolicies(recvs.policies...))
	}
	return opts
}

// isDenied reports whether a policy has denied a Send or a Recv.
func isDenied(err error) bool {
	e, ok := errors.AsType[*stream.Error](err)
	return ok && e.Reason == stream.ReasonDenied
}

// unfounded says what is wrong with a denial: only a policy that there is denies. One message after the other finds room in a
// bulkhead, unless a permit was not given back.
func (b *restrained) unfounded(denial error) error {
	switch {
	case errors.Is(denial, ratelimiter.ErrExceeded) && b.every > 0:
	case errors.Is(denial, circuitbreaker.ErrOpen) && b.trips:
	case errors.Is(denial, timeout.ErrExceeded) && b.limit > 0:
	case errors.Is(denial, bulkhead.ErrFull):
		return fmt.Errorf("a permit was not given back: %w", denial)
	default:
		return fmt.Errorf("nothing denies: %w", denial)
	}
	return nil
}

// kept says which permit was not given back, when all calls have returned.
func (b *restrained) kept() error {
	switch {
	case b.bulkhead != nil && !b.bulkhead.TryAcquirePermit():
		return errors.New("a permit of the bulkhead was not given back")
	case b.breaker != nil && b.breaker.IsHalfOpen() && !b.breaker.TryAcquirePermit():
		return errors.New("the trial of the breaker was not given back")
	}
	return nil
}
