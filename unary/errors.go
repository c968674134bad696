package unary

import (
	"errors"
	"fmt"
	"time"

	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/internal/rpcstatus"
)

// Error is what policies make of a call: a denial, a timeout, retries exceeded or stopped, or the end of the caller's
// context. An attempt's own error, which policies let pass, is returned as it is.
//
// status.Code and status.FromError see the status that GRPCStatus returns; errors.Is and errors.As see the cause.
type Error struct {
	// Method is the full method name.
	Method string
	// Attempts is how many attempts were made: those that policies denied are not among them.
	Attempts int
	// Cause is what lies behind it: circuitbreaker.ErrOpen, say, or a retrypolicy.ExceededError. If a policy's denial
	// stopped the retries (a spent budget, a limiter, an open breaker) it is both the last failure and the denial.
	Cause error
	// Last is what the last attempt failed with. It is nil if no attempt failed, or if that is what Cause says.
	Last error

	status   *status.Status
	onServer bool // the client knows the method
}

// Error says which call failed, why, after how many attempts, and what the last one died of.
func (e *Error) Error() string {
	return fmt.Sprintf("unary: %s: %s (attempts: %d%s)", e.Method, e.describe(e.Cause), e.Attempts, e.last())
}

// last is what the last attempt died of, as a part of a text.
func (e *Error) last() string {
	if e.Last == nil {
		return ""
	}
	return "; last: " + e.describe(e.Last)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// GRPCStatus returns the status that the cause stands for. Breaker open: UNAVAILABLE, with the remaining delay as
// RetryInfo. Rate limiter, bulkhead, adaptive limiter and throttler: RESOURCE_EXHAUSTED. Timeout and the caller's
// deadline: DEADLINE_EXCEEDED. Caller gone: CANCELLED. Retries exceeded or stopped: the last failure's code and details.
//
// Its message is that of Error without the attempts, and on a server without the method: whoever gets it over the network
// says these himself.
func (e *Error) GRPCStatus() *status.Status {
	st := e.status
	if st == nil {
		st = rpcstatus.Of(e.Cause)
	}
	p := st.Proto()
	if p == nil || st.Code() == codes.OK {
		return status.New(codes.Unknown, e.message())
	}
	p.Message = e.message()
	return status.FromProto(p)
}

func (e *Error) message() string {
	text := e.describe(e.Cause)
	if e.Last != nil {
		text += " (last: " + e.describe(e.Last) + ")"
	}
	if e.onServer {
		return text
	}
	return "unary: " + e.Method + ": " + text
}

// describe is the text of a cause: without a reply that a policy has put into it, and without what e says itself.
func (e *Error) describe(err error) string {
	switch err := err.(type) { //nolint:errorlint // what is further inside is described in its turn
	case nil:
		return "no cause"
	case retrypolicy.ExceededError:
		if err.LastError == nil {
			return "retries exceeded: the reply was not accepted"
		}
		return "retries exceeded: " + e.describe(err.LastError)
	case *rpcstatus.StoppedError:
		return fmt.Sprintf("%s (not tried again: %s)", e.describe(err.Failure), e.describe(err.By))
	case *tryError:
		return e.describe(err.cause)
	case *Error:
		if err.Method == e.Method {
			return err.describe(err.Cause)
		}
	}
	return err.Error()
}

// PanicError is a panic as policies and observers see it. The caller sees the panic.
type PanicError struct {
	Value any    // what the handler panicked with
	Stack []byte // where
}

// Error says what the panic's value was.
func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// GRPCStatus is INTERNAL.
func (e *PanicError) GRPCStatus() *status.Status { return status.New(codes.Internal, e.Error()) }

// tryError is a failed attempt as policies see it.
type tryError struct {
	cause      error
	hint       rpcstatus.Hint
	notBefore  time.Time     // what the hint's delay comes to; zero if there is none
	most       time.Duration // the longest delay that is waited for
	idempotent bool
	cut        bool           // the attempt's context had ended
	outside    bool           // somebody outside retries this call
	by         *clientAttempt // whose failure it is; nil on servers
	final      bool           // not to be retried; written by retried, read by predicates, in one goroutine
}

func (e *tryError) Error() string { return e.cause.Error() }

func (e *tryError) Unwrap() error { return e.cause }

// GRPCStatus lets policies' predicates use status.Code.
func (e *tryError) GRPCStatus() *status.Status { return rpcstatus.Of(e.cause) }

// says reports whether the cause means the same to a caller as it is: it has a status, or stands for none.
func (e *tryError) says() bool {
	_, said := status.FromError(e.cause)
	return said || rpcstatus.Of(e.cause).Code() == codes.Unknown
}

// refuses reports whether a failure is not to be retried whatever a policy says: the server asked for that, or for more
// time than there is until end, or than anybody waits; somebody outside retries already; or the attempt panicked.
func (e *tryError) refuses(end time.Time) bool {
	if e.hint.Never || e.outside || e.hint.Delay > e.most {
		return true
	}
	if !end.IsZero() && !e.notBefore.IsZero() && !e.notBefore.Before(end) {
		return true
	}
	_, panicked := errors.AsType[*PanicError](e.cause)
	return panicked
}

// notBefore returns when the server allows a retry after a failure; zero if it did not say.
func notBefore(err error) time.Time {
	if failed, ok := errors.AsType[*tryError](err); ok {
		return failed.notBefore
	}
	return time.Time{}
}

// bare returns an error with the server's own errors in place of what policies saw.
func bare(err error) error {
	switch err := err.(type) { //nolint:errorlint // only if nothing is around it
	case retrypolicy.ExceededError:
		err.LastError = bare(err.LastError)
		return err
	case *rpcstatus.StoppedError:
		return &rpcstatus.StoppedError{Failure: bare(err.Failure), By: bare(err.By)}
	case *tryError:
		return err.cause
	default:
		return err
	}
}
