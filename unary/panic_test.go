package unary_test

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/adaptivelimiter"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/fallback"
	"github.com/failsafe-go/failsafe-go/hedgepolicy"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/unary"
)

// panics is a listener, a predicate, and an observer that panics.
type panics struct{}

func (panics) listener(failsafe.ExecutionEvent[any])      { panic(errBoom) } //nolint:forbidigo // what it is for
func (panics) predicate(any, error) bool                  { panic(errBoom) } //nolint:forbidigo // what it is for
func (panics) OnAttempt(unary.Info, time.Duration, error) { panic(errBoom) } //nolint:forbidigo // what it is for
func (panics) delay(failsafe.ExecutionAttempt[any]) time.Duration {
	panic(errBoom) //nolint:forbidigo // what it is for
}

type deniedPanics struct{}

func (deniedPanics) OnDenied(unary.Info, string, error) { panic(errBoom) } //nolint:forbidigo // what it is for

type callPanics struct{}

func (callPanics) OnCall(unary.Info, time.Duration, error) { panic(errBoom) } //nolint:forbidigo // what it is for

// A panic of the user's own code, wherever a call runs it, leaves no permit behind, and goes on to the caller.
func TestPanicsLeakNothing(t *testing.T) {
	t.Parallel()
	p := panics{}
	open := circuitbreaker.NewBuilder[any]().WithDelay(time.Hour).Build()
	open.Open()
	stock := retrypolicy.NewBuilder[any]
	for name, c := range map[string]struct {
		inside   policies
		observer unary.Observer
		code     codes.Code
	}{
		"predicate of a retry":    {inside: policies{stock().HandleIf(p.predicate).Build()}, code: codes.Unavailable},
		"predicate to abort":      {inside: policies{stock().AbortIf(p.predicate).Build()}, code: codes.Unavailable},
		"listener of a retry":     {inside: policies{stock().OnRetry(p.listener).Build()}, code: codes.Unavailable},
		"listener of a failure":   {inside: policies{stock().OnFailure(p.listener).Build()}, code: codes.Unavailable},
		"listener of a success":   {inside: policies{stock().OnSuccess(p.listener).Build()}},
		"delay":                   {inside: policies{stock().WithDelayFunc(p.delay).Build()}, code: codes.Unavailable},
		"predicate of a breaker":  {inside: policies{circuitbreaker.NewBuilder[any]().HandleIf(p.predicate).Build()}, code: codes.Unavailable},
		"listener of a breaker":   {inside: policies{circuitbreaker.NewBuilder[any]().OnFailure(p.listener).Build()}, code: codes.Unavailable},
		"bulkhead is acquired":    {inside: policies{bulkhead.NewBuilder[any](1).OnAcquired(p.listener).Build()}},
		"bulkhead is released":    {inside: policies{bulkhead.NewBuilder[any](1).OnReleased(p.listener).Build()}},
		"bulkhead is full":        {inside: policies{bulkhead.NewBuilder[any](0).OnFull(p.listener).Build()}},
		"fallback":                {inside: policies{fallback.NewBuilderWithFunc(func(failsafe.Execution[any]) (any, error) { panic(errBoom) }).Build()}, code: codes.Unavailable}, //nolint:forbidigo // what it is for
		"fallback's condition":    {inside: policies{fallback.NewBuilderWithResult[any](text("")).HandleIf(p.predicate).Build()}},
		"in a hedge":              {inside: policies{hedgepolicy.NewWithDelay[any](time.Hour), stock().HandleIf(p.predicate).Build()}},
		"delay of a hedge":        {inside: policies{hedgepolicy.NewWithDelayFunc(p.delay)}},
		"observer":                {observer: p},
		"observer of the call":    {observer: callPanics{}},
		"observer of the denials": {inside: policies{open}, observer: deniedPanics{}},
		"stand-in does not hide":  {inside: policies{fallback.NewWithResult[any](text("")), stock().HandleIf(p.predicate).Build()}},
	} {
		for _, server := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				limit, limiter := bulkhead.New[any](1), adaptivelimiter.NewWithDefaults[any]()
				trial := circuitbreaker.NewBuilder[any]().WithDelay(time.Hour).WithSuccessThreshold(1).Build()
				opts := []unary.Option{unary.WithPolicies(append(policies{limit, limiter, trial}, c.inside...)...)}
				if c.observer != nil {
					opts = append(opts, unary.WithObserver(c.observer))
				}
				for range 3 {
					trial.HalfOpen()
					require.PanicsWithError(t, "boom", func() {
						if server {
							_, _ = handle(t.Context(), unary.ServerInterceptor(opts...),
								func(context.Context) (any, error) { return text(""), status.Error(c.code, "x") })
							return
						}
						_, _ = call(t.Context(), unary.ClientInterceptor(opts...), fails(c.code))
					})
					require.True(t, limit.TryAcquirePermit(), "the bulkhead's permit is lost")
					limit.ReleasePermit()
					require.Zero(t, limiter.Inflight(), "the limiter's permit is lost")
				}
			})
		}
	}
}

// The permits of the policy whose own listener panics are free, too.
func TestAPolicysOwnListenerLeaksNothing(t *testing.T) {
	t.Parallel()
	p := panics{}
	for name, limit := range map[string]bulkhead.Bulkhead[any]{
		"acquired": bulkhead.NewBuilder[any](1).OnAcquired(p.listener).Build(),
		"released": bulkhead.NewBuilder[any](1).OnReleased(p.listener).Build(),
	} {
		for range 3 {
			require.PanicsWithError(t, "boom", func() {
				_, _ = call(t.Context(), unary.ClientInterceptor(unary.WithPolicies(limit)), fails(codes.OK))
			})
		}
		require.True(t, limit.TryAcquirePermit(), name)
		require.False(t, limit.TryAcquirePermit(), "%s: one permit, and not two", name)
	}
	full := bulkhead.NewBuilder[any](1).OnFull(p.listener).Build()
	require.True(t, full.TryAcquirePermit())
	require.PanicsWithError(t, "boom", func() {
		_, _ = call(t.Context(), unary.ClientInterceptor(unary.WithPolicies(full)), fails(codes.OK))
	})
	require.False(t, full.TryAcquirePermit(), "somebody else's permit was given back")

	for name, build := range map[string]func(circuitbreaker.Builder[any]) circuitbreaker.Builder[any]{
		"predicate": func(b circuitbreaker.Builder[any]) circuitbreaker.Builder[any] { return b.HandleIf(p.predicate) },
		"success":   func(b circuitbreaker.Builder[any]) circuitbreaker.Builder[any] { return b.OnSuccess(p.listener) },
	} {
		breaker := build(circuitbreaker.NewBuilder[any]().WithSuccessThreshold(2)).Build()
		breaker.HalfOpen()
		for range 5 {
			require.PanicsWithError(t, "boom", func() {
				_, _ = call(t.Context(), unary.ClientInterceptor(unary.WithPolicies(breaker)), fails(codes.OK))
			}, name)
		}
	}
}

// A handler that ends its goroutine lets go of its permits, too.
func TestGoexitLeaksNoPermit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		limit := bulkhead.New[any](1)
		trial := circuitbreaker.NewBuilder[any]().WithSuccessThreshold(1).Build()
		in := unary.ServerInterceptor(unary.WithPolicies(limit, trial))
		for range 3 {
			trial.HalfOpen()
			done := make(chan struct{})
			go func() { // ends with Goexit
				defer close(done)
				_, _ = handle(t.Context(), in, func(context.Context) (any, error) {
					runtime.Goexit()
					return nil, nil
				})
			}()
			<-done
			require.True(t, limit.TryAcquirePermit(), "the permit is lost")
			limit.ReleasePermit()
		}
		_, err := handle(t.Context(), in, func(context.Context) (any, error) { return text(""), nil })
		require.NoError(t, err, "the trial's permit is lost")
	})
}

// Under an executor, too, an observer that panics leaves no permit behind, and nobody waits for ever.
func TestObserversUnderExecutors(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		limit := bulkhead.New[any](1)
		for _, inside := range []policies{{limit}, {limit, hedgepolicy.NewWithDelay[any](time.Millisecond)}, {limit, retrypolicy.NewWithDefaults[any]()}} {
			require.PanicsWithError(t, "boom", func() {
				_, _ = call(t.Context(), unary.ClientInterceptor(withExecutor(inside...), unary.WithObserver(panics{})),
					func(context.Context, *response, []grpc.CallOption) error {
						time.Sleep(time.Second)
						return errors.New("x")
					})
			})
			require.True(t, limit.TryAcquirePermit())
			limit.ReleasePermit()
		}
	})
}
