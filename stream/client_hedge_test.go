package stream_test

import (
	"context"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/hedgepolicy"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/failsafe-go/failsafe-go/timeout"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/streamsafe/streamsafe/stream"
)

// Opens of one execution of the open policies: hedges at the same time, or tries one after the other.

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

// A hedge that fails fast does not beat an open that is at work: what is to make an open faster makes it no less likely.
func TestAHedgeThatFailsFastWaitsForTheFirst(t *testing.T) {
	t.Parallel()
	hedges := map[string]hedgepolicy.HedgePolicy[any]{
		"the first result counts": hedgepolicy.NewWithDelay[any](2 * time.Second),
		"the last result counts":  hedgepolicy.NewBuilderWithDelay[any](2 * time.Second).CancelIf(never).Build(),
	}
	for which, hedge := range hedges {
		for name, bad := range map[string]error{"with a last word": errTaken, "with a break": errGone} {
			t.Run(which+", "+name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := scripted(t, stays(numbered(1)...), stays())
					began := time.Now()
					s := w.mustDial(resumes(func(ctx context.Context, r *resumption) error {
						if r.Attempt() > 1 {
							return bad
						}
						return takes(ctx, 3*time.Second, nil) // healthy, and slow
					}), stream.WithOpenPolicies(hedge), stream.WithMaxOutage(10*time.Second))
					require.Equal(t, 3*time.Second, time.Since(began))
					mustReceive(t, s, 1)
					synctest.Wait()
					require.Equal(t, 1, active(w), "the hedge's handler has ended")
					require.Equal(t, uint64(2), s.Stats().Attempts)
				})
			})
		}
	}
}

// Where the one that was waited for fails as well, the open has failed.
func TestAHedgeWhereBothFail(t *testing.T) {
	t.Parallel()
	slow := func(bad error) func(context.Context, *resumption) error {
		return func(ctx context.Context, r *resumption) error {
			switch r.Attempt() {
			case 1:
				return takes(ctx, 3*time.Second, bad)
			case 2: // the hedge, after two seconds
				return bad
			default:
				return nil
			}
		}
	}
	hedge := func() stream.ClientOption {
		return stream.WithOpenPolicies(hedgepolicy.NewWithDelay[any](2 * time.Second))
	}
	t.Run("with a last word", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := scripted(t, stays())
			began := time.Now()
			_, err := w.dial(t.Context(), resumes(slow(errTaken)), hedge())
			wantEnd(t, err, stream.ReasonServer, codes.AlreadyExists, "what both were told")
			require.Equal(t, 3*time.Second, time.Since(began), "the hedge has waited for the first")
			require.Equal(t, 2, handled(w))
		})
	})
	t.Run("with a break", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			var d diary
			began := time.Now()
			s := scripted(t, stays()).mustDial(resumes(slow(errGone)), hedge(), stream.WithObserver(&d))
			require.GreaterOrEqual(t, time.Since(began), 3*time.Second)
			require.Equal(t, uint64(3), s.Stats().Attempts)
			synctest.Wait()
			require.Len(t, d.of("detached"), 1, "two attempts were one open")
		})
	})
}

// Of three opens one hangs, one fails fast, and one succeeds: the last is taken, by the one that waits for it, too.
func TestAHedgeThatWinsOverBoth(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hedge := hedgepolicy.NewBuilderWithDelay[any](2 * time.Second).WithMaxHedges(2).Build()
		w := scripted(t, stays(), stays(), stays(numbered(3)...))
		began := time.Now()
		s := w.mustDial(resumes(func(ctx context.Context, r *resumption) error {
			switch r.Attempt() {
			case 1:
				return hangs(ctx, r)
			case 2:
				return errTaken
			default:
				return nil
			}
		}), stream.WithOpenPolicies(hedge))
		require.Equal(t, 4*time.Second, time.Since(began))
		mustReceive(t, s, 3)
		synctest.Wait()
		require.Equal(t, 1, active(w), "the first, that hung, is closed (invariant 23)")
		require.Equal(t, uint64(3), s.Stats().Attempts)
	})
}

// Invariant 14: where one open learns that nothing remains, the stream is complete, and waits for no other.
func TestAHedgeThatSaysComplete(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, stays())
		began := time.Now()
		_, err := w.dial(t.Context(), resumes(func(ctx context.Context, r *resumption) error {
			if r.Attempt() > 1 {
				return stream.Complete
			}
			return takes(ctx, time.Minute, nil)
		}), stream.WithOpenPolicies(hedgepolicy.NewWithDelay[any](2*time.Second)))
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, 2*time.Second, time.Since(began))
		synctest.Wait()
		require.Zero(t, active(w), "the first is closed (invariant 23)")
	})
}

// Invariant 23: of opens that have all succeeded before the policies have decided, every one but the winner is closed.
func TestOpensThatSucceedInVainAreClosed(t *testing.T) {
	t.Parallel()
	policies := map[string]func() failsafe.Policy[any]{
		"a hedge that waits for all": func() failsafe.Policy[any] {
			return hedgepolicy.NewBuilderWithDelay[any](time.Second).CancelIf(never).Build()
		},
		"a retry of a success": func() failsafe.Policy[any] {
			asked := 0
			first := func(any, error) bool { asked++; return asked == 1 }
			return retrypolicy.NewBuilder[any]().HandleIf(first).WithDelay(time.Second).Build()
		},
	}
	for name, policy := range policies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := scripted(t, stays(numbered(1)...), stays(numbered(2)...))
				s := w.mustDial(resumes(func(ctx context.Context, r *resumption) error {
					return takes(ctx, time.Duration(r.Attempt()+1)*time.Second, nil) // the second is ready last
				}), stream.WithOpenPolicies(policy()))
				require.Equal(t, uint64(2), s.Stats().Attempts)
				mustReceive(t, s, 2)
				synctest.Wait()
				require.Equal(t, 1, active(w), "handlers that live")
				require.Equal(t, stream.Attached, s.State())
			})
		})
	}
}

// Hedged opens would write the target of a call option at the same time: that is refused. Opens one after the other write
// it one after the other.
func TestAHedgeAndTargetsOfCallOptions(t *testing.T) {
	t.Parallel()
	var header, trailer metadata.MD
	var from peer.Peer
	targets := map[string]grpc.CallOption{
		"Header": grpc.Header(&header), "Trailer": grpc.Trailer(&trailer), "Peer": grpc.Peer(&from),
	}
	hedge := func() failsafe.Policy[any] { return hedgepolicy.NewWithDelay[any](time.Second) }
	limit := func() failsafe.Policy[any] { return timeout.New[any](time.Minute) }
	for name, target := range targets {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := scripted(t, stays())
				_, err := w.dial(t.Context(), positions(), stream.WithOpenPolicies(limit(), hedge()), stream.WithCallOptions(target))
				wantEnd(t, err, stream.ReasonOptions, codes.InvalidArgument, "two opens, one target")
				require.ErrorContains(t, err, "hedge")
				require.Zero(t, w.Stats().Connections, "nothing is opened")
			})
		})
	}
	t.Run("without a hedge", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			var header, trailer metadata.MD
			var from peer.Peer
			w := scripted(t, sends(errGone, numbered(1)...), sends(nil, numbered(2)...))
			got, err := receiveAll(w.mustDial(positions(), stream.WithOpenPolicies(limit()),
				stream.WithCallOptions(grpc.Header(&header), grpc.Trailer(&trailer), grpc.Peer(&from))))
			require.ErrorIs(t, err, io.EOF)
			require.Equal(t, upTo(2), got)
			require.NotNil(t, from.Addr)
			require.NotEmpty(t, header)
		})
	})
	t.Run("a hedge, and options without a target", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			scripted(t, stays()).mustDial(positions(), stream.WithOpenPolicies(hedge()), stream.WithCallOptions(grpc.WaitForReady(true)))
		})
	})
}

// Two opens race. The one that loses is cancelled and closed (invariant 23).
func TestAHedgeAtOpenScope(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, stays(), stays(numbered(1)...))
		cb := positions()
		var cancelled atomic.Int32
		cb.Resume = func(ctx context.Context, r *resumption) error {
			if r.Attempt() == 1 {
				<-ctx.Done()
				cancelled.Add(1)
				return ctx.Err()
			}
			return nil
		}
		began := time.Now()
		s := w.mustDial(cb, stream.WithOpenPolicies(hedgepolicy.NewWithDelay[any](2*time.Second)))
		require.Equal(t, 2*time.Second, time.Since(began))
		mustReceive(t, s, 1)
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, int32(1), cancelled.Load(), "the loser's Resume")
		require.Equal(t, 1, active(w), "the loser's handler has ended")
		require.Equal(t, stream.Attached, s.State())
		require.Equal(t, uint64(2), s.Stats().Attempts)
	})
}

// A loser that ignores its context and succeeds late is closed all the same.
func TestAHedgeWhoseLoserSucceedsLate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, stays(), stays(numbered(1)...))
		cb := positions()
		cb.Resume = func(_ context.Context, r *resumption) error {
			if r.Attempt() == 1 {
				time.Sleep(10 * time.Second) // deaf
			}
			return nil
		}
		s := w.mustDial(cb, stream.WithOpenPolicies(hedgepolicy.NewWithDelay[any](2*time.Second)))
		mustReceive(t, s, 1)
		time.Sleep(time.Minute)
		require.Equal(t, 1, active(w))
		require.Equal(t, stream.Attached, s.State())
	})
}

// Both succeed at the same moment: one is taken, and the other is closed.
func TestAHedgeThatEndsInADeadHeat(t *testing.T) {
	t.Parallel()
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			w := scripted(t, stays(numbered(1)...))
			cb := positions()
			cb.Resume = func(_ context.Context, r *resumption) error {
				time.Sleep(time.Duration(3-r.Attempt()) * time.Second)
				return nil
			}
			s := w.mustDial(cb, stream.WithOpenPolicies(hedgepolicy.NewWithDelay[any](time.Second)))
			mustReceive(t, s, 1)
			time.Sleep(time.Minute)
			require.Equal(t, 1, active(w), "the loser's handler has ended")
			require.Equal(t, stream.Attached, s.State())
		})
	}
}
