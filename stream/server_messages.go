package stream

import (
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/internal/permit"
	"github.com/streamsafe/streamsafe/internal/rpcstatus"
)

// This file runs the SendMsg and RecvMsg of a server stream under the policies for messages.

// serverMessages is the policies of both directions, nil if there are none.
type serverMessages struct{ sends, recvs *permit.Chain }

func (o *serverOptions) compileMessages() (errs []error) {
	var err error
	if o.messages.sends, err = o.sends.compileForServer("WithSendPolicies"); err != nil {
		errs = append(errs, err)
	}
	if o.messages.recvs, err = o.recvs.compileForServer("WithRecvPolicies"); err != nil {
		errs = append(errs, err)
	}
	return errs
}

func (c *policyChain) compileForServer(option string) (*permit.Chain, error) {
	if c == nil {
		return nil, nil //nolint:nilnil // there are no policies, and that is right
	}
	if len(c.policies) == 0 {
		return nil, fmt.Errorf("%s, or its executor, has no policy", option)
	}
	chain, err := permit.NewChain(c.policies...)
	if none, ok := errors.AsType[*permit.NoPermitsError](err); ok {
		return nil, fmt.Errorf("%s: a server takes limiters, bulkheads, circuit breakers and throttlers, and no %T", option, none.Policy)
	}
	return chain, err
}

// messageDeniedError is a policy's denial of one message. It has the status that the client gets if the handler returns it.
type messageDeniedError struct {
	cause error
	after time.Duration
}

func (e *messageDeniedError) Error() string { return "stream: message denied: " + e.cause.Error() }

// Unwrap returns the policy's error.
func (e *messageDeniedError) Unwrap() error { return e.cause }

// GRPCStatus is RESOURCE_EXHAUSTED, or UNAVAILABLE of a circuit breaker, with a RetryInfo.
func (e *messageDeniedError) GRPCStatus() *status.Status {
	return rpcstatus.WithRetryInfo(status.New(rpcstatus.Of(e.cause).Code(), e.Error()), e.after)
}

// underPolicies calls SendMsg or RecvMsg of the transport under the policies of its direction. A denial is an error of that call
// alone, and consumes nothing.
func (s *ServerStream) underPolicies(chain *permit.Chain, m any, call func(*ServerStream, any) error) error {
	var held permit.Held
	denied, err := chain.Acquire(s.ctx, &held)
	if err != nil {
		if end := s.endedEarly(); end != nil {
			return end
		}
		if denied == nil {
			return status.FromContextError(err).Err()
		}
		return &messageDeniedError{cause: err, after: max(denied.RetryAfter(), soon)}
	}
	done := false
	defer func() {
		if !done { // the codec has panicked
			held.End(permit.Left, nil)
		}
	}()
	err = call(s, m)
	done = true
	switch {
	case err == nil, errors.Is(err, io.EOF):
		held.End(permit.Served, nil)
	case s.endedEarly() == nil && !s.departed.Load() && rpcstatus.IsServerFault(err):
		held.End(permit.Fault, err)
	default:
		held.End(permit.Left, nil)
	}
	return err
}
