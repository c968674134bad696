package stream_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/budget"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/fallback"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/stream"
)

func TestARetryPolicyThatGivesUp(t *testing.T) {
	t.Parallel()
	builders := map[string]retrypolicy.Builder[any]{
		"of failsafe-go":    retrypolicy.NewBuilder[any]().WithDelay(time.Second),
		"of this package":   stream.NewRetryPolicyBuilder(),
		"with last failure": stream.NewRetryPolicyBuilder().ReturnLastFailure(),
	}
	for name, builder := range builders {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := scripted(t, sends(errGone, numbered(1)...), sends(errGone))
				s := w.mustDial(positions(), stream.WithStreamPolicies(builder.WithMaxRetries(3).Build()))
				got, err := receiveAll(s)
				wantEnd(t, err, stream.ReasonPolicy, codes.Unavailable, "the last failure's code")
				require.Equal(t, upTo(1), got)
				require.Equal(t, uint64(4), s.Stats().Attempts, "the break is the first failed try, and three retries follow")
				var e *stream.Error
				require.ErrorAs(t, err, &e)
				require.Equal(t, uint64(4), e.Attempts)
				if name != "with last failure" {
					require.ErrorIs(t, err, retrypolicy.ErrExceeded)
				}
				wantEnd(t, s.Send(frame{}.request()), stream.ReasonPolicy, codes.Unavailable, "Send tells the same")
			})
		})
	}
}

// The user's retry policy decides whether a break is worth resuming at all.
func TestARetryPolicyThatAborts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		gone := func(_ any, err error) bool { return status.Code(err) == codes.Unavailable }
		w := scripted(t, sends(errGone, numbered(1)...))
		began := time.Now()
		s := w.mustDial(positions(), stream.WithStreamPolicies(retrypolicy.NewBuilder[any]().WithDelay(time.Minute).AbortIf(gone).Build()))
		_, err := receiveAll(s)
		wantEnd(t, err, stream.ReasonPolicy, codes.Unavailable, "aborted")
		require.Equal(t, uint64(1), s.Stats().Attempts)
		require.Zero(t, time.Since(began))
	})
}

// The server's last word ends the stream at once, whatever a retry policy says.
func TestTheLastWordBeatsARetryPolicy(t *testing.T) {
	t.Parallel()
	everything := func() failsafe.Policy[any] {
		return retrypolicy.NewBuilder[any]().HandleIf(isError).WithMaxRetries(-1).WithDelay(time.Minute).Build()
	}
	tests := map[string]struct {
		end  error
		opts stream.ClientOption
		code codes.Code
	}{
		"an error":             {status.Error(codes.NotFound, "no"), stream.WithStreamPolicies(everything()), codes.NotFound},
		"an error, two deep":   {status.Error(codes.NotFound, "no"), stream.WithStreamPolicies(everything(), everything()), codes.NotFound},
		"an error, executor":   {status.Error(codes.NotFound, "no"), stream.WithStreamExecutor(failsafe.With(everything())), codes.NotFound},
		"the end":              {nil, stream.WithStreamPolicies(everything()), codes.OK},
		"the end, executor":    {nil, stream.WithStreamExecutor(failsafe.With(everything())), codes.OK},
		"a policy that resets": {status.Error(codes.PermissionDenied, "no"), stream.WithStreamPolicies(stream.NewRetryPolicyBuilder().HandleIf(isError).Build()), codes.PermissionDenied},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := scripted(t, sends(test.end, numbered(1)...))
				began := time.Now()
				s := w.mustDial(positions(), test.opts)
				got, err := receiveAll(s)
				if test.code == codes.OK {
					require.True(t, err == io.EOF, "bare: %v", err) //nolint:errorlint // that is what is asked
				} else {
					wantEnd(t, err, stream.ReasonServer, test.code, "the last word")
				}
				require.Equal(t, upTo(1), got)
				require.Zero(t, time.Since(began), "no delay")
				require.Equal(t, uint64(1), s.Stats().Attempts)
			})
		})
	}
}

// The break is the first failed try: the first reconnect is delayed like all others (invariant 20).
func TestTheFirstReconnectIsDelayed(t *testing.T) {
	t.Parallel()
	options := map[string]func(failsafe.Policy[any]) stream.ClientOption{
		"policies": func(p failsafe.Policy[any]) stream.ClientOption { return stream.WithStreamPolicies(p) },
		"executor": func(p failsafe.Policy[any]) stream.ClientOption { return stream.WithStreamExecutor(failsafe.With(p)) },
	}
	for name, option := range options {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := scripted(t, lasts(time.Hour, errGone, numbered(1)...), sends(nil, numbered(2)...))
				minute := retrypolicy.NewBuilder[any]().WithDelay(time.Minute).Build()
				began := time.Now()
				got, err := receiveAll(w.mustDial(positions(), option(minute)))
				require.ErrorIs(t, err, io.EOF)
				require.Equal(t, upTo(2), got)
				require.Equal(t, time.Hour+time.Minute, time.Since(began))
			})
		})
	}
}

// A breaker opens after attempts that died, keeps the stream away from the server, and lets a try through in the end.
// This package's retry builder waits for that.
func TestABreaker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var changes []string
		breaker := circuitbreaker.NewBuilder[any]().WithFailureThreshold(3).WithDelay(5 * time.Minute).
			OnStateChanged(func(e circuitbreaker.StateChangedEvent) { changes = append(changes, e.NewState.String()) }).Build()
		w := scripted(t, sends(errGone), sends(errGone), sends(errGone), lasts(time.Minute, nil, numbered(1)...))
		s := w.mustDial(positions(), stream.WithStreamPolicies(stream.NewRetryPolicyBuilder().Build(), breaker))
		began := time.Now()
		got, err := receiveAll(s)
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, upTo(1), got)
		require.Equal(t, uint64(4), s.Stats().Attempts, "while the breaker was open nothing was tried")
		require.InDelta(t, 6*time.Minute, time.Since(began), float64(15*time.Second))
		require.Equal(t, []string{"open", "half-open", "closed"}, changes, "closed when an attempt was stable")
	})
}

func TestABreakerThatNobodyWaitsFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		breaker := circuitbreaker.NewBuilder[any]().WithFailureThreshold(1).WithDelay(5 * time.Minute).Build()
		w := scripted(t, sends(errGone, numbered(1)...), stays())
		impatient := retrypolicy.NewBuilder[any]().AbortOnErrors(circuitbreaker.ErrOpen).WithDelay(time.Second).Build()
		_, err := receiveAll(w.mustDial(positions(), stream.WithStreamPolicies(impatient, breaker)))
		wantEnd(t, err, stream.ReasonPolicy, codes.Unavailable, "the breaker's code")
		require.ErrorIs(t, err, circuitbreaker.ErrOpen)
		_, err = w.dial(t.Context(), positions(), stream.WithStreamPolicies(breaker))
		wantEnd(t, err, stream.ReasonPolicy, codes.Unavailable, "another stream behind the same breaker")
		require.ErrorIs(t, err, circuitbreaker.ErrOpen)
	})
}

// Invariant 28: a planned close is no failure, an end with OK or leaving a stream that works. An early death is one: see
// TestAServerThatAcceptsAndDiesForAnHour.
func TestABreakerDoesNotCountGoodEnds(t *testing.T) {
	t.Parallel()
	ends := map[string]func(w *world, opts ...stream.ClientOption){
		"OK": func(w *world, opts ...stream.ClientOption) {
			_, err := receiveAll(w.mustDial(positions(), opts...))
			require.ErrorIs(w.t, err, io.EOF)
		},
		"OK in Resume": func(w *world, opts ...stream.ClientOption) {
			cb := positions()
			cb.Resume = func(_ context.Context, r *resumption) error {
				for {
					if _, err := r.Recv(); err != nil {
						return err
					}
				}
			}
			_, err := w.dial(w.t.Context(), cb, opts...)
			require.ErrorIs(w.t, err, io.EOF)
		},
		"Complete": func(w *world, opts ...stream.ClientOption) {
			cb := positions()
			cb.Resume = func(context.Context, *resumption) error { return stream.Complete }
			_, err := w.dial(w.t.Context(), cb, opts...)
			require.ErrorIs(w.t, err, io.EOF)
		},
		"Close": func(w *world, opts ...stream.ClientOption) {
			require.NoError(w.t, w.mustDial(positions(), opts...).Close())
		},
		"cancel": func(w *world, opts ...stream.ClientOption) {
			ctx, cancel := context.WithCancel(w.t.Context())
			s, err := w.dial(ctx, positions(), opts...)
			require.NoError(w.t, err)
			cancel()
			mustClose(w.t, s, "called by the test")
		},
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				failed := func(failsafe.ExecutionEvent[any]) { t.Error("a failure was counted") }
				breaker := circuitbreaker.NewBuilder[any]().OnFailure(failed).Build()
				opening := circuitbreaker.NewBuilder[any]().OnFailure(failed).Build()
				w := scripted(t, lasts(time.Second, nil, numbered(1)...))
				end(w, stream.WithStreamPolicies(stream.NewRetryPolicyBuilder().Build(), breaker), stream.WithOpenPolicies(opening))
				synctest.Wait()
			})
		})
	}
}

func TestABudget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		shared := budget.NewBuilder().WithMaxRate(0.1).WithMinConcurrency(1).Build()
		policy := func() stream.ClientOption {
			return stream.WithStreamPolicies(stream.NewRetryPolicyBuilder().WithBudget(shared).Build())
		}
		w := scripted(t, sends(errGone, numbered(1)...), stays(), sends(errGone, numbered(1)...))
		first := w.mustDial(positions(), policy())
		mustReceive(t, first, 1)
		go func() { _, _ = first.Recv() }() // ends with the stream
		time.Sleep(time.Second)             // the first stream's retry goes on until it is stable
		require.Equal(t, uint64(2), first.Stats().Attempts)
		_, err := receiveAll(w.mustDial(positions(), policy()))
		wantEnd(t, err, stream.ReasonPolicy, codes.ResourceExhausted, "the budget is spent")
		require.ErrorIs(t, err, budget.ErrExceeded)
	})
}

func TestFallbacks(t *testing.T) {
	t.Parallel()
	errOwn := errors.New("sorry")
	wrap := func(exec failsafe.Execution[any]) (any, error) {
		return nil, fmt.Errorf("%w: %w", errOwn, exec.LastError())
	}
	once := func() failsafe.Policy[any] { return stream.NewRetryPolicyBuilder().WithMaxRetries(1).Build() }
	tests := map[string]struct {
		end      error
		fallback failsafe.Policy[any]
		reason   stream.Reason
		code     codes.Code
	}{
		"replaces the error":  {errGone, fallback.NewWithError[any](errOwn), stream.ReasonPolicy, codes.Unknown},
		"gives it a code":     {errGone, fallback.NewWithError[any](errors.Join(errOwn, status.Error(codes.Aborted, "x"))), stream.ReasonPolicy, codes.Aborted},
		"wraps it":            {errGone, fallback.NewWithFunc(wrap), stream.ReasonPolicy, codes.Unavailable},
		"wraps a last word":   {status.Error(codes.NotFound, "no"), fallback.NewWithFunc(wrap), stream.ReasonServer, codes.NotFound},
		"supplies no stream":  {errGone, fallback.NewWithResult[any](42), stream.ReasonPolicy, codes.Unknown},
		"supplies a nil":      {errGone, fallback.NewWithResult[any](nil), stream.ReasonPolicy, codes.Unknown},
		"of an end with OK":   {nil, fallback.NewWithError[any](errOwn), stream.ReasonUnknown, codes.OK},
		"in place of an open": {errGone, nil, stream.ReasonPolicy, codes.Unknown},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := scripted(t, sends(test.end))
				if test.fallback == nil {
					w.Refuse(true)
					_, err := w.dial(t.Context(), positions(), stream.WithOpenPolicies(fallback.NewWithResult[any](42)))
					wantEnd(t, err, test.reason, test.code, name)
					require.ErrorContains(t, err, "not a stream")
					return
				}
				_, err := receiveAll(w.mustDial(positions(), stream.WithStreamPolicies(test.fallback, once())))
				switch {
				case test.code == codes.OK:
					require.ErrorIs(t, err, io.EOF)
					return
				case name == "supplies no stream" || name == "supplies a nil":
					require.ErrorContains(t, err, "not a stream")
				default:
					require.ErrorIs(t, err, errOwn)
				}
				wantEnd(t, err, test.reason, test.code, name)
			})
		})
	}
}
