// Package rpcstatus maps the errors of policies, contexts and peers to gRPC statuses, alike in every package.
package rpcstatus

import (
	"context"
	"errors"
	"time"

	"github.com/failsafe-go/failsafe-go/adaptivelimiter"
	"github.com/failsafe-go/failsafe-go/adaptivethrottler"
	"github.com/failsafe-go/failsafe-go/budget"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/failsafe-go/failsafe-go/timeout"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Of returns the status that err stands for; nil is OK, and an error that says nothing is UNKNOWN.
//
// An error that carries a status keeps it, also below a retrypolicy.ExceededError (retries exceeded has the last
// failure's code) and in a [StoppedError], which stands for its failure. A breaker that is open is UNAVAILABLE; a rate limiter, bulkhead, adaptive limiter, throttler or
// budget that denies is RESOURCE_EXHAUSTED; a timeout and a context's deadline are DEADLINE_EXCEEDED; a cancelled
// context is CANCELLED.
func Of(err error) *status.Status {
	if err == nil {
		return status.New(codes.OK, "")
	}
	if exceeded, ok := errors.AsType[retrypolicy.ExceededError](err); ok && exceeded.LastError != nil {
		return withMessage(Of(exceeded.LastError), err.Error())
	}
	if stopped, ok := errors.AsType[*StoppedError](err); ok {
		return withMessage(Of(stopped.Failure), err.Error())
	}
	if carrier, ok := errors.AsType[interface {
		error
		GRPCStatus() *status.Status
	}](err); ok && carrier.GRPCStatus() != nil {
		return carrier.GRPCStatus()
	}
	return status.New(codeOf(err), err.Error())
}

// IsDenial reports whether err is a policy's refusal to let something run, rather than the outcome of running it.
func IsDenial(err error) bool {
	if err == nil {
		return false
	}
	if stopped, ok := errors.AsType[*StoppedError](err); ok {
		return IsDenial(stopped.Failure)
	}
	return errors.Is(err, circuitbreaker.ErrOpen) || isLimit(err)
}

// IsServerFault reports whether err tells against the health of the server: UNAVAILABLE, DEADLINE_EXCEEDED, INTERNAL,
// UNKNOWN or DATA_LOSS. A wrong request, a limit, a caller that has gone and a policy's denial do not.
func IsServerFault(err error) bool {
	if err == nil || IsDenial(err) {
		return false
	}
	switch Of(err).Code() {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Internal, codes.Unknown, codes.DataLoss:
		return true
	case codes.OK, codes.Canceled, codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.PermissionDenied,
		codes.ResourceExhausted, codes.FailedPrecondition, codes.Aborted, codes.OutOfRange, codes.Unimplemented,
		codes.Unauthenticated:
		return false
	default:
		return false
	}
}

// WithRetryInfo returns st with a google.rpc.RetryInfo detail that asks to wait for d. It returns st as it is where d
// is not positive, where the code is OK, or where st has such a detail already.
func WithRetryInfo(st *status.Status, d time.Duration) *status.Status {
	if d <= 0 || st.Code() == codes.OK {
		return st
	}
	if _, ok := retryInfo(st); ok {
		return st
	}
	detailed, err := st.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(d)})
	if err != nil {
		return st
	}
	return detailed
}

func codeOf(err error) codes.Code {
	switch {
	case errors.Is(err, circuitbreaker.ErrOpen):
		return codes.Unavailable
	case isLimit(err):
		return codes.ResourceExhausted
	case errors.Is(err, timeout.ErrExceeded), errors.Is(err, context.DeadlineExceeded):
		return codes.DeadlineExceeded
	case errors.Is(err, context.Canceled):
		return codes.Canceled
	default:
		return codes.Unknown
	}
}

func isLimit(err error) bool {
	for _, limit := range []error{
		ratelimiter.ErrExceeded, bulkhead.ErrFull, adaptivelimiter.ErrExceeded, adaptivethrottler.ErrExceeded, budget.ErrExceeded,
	} {
		if errors.Is(err, limit) {
			return true
		}
	}
	return false
}

// withMessage returns st with another message; its code and details stay.
func withMessage(st *status.Status, message string) *status.Status {
	p := st.Proto()
	if p == nil {
		return st
	}
	p.Message = message
	return status.FromProto(p)
}
