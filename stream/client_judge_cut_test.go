package stream_test

import (
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/hedgepolicy"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/failsafe-go/failsafe-go/timeout"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/streamsafe/streamsafe/stream"
)

// What policies and limits cut short, and what the application is told of it.

// Invariant 30: what WithMaxOutage or a policy cuts short never looks like the application's cancel.
func TestWhatIsCutShortNeverLooksLikeACancel(t *testing.T) {
	t.Parallel()
	policies := map[string]func() failsafe.Policy[any]{
		"a retry": func() failsafe.Policy[any] { return retrypolicy.NewBuilder[any]().WithDelay(time.Second).Build() },
		"a hedge": func() failsafe.Policy[any] { return hedgepolicy.NewWithDelay[any](time.Second) },
	}
	for name, policy := range policies {
		t.Run("by WithMaxOutage, under "+name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				_, err := scripted(t, stays()).dial(t.Context(), resumes(hangs),
					stream.WithMaxOutage(5*time.Second), stream.WithOpenPolicies(policy()))
				wantEnd(t, err, stream.ReasonMaxOutage, codes.Unavailable, "nobody has cancelled")
				require.NotErrorIs(t, err, context.Canceled)
				require.Equal(t, 5*time.Second, time.Since(began))
			})
		})
	}
	t.Run("by a timeout at stream scope", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s := scripted(t, stays(numbered(1)...)).mustDial(callbacks{},
				stream.WithStreamPolicies(stream.NewRetryPolicyBuilder().Build(), timeout.New[any](3*time.Second)))
			_, err := receiveAll(s)
			wantEnd(t, err, stream.ReasonNoCheckpoint, codes.Unavailable, "nobody has cancelled")
			require.NotErrorIs(t, err, context.Canceled)
		})
	})
}

// Observers are not told of a cancel either, wherever in the opening it is cut short.
func TestObserversAreToldOfACut(t *testing.T) {
	t.Parallel()
	firsts := map[string]func(context.Context, *resumption) error{
		"in Resume":               hangs,
		"in a wait at open scope": func(context.Context, *resumption) error { return errGone },
	}
	for name, first := range firsts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var d diary
				scripted(t, stays()).mustDial(resumes(func(ctx context.Context, r *resumption) error {
					if r.Attempt() == 1 {
						return first(ctx, r)
					}
					return nil
				}), stream.WithObserver(&d), stream.WithStableFor(time.Second),
					stream.WithStreamPolicies(stream.NewRetryPolicyBuilder().Build(), timeout.New[any](3*time.Second)),
					stream.WithOpenPolicies(retrypolicy.NewBuilder[any]().WithDelay(time.Minute).Build()))
				synctest.Wait()
				detached := d.of("detached")
				require.Len(t, detached, 1)
				require.NotErrorIs(t, detached[0].cause, context.Canceled)
				require.Equal(t, codes.Unavailable, codeOf(detached[0].cause))
			})
		})
	}
}

// WithMaxOutage tells why there was an outage, and not what it has itself cut short.
func TestMaxOutageTellsWhatBeganTheOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, sends(errGone, numbered(1)...), stays())
		_, err := receiveAll(w.mustDial(resumes(func(ctx context.Context, r *resumption) error {
			if r.Attempt() > 1 {
				return hangs(ctx, r)
			}
			return nil
		}), stream.WithMaxOutage(5*time.Second)))
		wantEnd(t, err, stream.ReasonMaxOutage, codes.Unavailable, "the attempt that hangs is cut short")
		require.ErrorIs(t, err, errGone)
		require.ErrorContains(t, err, "going away")
	})
}

// Resumption.Cause and Stats.LastError tell what the attempt before has ended with: a try that was denied is none.
func TestTheCauseIsWhatTheLastAttemptEndedWith(t *testing.T) {
	t.Parallel()
	t.Run("where a limiter denies the next", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			var causes []error
			minute := ratelimiter.NewBursty[any](1, time.Minute)
			w := scripted(t, sends(errGone, numbered(1)...), sends(nil))
			s := w.mustDial(resumes(func(_ context.Context, r *resumption) error {
				causes = append(causes, r.Cause())
				return nil
			}), stream.WithOpenPolicies(minute))
			ended := receiving(s)
			rest(30 * time.Second)
			require.Equal(t, stream.Detached, s.State(), "denied again and again")
			require.ErrorContains(t, s.Stats().LastError, "going away")
			require.ErrorIs(t, within(t, ended, "the end of Recv"), io.EOF)
			require.Len(t, causes, 2)
			require.NoError(t, causes[0], "there was none before the first")
			require.ErrorIs(t, causes[1], errGone)
		})
	})
	t.Run("where a retry at open scope makes the next", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			var cause error
			second := retrypolicy.NewBuilder[any]().WithDelay(time.Second).Build()
			scripted(t, stays()).mustDial(resumes(func(_ context.Context, r *resumption) error {
				cause = r.Cause()
				if r.Attempt() == 1 {
					return errGone
				}
				return nil
			}), stream.WithOpenPolicies(second))
			require.ErrorIs(t, cause, errGone, "of attempt 1, at attempt 2")
		})
	})
}

// The application's rules are asked what the server and the transport say. A time limit of this package, what a policy
// cuts short and a message that grpc refuses are none of their business.
func TestWhatTheStreamEndsItselfIsNotTheServersWord(t *testing.T) {
	t.Parallel()
	first := func(ctx context.Context, r *resumption) error {
		if r.Attempt() == 1 {
			return hangs(ctx, r)
		}
		return nil
	}
	tests := map[string]struct {
		cb   callbacks
		opts []stream.ClientOption
		send int // size of a message that is sent
	}{
		"WithIdleTimeout":             {positions(), []stream.ClientOption{stream.WithIdleTimeout(time.Second)}, 0},
		"WithOpenTimeout":             {resumes(first), []stream.ClientOption{stream.WithOpenTimeout(time.Second)}, 0},
		"a timeout at open scope":     {resumes(first), []stream.ClientOption{stream.WithOpenPolicies(timeout.New[any](time.Second))}, 0},
		"a message that is too large": {positions(), []stream.ClientOption{stream.WithAtMostOnceSends(), stream.WithCallOptions(grpc.MaxCallSendMsgSize(100))}, 1000},
	}
	rules := map[string]func(asked func(error) bool) stream.ClientOption{
		"WithPositionLost": func(asked func(error) bool) stream.ClientOption {
			return stream.WithPositionLost(func(err error) bool { return asked(err) })
		},
		"WithResumable": func(asked func(error) bool) stream.ClientOption {
			return stream.WithResumable(func(err error) bool { return !asked(err) })
		},
	}
	for name, test := range tests {
		for what, rule := range rules {
			t.Run(name+", "+what, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := scripted(t, stays(numbered(1)...), sends(nil, numbered(1, 2)...))
					yes := rule(func(err error) bool {
						t.Errorf("asked about %v", err)
						return true
					})
					s := w.mustDial(test.cb, append([]stream.ClientOption{yes}, test.opts...)...)
					if test.send > 0 {
						requireReason(t, s.Send(frame{kind: data, size: test.send}.request()), stream.ReasonMessage, "too large")
					}
					got, err := receiveAll(s)
					require.ErrorIs(t, err, io.EOF, "resumed")
					require.Equal(t, uint64(2), got[len(got)-1])
				})
			})
		}
	}
}
