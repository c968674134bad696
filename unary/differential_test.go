package unary_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/fallback"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/failsafe-go/failsafe-go/timeout"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"pgregory.net/rapid"

	"github.com/streamsafe/streamsafe/internal/rpcstatus"
	"github.com/streamsafe/streamsafe/unary"
)

// try is what one attempt of a script does.
type try struct {
	takes time.Duration
	code  codes.Code
}

// Policies see the same execution as under an executor of failsafe-go: the same counts, times and outcomes, told to the
// same listeners in the same order.
func TestExecutionsAreFailsafes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		kinds := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"retry", "breaker", "bulkhead", "timeout", "fallback"}),
			1, 4, rapid.ID).Draw(r, "policies")
		script := rapid.SliceOfN(rapid.Custom(func(r *rapid.T) try {
			return try{
				takes: rapid.SampledFrom([]time.Duration{time.Millisecond, 2 * time.Millisecond, 41 * time.Millisecond}).Draw(r, "takes"),
				code:  rapid.SampledFrom([]codes.Code{codes.OK, codes.Unavailable, codes.NotFound}).Draw(r, "code"),
			}
		}), 9, 9).Draw(r, "script")
		limit := rapid.SampledFrom([]time.Duration{time.Hour, 57 * time.Millisecond}).Draw(r, "caller") // no two things happen at once
		var want, got []string
		synctest.Test(t, func(t *testing.T) { want = runScript(t.Context(), unary.WithExecutor, kinds, script, limit) })
		synctest.Test(t, func(t *testing.T) { got = runScript(t.Context(), nil, kinds, script, limit) })
		require.Equal(r, want, got)
	})
}

// runScript makes three calls, and returns what happened.
func runScript(
	ctx context.Context, executor func(failsafe.Executor[any]) unary.Option, kinds []string, script []try, limit time.Duration,
) []string {
	var log []string
	began := time.Now()
	note := func(what string) func(failsafe.ExecutionEvent[any]) {
		return func(e failsafe.ExecutionEvent[any]) {
			log = append(log, fmt.Sprintf("%s: attempts %d, executions %d, retries %d, hedges %d, first %v, retry %v, hedge %v, "+
				"cancelled %v, at %v, attempt at %v, for %v and %v, %q, %v", what, e.Attempts(), e.Executions(), e.Retries(),
				e.Hedges(), e.IsFirstAttempt(), e.IsRetry(), e.IsHedge(), e.Context().Err() != nil, e.StartTime().Sub(began),
				e.AttemptStartTime().Sub(began), e.ElapsedTime(), e.ElapsedAttemptTime(), shown(e.LastResult()), codeOf(e.LastError())))
		}
	}
	chain := make(policies, len(kinds))
	for i, kind := range kinds {
		chain[i] = scripted(kind, note)
	}
	option := unary.WithPolicies(chain...)
	if executor != nil {
		option = executor(failsafe.With(chain...))
	}
	in, attempts := unary.ClientInterceptor(option), 0
	for range 3 {
		caller, cancel := context.WithTimeout(ctx, limit)
		reply, err := call(caller, in, func(ctx context.Context, reply *response, _ []grpc.CallOption) error {
			step := script[attempts]
			attempts++
			timer := time.NewTimer(step.takes)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-ctx.Done():
				return status.FromContextError(ctx.Err()).Err()
			}
			reply.Username = strconv.Itoa(attempts)
			return status.Error(step.code, "scripted")
		})
		cancel()
		log = append(log, fmt.Sprintf("%v at %v after %d: %s", err, time.Since(began), attempts, status.Code(err)))
		if err == nil {
			log = append(log, reply.String())
		}
	}
	return log
}

// scripted returns a policy that tells what it sees.
func scripted(kind string, note func(string) func(failsafe.ExecutionEvent[any])) failsafe.Policy[any] {
	switch kind {
	case "retry":
		return retrypolicy.NewBuilder[any]().WithDelay(10 * time.Millisecond).OnRetry(note("retry")).OnSuccess(note("retry ok")).
			OnFailure(note("retry failed")).OnRetriesExceeded(note("exceeded")).Build()
	case "breaker":
		return circuitbreaker.NewBuilder[any]().WithFailureThreshold(2).WithDelay(25 * time.Millisecond).
			OnSuccess(note("breaker ok")).OnFailure(note("breaker failed")).Build()
	case "bulkhead":
		return bulkhead.NewBuilder[any](1).OnFull(note("full")).Build()
	case "timeout":
		return timeout.New[any](31 * time.Millisecond)
	default:
		return fallback.NewBuilderWithResult[any](&response{Username: "fallback"}).HandleErrors(errors.New("none")).
			OnSuccess(note("fallback ok")).OnFailure(note("fallback failed")).Build()
	}
}

// codeOf is the code of what policies see. What failsafe-go's timeout cuts is CANCELLED; here the attempt has a deadline
// (invariant 39). Nobody cancels in a script. A denied retry shows the policies around the last failure, and there the denial
// (invariant 38): of the policies here only the breaker denies.
func codeOf(err error) codes.Code {
	if _, stopped := errors.AsType[*rpcstatus.StoppedError](err); stopped {
		return codes.Unavailable
	}
	if code := rpcstatus.Of(err).Code(); code != codes.Canceled {
		return code
	}
	return codes.DeadlineExceeded
}

// shown is a reply as text; a denial has none, which the interceptor fills in.
func shown(reply any) string {
	if r, ok := reply.(*response); ok {
		return r.String()
	}
	return ""
}
