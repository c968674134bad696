package stream_test

import (
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/budget"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/internal/testnet"
	"github.com/streamsafe/streamsafe/stream"
)

// WithEndless: OK before CloseSend is a planned close, and no failure (invariant 28).
func TestEndless(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var d diary
		s := scripted(t, sends(nil, numbered(1, 2)...), sends(nil, numbered(3)...), lasts(time.Hour, nil, numbered(4)...), stays(numbered(5)...)).
			mustDial(acking(), stream.WithEndless(), stream.WithObserver(&d))
		ended := receiving(s)
		rest(2 * time.Hour)
		st := s.Stats()
		require.Equal(t, []uint64{5, 4, 0}, []uint64{st.Deliveries, st.Attempts, st.Outages}, "messages, attempts, outages")
		require.Equal(t, uint64(3), st.Resumes)
		for _, delay := range d.delays() {
			require.Greater(t, delay, time.Duration(0), "no reconnect without a wait (invariant 20)")
			require.LessOrEqual(t, delay, 100*time.Millisecond, "each attempt brought something new")
		}
		require.Len(t, d.delays(), 3)
		goesOn(t, ended)
	})
}

// The wait grows with each close that brings nothing, up to 10 s, with full jitter, and starts anew after one that does.
func TestEndlessBacksOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var handlers []func(bidi) error
		for range 100 {
			handlers = append(handlers, sends(nil))
		}
		handlers = append(handlers, sends(nil, numbered(1)...), sends(nil), sends(nil), stays())
		var d diary
		s := scripted(t, handlers...).mustDial(acking(), stream.WithEndless(), stream.WithObserver(&d))
		ended := receiving(s)
		began := time.Now()
		for s.Stats().Attempts < uint64(len(handlers)) && time.Since(began) < time.Hour {
			rest(time.Second)
		}
		delays := d.delays()
		require.Len(t, delays, len(handlers)-1, "delays told")
		ceiling := 100 * time.Millisecond
		var slow time.Duration
		for i, delay := range delays[:100] {
			require.Positive(t, delay)
			require.LessOrEqual(t, delay, ceiling, "delay %d", i)
			ceiling = min(2*ceiling, 10*time.Second)
			slow = max(slow, delay)
		}
		require.Greater(t, slow, 5*time.Second, "it grows")
		for i, delay := range delays[100:] {
			require.LessOrEqual(t, delay, 100*time.Millisecond<<i, "delay %d after progress", i)
		}
		require.Zero(t, s.Stats().Outages)
		goesOn(t, ended)
	})
}

// No policy counts a planned close: no breaker, no retry listener, no budget, no limit of retries.
func TestEndlessAndPolicies(t *testing.T) { //nolint:tparallel // its parts count together
	t.Parallel()
	var retries, scheduled, failures int
	breaker := circuitbreaker.NewBuilder[any]().WithFailureThreshold(1).WithDelay(time.Hour).Build()
	policies := map[string]func() failsafe.Policy[any]{
		"a breaker": func() failsafe.Policy[any] { return breaker },
		"retry listeners": func() failsafe.Policy[any] {
			return stream.NewRetryPolicyBuilder().
				OnRetry(func(failsafe.ExecutionEvent[any]) { retries++ }).
				OnRetryScheduled(func(failsafe.ExecutionScheduledEvent[any]) { scheduled++ }).
				OnFailure(func(failsafe.ExecutionEvent[any]) { failures++ }).Build()
		},
		"no retries": func() failsafe.Policy[any] { return stream.NewRetryPolicyBuilder().WithMaxRetries(0).Build() },
		"a budget":   func() failsafe.Policy[any] { return stream.NewRetryPolicyBuilder().WithBudget(spentBudget()).Build() },
		"a short time": func() failsafe.Policy[any] {
			return stream.NewRetryPolicyBuilder().WithMaxDuration(time.Millisecond).Build()
		},
		"one that tries all": func() failsafe.Policy[any] { return stream.NewRetryPolicyBuilder().HandleIf(isAnything).Build() },
	}
	for name, policy := range policies { //nolint:paralleltest // they count together
		for how, stable := range map[string]time.Duration{"stable at once": 0, "before it was stable": 10 * time.Second} {
			t.Run(name+", "+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := scripted(t, append(repeated(20, nil, stays(numbered(21)...)), stays())...).
						mustDial(acking(), stream.WithEndless(), stream.WithStableFor(stable), stream.WithStreamPolicies(policy()))
					ended := receiving(s)
					rest(time.Hour)
					st := s.Stats()
					require.Equal(t, []uint64{21, 21, 0}, []uint64{st.Deliveries, st.Attempts, st.Outages})
					require.Equal(t, []int{0, 0, 0}, []int{retries, scheduled, failures})
					require.True(t, breaker.IsClosed())
					goesOn(t, ended)
				})
			})
		}
	}
}

func isAnything(any, error) bool { return true }

// spentBudget is a budget that has nothing left.
func spentBudget() budget.Budget {
	b := budget.NewBuilder().WithMaxRate(0.01).WithMinConcurrency(0).Build()
	b.(interface{ TryAcquirePermit() bool }).TryAcquirePermit()
	return b
}

// An executor's policies are told apart from nothing: a planned close is a success for them, too.
func TestEndlessWithAnExecutor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		breaker := circuitbreaker.NewBuilder[any]().WithFailureThreshold(1).WithDelay(time.Hour).Build()
		s := scripted(t, append(repeated(20, nil, stays(numbered(21)...)), stays())...).mustDial(acking(), stream.WithEndless(),
			stream.WithStreamExecutor(failsafe.With[any](stream.NewRetryPolicyBuilder().Build(), breaker)))
		ended := receiving(s)
		rest(time.Hour)
		require.Equal(t, uint64(21), s.Stats().Deliveries)
		require.True(t, breaker.IsClosed())
		goesOn(t, ended)
	})
}

// OK after CloseSend is the end, and so is any other word of the server's.
func TestEndlessEnds(t *testing.T) {
	t.Parallel()
	t.Run("after CloseSend", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			f := &feed{total: 3}
			s := newWorld(t, f).mustOpen(stream.WithEndless(), withReplay())
			mustSend(t, s, 1, 3)
			require.NoError(t, s.CloseSend())
			got, err := receiveAll(s)
			require.Equal(t, io.EOF, err)
			require.Equal(t, upTo(3), got)
		})
	})
	t.Run("CloseSend while it waits", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := scripted(t, sends(nil, numbered(1)...), func(s bidi) error { _, err := countToEnd(s); return err })
			s := w.mustDial(acking(), stream.WithEndless())
			mustReceive(t, s, 1)
			ended := receiving(s)
			require.NoError(t, s.CloseSend())
			rest(time.Minute)
			require.Equal(t, io.EOF, <-ended)
		})
	})
	for _, code := range []codes.Code{codes.NotFound, codes.OutOfRange} {
		t.Run(code.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := scripted(t, sends(nil, numbered(1)...), sends(status.Error(code, "no"))).mustDial(acking(), stream.WithEndless())
				err := drain(s)
				require.Equal(t, code, codeOf(err))
			})
		})
	}
	t.Run("Complete", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			cb := acking()
			cb.Resume = func(_ context.Context, r *resumption) error {
				if r.Attempt() > 1 {
					return stream.Complete
				}
				return nil
			}
			s := scripted(t, sends(nil, numbered(1)...), stays()).mustDial(cb, stream.WithEndless())
			require.Equal(t, io.EOF, drain(s), "nothing remains: the application says so")
		})
	})
	t.Run("Close while it waits", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s := scripted(t, pushesBack("3600000", nil), stays()).mustDial(acking(), stream.WithEndless())
			ended := receiving(s)
			rest(time.Minute)
			began := time.Now()
			require.NoError(t, s.Close())
			requireReason(t, <-ended, stream.ReasonClosed, "Recv")
			require.Zero(t, time.Since(began), "at once")
		})
	})
	t.Run("not together with WithoutResume", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			_, err := scripted(t, stays()).dial(t.Context(), acking(), stream.WithEndless(), stream.WithoutResume())
			requireReason(t, err, stream.ReasonOptions, "open")
		})
	})
}

// What the server asks for is waited for, after OK, too.
func TestEndlessMindsThePushback(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		asks := func(s bidi) error {
			s.SetTrailer(metadata.Pairs("grpc-retry-pushback-ms", "60000"))
			return nil
		}
		w := scripted(t, asks, stays(numbered(1)...))
		s := w.mustDial(acking(), stream.WithEndless())
		began := time.Now()
		mustReceive(t, s, 1)
		require.GreaterOrEqual(t, time.Since(began), time.Minute)
	})
}

// What is held when the server closes is dropped, and comes again; what is kept is sent again; nothing is doubled.
func TestEndlessNeitherLosesNorDoubles(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		part := []frame{{kind: fragment, seq: 101}, {kind: fragment, seq: 102}}
		w := scripted(t, sends(nil, append(numbered(1), part...)...), stays(append(part, numbered(2)...)...))
		s := w.mustDial(positions(), stream.WithEndless(), stream.HoldUntilCheckpoint(1<<20, stream.OverflowFail))
		mustReceive(t, s, 1, 101, 102, 2)
		require.Equal(t, uint64(4), s.Stats().Deliveries)
	})
	synctest.Test(t, func(t *testing.T) {
		p := newPuppet()
		w := newWorld(t, &feed{handler: p.handle})
		s := w.mustOpen(stream.WithEndless(), withReplay())
		ended := receiving(s)
		mustSend(t, s, 1, 5)
		synctest.Wait()
		p.greetsWith(2)
		p.tell(frame{kind: end})
		rest(time.Minute)
		require.Equal(t, []uint64{1, 2, 3, 4, 5, 3, 4, 5}, p.got(), "OK is no receipt")
		p.greetsWith(5)
		p.tell(frame{kind: ack, seq: 5}, frame{kind: end})
		rest(time.Minute)
		require.Equal(t, 3, p.handlers())
		goesOn(t, ended)
	})
}

// The safe defaults hold: OK in mid-life with sends in doubt, or without a position, is not simply gone over.
func TestEndlessAndTheSafeDefaults(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := scripted(t, lasts(time.Second, nil), stays()).mustDial(acking(), stream.WithEndless())
		mustSend(t, s, 1, 1)
		requireReason(t, drain(s), stream.ReasonSendsInDoubt, "Recv")
	})
	synctest.Test(t, func(t *testing.T) {
		s := scripted(t, sends(nil, numbered(1)...), stays()).mustDial(callbacks{}, stream.WithEndless())
		requireReason(t, drain(s), stream.ReasonNoCheckpoint, "Recv")
	})
}

// An outage in an endless stream is one like any other; a server that only says OK is none.
func TestEndlessAndMaxOutage(t *testing.T) {
	t.Parallel()
	t.Run("OK for hours", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s := scripted(t, sends(nil)).mustDial(acking(), stream.WithEndless(), stream.WithMaxOutage(time.Minute))
			ended := receiving(s)
			rest(2 * time.Hour)
			require.Greater(t, s.Stats().Attempts, uint64(100))
			goesOn(t, ended)
		})
	})
	t.Run("nobody there after OK", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := scripted(t, lasts(time.Hour, nil, numbered(1)...))
			s := w.mustDial(acking(), stream.WithEndless(), stream.WithMaxOutage(time.Minute))
			ended := receiving(s)
			rest(30 * time.Minute)
			w.Refuse(true)
			w.Cut(testnet.RST)
			began := time.Now()
			requireReason(t, <-ended, stream.ReasonMaxOutage, "Recv")
			require.GreaterOrEqual(t, time.Since(began), time.Minute-time.Second)
		})
	})
}

// WithPosition is where Resume starts.
func TestWithPosition(t *testing.T) {
	t.Parallel()
	from := checkpoint.Position{Seq: 5}
	t.Run("the first attempt", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			f := &feed{total: 9}
			s := newWorld(t, f).mustOpen(stream.WithPosition(from))
			require.Equal(t, from, s.Stats().Delivered)
			require.NoError(t, s.CloseSend())
			got, err := receiveAll(s)
			require.Equal(t, io.EOF, err)
			require.Equal(t, upTo(9)[5:], got, "what comes after it; what comes before would be a duplicate")
		})
	})
	t.Run("what comes before it is dropped", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s := scripted(t, sends(nil, numbered(upTo(9)...)...)).mustDial(positions(), stream.WithPosition(from), stream.WithGapDetection())
			got, _ := receiveAll(s)
			require.Equal(t, upTo(9)[5:], got)
			require.Equal(t, uint64(5), s.Stats().Duplicates)
		})
	})
	t.Run("a break before the first message", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			cb := resumes(greets)
			w := newWorld(t, &feed{handler: inOrder(sends(errGone), (&feed{total: 7}).serve)})
			s := w.mustDial(cb, stream.WithPosition(from))
			mustReceive(t, s, 6, 7)
		})
	})
	t.Run("another lineage", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s := scripted(t, stays(numbered(6)...)).mustDial(positions(), stream.WithPosition(checkpoint.Position{Seq: 5, Lineage: "old"}))
			requireReason(t, drain(s), stream.ReasonPositionLost, "Recv")
		})
	})
	t.Run("not without Resume, and not with a store", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := scripted(t, stays())
			_, err := w.dial(t.Context(), callbacks{}, stream.WithPosition(from))
			requireReason(t, err, stream.ReasonOptions, "without Resume")
			_, err = w.dial(t.Context(), positions(), stream.WithPosition(from), stream.WithStore(&checkpoint.Memory{}, "key"))
			requireReason(t, err, stream.ReasonOptions, "with a store")
			s, err := w.dial(t.Context(), callbacks{}, stream.WithPosition(checkpoint.Position{}))
			require.NoError(t, err, "the zero position is none")
			require.NoError(t, s.Close())
		})
	})
}
