package stream_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go/hedgepolicy"
	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/stream"
)

// Where all opens fail, the open has failed: none waits for another that is over. The policy waits for the results of all.
func TestHedgesThatAllFail(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		hedges int
		after  []time.Duration // how long each open takes to fail
	}{
		"at the same time":               {hedges: 1, after: []time.Duration{2 * time.Second, time.Second}},
		"the first first":                {hedges: 1, after: []time.Duration{1500 * time.Millisecond, 5 * time.Second}},
		"the first last":                 {hedges: 1, after: []time.Duration{time.Minute, time.Second}},
		"the first before there is more": {hedges: 1, after: []time.Duration{0, 0}},
		"three at the same time":         {hedges: 2, after: []time.Duration{3 * time.Second, 2 * time.Second, time.Second}},
	}
	for name, test := range tests {
		for what, bad := range map[string]error{"with a last word": errTaken, "with a break": errGone} {
			t.Run(name+", "+what, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					ctx, cancel := context.WithCancel(t.Context())
					t.Cleanup(cancel) // or nothing ends where the rule is broken
					hedge := hedgepolicy.NewBuilderWithDelay[any](time.Second).WithMaxHedges(test.hedges).CancelIf(never).Build()
					once := stream.NewRetryPolicyBuilder().WithMaxRetries(0).Build()
					w := scripted(t, stays())
					began := time.Now()
					opened := async(func() error {
						_, err := w.dial(ctx, resumes(func(ctx context.Context, r *resumption) error {
							return takes(ctx, test.after[r.Attempt()-1], bad)
						}), stream.WithOpenPolicies(hedge), stream.WithStreamPolicies(once))
						return err
					})
					err := within(t, opened, "the failure of all opens")
					require.Equal(t, codeOf(bad), codeOf(err))
					require.LessOrEqual(t, time.Since(began), time.Minute, "the slowest open")
					require.Equal(t, uint64(len(test.after)), attemptsOf(err))
					synctest.Wait()
					require.Zero(t, active(w), "handlers that still run (invariant 23)")
				})
			})
		}
	}
}
