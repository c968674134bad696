package unary

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/internal/rpcstatus"
)

// Error is what policies make of a call: a denial, a timeout, retries exceeded, or the end of the caller's context. An
// attempt's own error, which policies let pass, is returned as it is.
//
// status.Code and status.FromError see the status that GRPCStatus returns; errors.Is and errors.As see the cause.
type Error struct {
	// Method is the full method name.
	Method string
	// Attempts is how many attempts were made: those that policies denied are not among them.
	Attempts int
	// Cause is what lies behind it: circuitbreaker.ErrOpen, say, or a retrypolicy.ExceededError.
	Cause error

	status *status.Status
}

// Error says which call failed, why, and after how many attempts.
func (e *Error) Error() string {
	return fmt.Sprintf("unary: %s: %s (attempts: %d)", e.Method, describe(e.Cause), e.Attempts)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// GRPCStatus returns the status that the cause stands for. Breaker open: UNAVAILABLE, with the remaining delay as
// RetryInfo. Rate limiter, bulkhead, adaptive limiter, throttler and budget: RESOURCE_EXHAUSTED. Timeout and the
// caller's deadline: DEADLINE_EXCEEDED. Caller gone: CANCELLED. Retries exceeded: the last failure's code and details.
func (e *Error) GRPCStatus() *status.Status {
	st := e.status
	if st == nil {
		st = rpcstatus.Of(e.Cause)
	}
	p := st.Proto()
	if p == nil || st.Code() == codes.OK {
		return status.New(codes.Unknown, e.Error())
	}
	p.Message = e.Error()
	return status.FromProto(p)
}

// describe is the text of a cause, without a reply that a policy has put into it.
func describe(err error) string {
	exceeded, ok := errors.AsType[retrypolicy.ExceededError](err)
	switch {
	case !ok:
		return err.Error()
	case exceeded.LastError == nil:
		return "retries exceeded: the reply was not accepted"
	default:
		return "retries exceeded: " + describe(exceeded.LastError)
	}
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
	notBefore  time.Time // what the hint's delay comes to; zero where there is none
	idempotent bool
}

func (e *tryError) Error() string { return e.cause.Error() }

func (e *tryError) Unwrap() error { return e.cause }

// GRPCStatus lets policies' predicates use status.Code.
func (e *tryError) GRPCStatus() *status.Status { return rpcstatus.Of(e.cause) }

// final reports whether a failure is not to be retried whatever a policy says: the server asked for that, or for more
// time than the caller has; or the attempt panicked.
func (e *tryError) final(ctx context.Context) bool {
	if e.hint.Never {
		return true
	}
	if deadline, ok := ctx.Deadline(); ok && !e.notBefore.IsZero() && !e.notBefore.Before(deadline) {
		return true
	}
	_, panicked := errors.AsType[*PanicError](e.cause)
	return panicked
}

// notBefore returns when the server allows a retry after a failure; zero where it did not say.
func notBefore(err error) time.Time {
	if failed, ok := errors.AsType[*tryError](err); ok {
		return failed.notBefore
	}
	return time.Time{}
}

// bare returns the error of a policy around the server's own error.
func bare(err error) error {
	exceeded, ok := err.(retrypolicy.ExceededError) //nolint:errorlint // only where nothing is around it
	if !ok {
		return err
	}
	if failed, ok := errors.AsType[*tryError](exceeded.LastError); ok {
		exceeded.LastError = failed.cause
	}
	return exceeded
}
