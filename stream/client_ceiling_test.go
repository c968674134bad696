package stream_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go/hedgepolicy"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/stream"
)

// restarting are n handlers that live for d, bring a message each, and die.
func restarting(n uint64, d time.Duration, err error) []func(bidi) error {
	var handlers []func(bidi) error
	for seq := uint64(1); seq <= n; seq++ {
		handlers = append(handlers, lasts(d, err, numbered(seq)...))
	}
	return append(handlers, stays(numbered(n+1)...))
}

// A server that restarts often, and brings something each time, is not waited for longer than it lived, or than a second.
func TestTheWaitAfterProgress(t *testing.T) {
	t.Parallel()
	for _, lived := range []time.Duration{0, 300 * time.Millisecond, 2 * time.Second, 5 * time.Second} {
		t.Run(lived.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var d diary
				s := scripted(t, restarting(60, lived, errGone)...).mustDial(positions(), stream.WithObserver(&d))
				ended := receiving(s)
				rest(time.Hour)
				require.Equal(t, uint64(61), s.Stats().Deliveries)
				delays := d.delays()
				require.Len(t, delays, 60)
				var longest time.Duration
				for i, delay := range delays {
					require.LessOrEqual(t, delay, max(lived, time.Second)+10*time.Millisecond, "delay %d", i)
					longest = max(longest, delay)
				}
				require.Greater(t, longest, max(lived, time.Second)/2, "it grows up to that")
				goesOn(t, ended)
			})
		})
	}
}

// Acknowledgements are progress, too.
func TestTheWaitAfterAcknowledgements(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var d diary
		f := &feed{}
		serve := f.serve
		f.handler = func(s bidi) error { // takes a message, and dies
			before := f.last()
			done := make(chan error, 1)
			go func() { done <- serve(s) }() // ends with the stream
			for f.last() == before {
				if err := lasts(50*time.Millisecond, nil)(s); err != nil {
					return err
				}
			}
			if err := lasts(time.Second, nil)(s); err != nil {
				return err
			}
			return errGone
		}
		s := newWorld(t, f).mustOpen(withReplay(), stream.WithObserver(&d))
		ended := receiving(s)
		for seq := uint64(1); seq <= 40; seq++ {
			mustSend(t, s, seq, seq)
			rest(3 * time.Second)
		}
		rest(time.Minute)
		require.Equal(t, upTo(40), f.stored)
		for i, delay := range d.delays() {
			require.LessOrEqual(t, delay, 3*time.Second, "delay %d", i)
		}
		require.Greater(t, len(d.delays()), 30)
		goesOn(t, ended)
	})
}

// What the application has chosen is respected, and so is what the server asks for.
func TestTheWaitThatSomebodyHasChosen(t *testing.T) {
	t.Parallel()
	retryInfo := func(d time.Duration) error { return withRetryInfo(t, codes.Unavailable, d) }
	tests := map[string]struct {
		err         error
		opt         stream.ClientOption
		least, most time.Duration
	}{
		"WithDelay":    {errGone, stream.WithStreamPolicies(stream.NewRetryPolicyBuilder().WithDelay(time.Minute).WithJitter(0).Build()), time.Minute, time.Minute + 1},
		"WithRandom":   {errGone, stream.WithStreamPolicies(stream.NewRetryPolicyBuilder().WithRandomDelay(time.Minute, 2*time.Minute).Build()), time.Minute, 2 * time.Minute},
		"WithBackoff":  {errGone, stream.WithStreamPolicies(stream.NewRetryPolicyBuilder().WithBackoff(30*time.Second, time.Hour).WithJitter(0).Build()), 30 * time.Second, 30*time.Second + 1},
		"the server's": {retryInfo(time.Minute), stream.WithName(""), time.Minute, time.Minute + 2*time.Second},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var d diary
				s := scripted(t, restarting(5, 2*time.Second, test.err)...).mustDial(positions(), stream.WithObserver(&d), test.opt)
				mustReceive(t, s, upTo(6)...)
				synctest.Wait()
				for i, delay := range d.delays() {
					require.GreaterOrEqual(t, delay, test.least, "delay %d", i)
					require.LessOrEqual(t, delay, test.most, "delay %d", i)
				}
				require.Len(t, d.delays(), 5)
			})
		})
	}
}

// An attempt that brings nothing new is a failure like any other: the wait grows to 10 s, though others before it had brought
// something.
func TestTheWaitWithoutProgress(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var d diary
		handlers := append(restarting(10, time.Second, errGone)[:10], lasts(time.Second, errGone, numbered(10)...)) // again and again
		s := scripted(t, handlers...).mustDial(positions(), stream.WithObserver(&d))
		ended := receiving(s)
		rest(time.Hour)
		var longest time.Duration
		for _, delay := range d.delays() {
			longest = max(longest, delay)
		}
		require.Greater(t, longest, 9*time.Second)
		require.LessOrEqual(t, longest, 10*time.Second)
		goesOn(t, ended)
	})
}

// Two opens are hedged, by a policy that waits for both, and both fail: whatever they fail with, at the same time or one after
// the other, the stream goes on or ends, and does not hang.
func TestAHedgeThatWaitsForBothWhichFail(t *testing.T) {
	t.Parallel()
	plain := errors.New("a callback's")
	for name, errs := range map[string][2]error{
		"breaks": {errGone, errGone}, "last words": {errTaken, errTaken}, "a break and a last word": {errGone, errTaken},
		"a last word and a break": {errTaken, errGone}, "a callback's": {plain, plain}, "lost": {stream.ErrPositionLost, errGone},
		"a break and DEADLINE_EXCEEDED": {errGone, status.Error(codes.DeadlineExceeded, "x")},
	} {
		for when, takes2 := range map[string][2]time.Duration{
			"at once": {3 * time.Second, time.Second}, "the hedge first": {5 * time.Second, time.Second}, "the hedge last": {3 * time.Second, 5 * time.Second},
		} {
			t.Run(name+", "+when, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					hedge := hedgepolicy.NewBuilderWithDelay[any](2 * time.Second).CancelIf(never).Build()
					ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
					defer cancel()
					s, err := scripted(t, stays(numbered(1)...)).dial(ctx, resumes(func(ctx context.Context, r *resumption) error {
						if r.Attempt() > 2 {
							return nil
						}
						return takes(ctx, takes2[r.Attempt()-1], errs[r.Attempt()-1])
					}), stream.WithOpenPolicies(hedge))
					if err != nil {
						require.NotErrorIs(t, err, context.DeadlineExceeded, "it hung")
						return
					}
					mustReceive(t, s, 1)
					require.NoError(t, s.Close())
				})
			})
		}
	}
}
