package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/timeout"
	"google.golang.org/grpc/codes"

	"github.com/streamsafe/streamsafe/internal/permit"
	"github.com/streamsafe/streamsafe/internal/policykind"
	"github.com/streamsafe/streamsafe/internal/rpcstatus"
)

// WithServerPolicies sets the policies around each handler of a stream, the outermost first: rate limiters, bulkheads, adaptive
// limiters, circuit breakers, throttlers and timeouts. They are asked before the handler is called, and may wait as long as
// they were built for. A permit is held until the handler has returned, also if the stream was ended before that. Default:
// none.
//
// If a policy denies, the client gets RESOURCE_EXHAUSTED, or UNAVAILABLE of a circuit breaker, with a RetryInfo. After a
// timeout it gets DEADLINE_EXCEEDED, and the handler is ended.
//
// Circuit breakers and throttlers count faults of the server: UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE and DATA_LOSS,
// panics and timeouts. Whether these are failures is for their own conditions to say. A client that leaves, and a stream that is
// ended early for another reason than a timeout, is neither success nor failure, whatever the handler returns then. An adaptive
// limiter limits how many streams there are. It does not take the life of a stream for a response time. Policies are used by
// their permits, so listeners for single executions, such as OnFull and OnTimeoutExceeded, are not called.
//
// Health checks and server reflection pass without policies. Retries, fallbacks, hedges, caches and policies that failsafe-go
// did not make are errors of [Validate].
func WithServerPolicies(policies ...failsafe.Policy[any]) ServerOption {
	return serverOption(func(o *serverOptions) {
		o.policies, o.policiesGiven = slices.Concat(o.policies, policies), true
	})
}

// serverPolicies is what WithServerPolicies comes to.
type serverPolicies struct {
	gates []*permit.Gate
	limit time.Duration // of the shortest timeout; zero: none
}

func (o *serverOptions) compilePolicies() (errs []error) {
	if o.policiesGiven && len(o.policies) == 0 {
		errs = append(errs, errors.New("no policy in WithServerPolicies"))
	}
	for _, p := range o.policies {
		if limit, _, ok := policykind.TimeLimit(p); ok {
			if o.around.limit == 0 || limit < o.around.limit {
				o.around.limit = limit
			}
			continue
		}
		g, err := permit.New(p)
		if _, none := errors.AsType[*permit.NoPermitsError](err); none {
			err = fmt.Errorf("%T is of no use in WithServerPolicies", p)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		o.around.gates = append(o.around.gates, g)
	}
	return errs
}

// isExempt reports whether a method passes without policies: those that tell of the server itself.
func isExempt(method string) bool {
	return strings.HasPrefix(method, "/grpc.health.") || strings.HasPrefix(method, "/grpc.reflection.")
}

// heldPermit is a permit that a stream holds for its life.
type heldPermit struct {
	permit permit.Permit
	gate   *permit.Gate
}

// acquire asks the policies, from the outside in. It returns the denial of one, or why the stream has ended meanwhile.
func (s *ServerStream) acquire() *EndedError {
	if isExempt(s.method) {
		return nil
	}
	for _, g := range s.server.options.around.gates {
		p, err := g.Acquire(s.ctx)
		if err == nil {
			s.permits = append(s.permits, heldPermit{p, g})
			continue
		}
		if !errors.Is(err, g.Denial()) {
			return &EndedError{End: EndRefused, code: rpcstatus.Of(err).Code(), text: "waiting for a policy: " + err.Error(), cause: err}
		}
		s.denied = err
		return &EndedError{
			End: EndRefused, code: rpcstatus.Of(err).Code(), retry: max(g.RetryAfter(), soon), cause: err,
			text: err.Error() + " (a policy of WithServerPolicies)",
		}
	}
	return nil
}

// giveBack ends the permits, from the inside out, also those around one whose policy panics.
func (s *ServerStream) giveBack() {
	if len(s.permits) == 0 {
		return
	}
	outcome, err := s.verdict()
	for len(s.permits) > 0 {
		s.giveBackLast(outcome, err)
	}
}

func (s *ServerStream) giveBackLast(o permit.Outcome, err error) {
	last := len(s.permits) - 1
	held := s.permits[last]
	s.permits = s.permits[:last]
	if held.gate.Kind() == policykind.AdaptiveLimiter {
		o = permit.Left // the life of a stream is no response time
	}
	ended := false
	defer func() {
		if !ended { // a condition or a listener has panicked: that must not take the server with it; or has ended the goroutine
			_ = recover()
			s.giveBack()
		}
	}()
	held.permit.End(o, err)
	ended = true
}

// verdict says what the end of the handler is to the policies.
func (s *ServerStream) verdict() (permit.Outcome, error) {
	early, o := s.endedEarly(), &s.outcome
	gone := s.ServerStream.Context().Err() != nil // before the interceptor has returned, only the client ends this
	switch {
	case s.denied != nil:
		return permit.Denied, s.denied
	case early != nil && early.End == EndTimeout:
		return permit.Fault, early
	case s.isNobodysFault():
		return permit.Left, nil
	case o.panicked != nil:
		return permit.Fault, o.panicked
	case o.exited:
		return permit.Fault, errExited
	case gone && rpcstatus.AtDeadline(s.ServerStream.Context(), s.began):
		return permit.Fault, context.DeadlineExceeded
	case gone, s.departed.Load():
		return permit.Left, nil //nolint:nilerr // invariant 49: whatever the handler makes of it
	case rpcstatus.IsServerFault(o.err):
		return permit.Fault, o.err
	default:
		return permit.Served, o.err
	}
}

// isNobodysFault reports whether the handler was not called, or was ended for another reason than a timeout.
func (s *ServerStream) isNobodysFault() bool { return !s.ran || s.endedEarly() != nil }

func timeoutEnd(limit time.Duration) *EndedError {
	return &EndedError{
		End: EndTimeout, code: codes.DeadlineExceeded, trailer: endTold(EndTimeout), cause: timeout.ErrExceeded,
		text: fmt.Sprintf("the handler has not returned within %v (a timeout of WithServerPolicies)", limit),
	}
}
