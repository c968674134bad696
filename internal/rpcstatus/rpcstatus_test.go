package rpcstatus_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go/adaptivelimiter"
	"github.com/failsafe-go/failsafe-go/adaptivethrottler"
	"github.com/failsafe-go/failsafe-go/budget"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/failsafe-go/failsafe-go/timeout"
	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/internal/rpcstatus"
)

func TestStatusOfErrors(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err    error
		code   codes.Code
		denial bool
	}{
		"nil":            {nil, codes.OK, false},
		"plain":          {errors.New("plain"), codes.Unknown, false},
		"status":         {status.Error(codes.NotFound, "no"), codes.NotFound, false},
		"wrapped status": {fmt.Errorf("around: %w", status.Error(codes.NotFound, "no")), codes.NotFound, false},
		"cancelled":      {fmt.Errorf("around: %w", context.Canceled), codes.Canceled, false},
		"deadline":       {context.DeadlineExceeded, codes.DeadlineExceeded, false},
		"timeout":        {timeout.ErrExceeded, codes.DeadlineExceeded, false},
		"stopped": {
			fmt.Errorf("around: %w", &rpcstatus.StoppedError{Failure: status.Error(codes.Unavailable, "down"), By: budget.ErrExceeded}),
			codes.Unavailable, false,
		},
		"denied, and denied again": {
			&rpcstatus.StoppedError{Failure: bulkhead.ErrFull, By: circuitbreaker.ErrOpen}, codes.ResourceExhausted, true,
		},
		"breaker":           {fmt.Errorf("around: %w", circuitbreaker.ErrOpen), codes.Unavailable, true},
		"rate limiter":      {ratelimiter.ErrExceeded, codes.ResourceExhausted, true},
		"bulkhead":          {bulkhead.ErrFull, codes.ResourceExhausted, true},
		"adaptive limiter":  {adaptivelimiter.ErrExceeded, codes.ResourceExhausted, true},
		"throttler":         {adaptivethrottler.ErrExceeded, codes.ResourceExhausted, true},
		"budget":            {budget.ErrExceeded, codes.ResourceExhausted, true},
		"retries, a status": {retrypolicy.ExceededError{LastError: status.Error(codes.Aborted, "no")}, codes.Aborted, false},
		"retries, breaker":  {retrypolicy.ExceededError{LastError: circuitbreaker.ErrOpen}, codes.Unavailable, true},
		"retries, a result": {retrypolicy.ExceededError{LastResult: 1}, codes.Unknown, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			st := rpcstatus.Of(c.err)
			require.Equal(t, c.code, st.Code())
			require.Equal(t, c.denial, rpcstatus.IsDenial(c.err))
			if c.err != nil {
				require.NotEmpty(t, st.Message(), "a status says what happened")
			}
		})
	}
}

func TestRetryInfoIsAddedOnce(t *testing.T) {
	t.Parallel()
	st := rpcstatus.WithRetryInfo(status.New(codes.Unavailable, "open"), time.Second)
	require.Equal(t, time.Second, rpcstatus.HintOf(st.Err(), nil).Delay)
	again := rpcstatus.WithRetryInfo(st, time.Minute)
	require.Equal(t, time.Second, rpcstatus.HintOf(again.Err(), nil).Delay, "the first one stays")
	require.Len(t, again.Details(), 1)
	require.Empty(t, rpcstatus.WithRetryInfo(status.New(codes.Unavailable, "open"), 0).Details())
	require.Equal(t, codes.OK, rpcstatus.WithRetryInfo(status.New(codes.OK, ""), time.Second).Code())
}

func TestHints(t *testing.T) {
	t.Parallel()
	withInfo := rpcstatus.WithRetryInfo(status.New(codes.ResourceExhausted, "slow down"), 2*time.Second).Err()
	without := status.Error(codes.ResourceExhausted, "slow down")
	pushback := func(values ...string) metadata.MD { return metadata.MD{rpcstatus.PushbackKey: values} }
	for name, c := range map[string]struct {
		err     error
		trailer metadata.MD
		want    rpcstatus.Hint
	}{
		"none":               {without, nil, rpcstatus.Hint{}},
		"retry info":         {withInfo, nil, rpcstatus.Hint{Given: true, Delay: 2 * time.Second}},
		"pushback":           {without, pushback("250"), rpcstatus.Hint{Given: true, Delay: 250 * time.Millisecond}},
		"the longer":         {withInfo, pushback("2500"), rpcstatus.Hint{Given: true, Delay: 2500 * time.Millisecond}},
		"zero":               {without, pushback("0"), rpcstatus.Hint{Given: true}},
		"negative":           {withInfo, pushback("-1"), rpcstatus.Hint{Given: true, Never: true}},
		"not a number":       {without, pushback("soon"), rpcstatus.Hint{Given: true, Never: true}},
		"too large":          {without, pushback("99999999999999999999"), rpcstatus.Hint{Given: true, Never: true}},
		"more than one":      {without, pushback("1", "2"), rpcstatus.Hint{Given: true, Never: true}},
		"no error":           {nil, nil, rpcstatus.Hint{}},
		"not a status error": {errors.New("plain"), nil, rpcstatus.Hint{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, rpcstatus.HintOf(c.err, c.trailer))
		})
	}
	negative, err := status.New(codes.Unavailable, "odd").WithDetails(&errdetails.RetryInfo{})
	require.NoError(t, err)
	require.Equal(t, rpcstatus.Hint{Given: true}, rpcstatus.HintOf(negative.Err(), nil), "an empty RetryInfo asks for no delay")
}

func FuzzPushback(f *testing.F) {
	for _, seed := range []string{"", "0", "-1", "17", "1e3", "9223372036854775807"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		hint := rpcstatus.HintOf(nil, metadata.MD{rpcstatus.PushbackKey: {value}})
		if !hint.Given || hint.Delay < 0 || hint.Never && hint.Delay != 0 {
			t.Errorf("%q gives %+v", value, hint)
		}
	})
}
