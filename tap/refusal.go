package tap

import (
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/internal/rpcstatus"
)

// Reason is why an RPC was refused.
type Reason uint8

// The reasons, and the codes that clients see.
const (
	ReasonRateLimiter     Reason = iota // RESOURCE_EXHAUSTED
	ReasonBulkhead                      // RESOURCE_EXHAUSTED
	ReasonAdaptiveLimiter               // RESOURCE_EXHAUSTED
	ReasonThrottler                     // RESOURCE_EXHAUSTED
	ReasonCircuitBreaker                // UNAVAILABLE
	ReasonExpired                       // DEADLINE_EXCEEDED: the caller has gone
	ReasonMalformed                     // INVALID_ARGUMENT or, if the method's name is none, UNIMPLEMENTED
	ReasonMisconfigured                 // INTERNAL: what Validate tells
	reasonCount
)

// String returns the reason in words.
func (r Reason) String() string {
	if r >= reasonCount {
		return "unknown"
	}
	return [reasonCount]string{
		"rate limiter", "bulkhead", "adaptive limiter", "throttler", "circuit breaker", "expired", "malformed", "misconfigured",
	}[r]
}

// refusal is an answer to an RPC that may not pass. It is never changed, so that one serves any number of RPCs.
type refusal struct {
	reason Reason
	err    error // carries a status
}

// refuse returns the refusal for what a policy says, and tells clients to wait for delay.
func refuse(reason Reason, cause error, delay time.Duration) *refusal {
	return &refusal{reason, rpcstatus.WithRetryInfo(rpcstatus.Of(cause), delay).Err()}
}

func misconfigured(cause error) *refusal {
	return &refusal{ReasonMisconfigured, status.Error(codes.Internal, "tap: "+cause.Error())}
}

// delayStep is what the delay in a breaker's refusals is rounded up to.
const delayStep = 10 * time.Millisecond

// delayed makes refusals that differ in their delay. Making a status takes a microsecond and a dozen allocations, too much
// for each RPC of a flood: the newest is kept while the delay, rounded up, stays the same.
type delayed struct {
	reason Reason // set at construction, then read only
	cause  error  // set at construction, then read only
	newest atomic.Pointer[delayedRefusal]
}

type delayedRefusal struct {
	delay time.Duration
	*refusal
}

func (d *delayed) refuse(delay time.Duration) *refusal {
	delay = (delay + delayStep - 1).Truncate(delayStep)
	if r := d.newest.Load(); r != nil && r.delay == delay {
		return r.refusal
	}
	r := &delayedRefusal{delay, refuse(d.reason, d.cause, delay)}
	d.newest.Store(r)
	return r.refusal
}

// isServerFault is the default of WithServerFault.
func isServerFault(err error) bool {
	switch status.Code(err) { //nolint:exhaustive // every other code is the client's doing, or a denial
	case codes.Unknown, codes.DeadlineExceeded, codes.Internal, codes.Unavailable, codes.DataLoss:
		return true
	default:
		return false
	}
}

// withStatus gives the errors of policies and contexts their status. Others stay: grpc has a rule of its own for them.
func withStatus(err error) error {
	if st, ok := status.FromError(err); ok {
		return st.Err()
	}
	if st := rpcstatus.Of(err); st.Code() != codes.Unknown {
		return st.Err()
	}
	return err
}
