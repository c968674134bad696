package stream_test

import (
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/failsafe-go/failsafe-go/timeout"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/internal/testnet"
	"github.com/streamsafe/streamsafe/stream"
)

// A timeout at stream scope that fires as the attempt becomes stable leaves one attempt, not two.
func TestATimeoutAsTheAttemptBecomesStable(t *testing.T) {
	t.Parallel()
	for range 200 {
		synctest.Test(t, func(t *testing.T) {
			w := scripted(t, stays())
			p := retrypolicy.NewBuilder[any]().WithMaxRetries(3).WithDelay(time.Second).Build()
			s := w.mustDial(positions(), stream.WithStreamPolicies(p, timeout.New[any](5*time.Second)), stream.WithStableFor(5*time.Second))
			go func() { _, _ = s.Recv() }()
			for range 8 {
				time.Sleep(2 * time.Second)
				synctest.Wait()
				if n := active(w); n > 1 {
					t.Fatalf("%d attempts are alive", n)
				}
			}
		})
	}
}

// An attempt that is stable stays, whatever a policy makes of it.
func TestAPolicyThatRetriesASuccess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, stays())
		p := retrypolicy.NewBuilder[any]().WithMaxRetries(3).WithDelay(time.Second).
			HandleIf(func(_ any, err error) bool { return status.Code(err) != codes.PermissionDenied }).Build()
		s := w.mustDial(positions(), stream.WithStreamPolicies(p), stream.WithStableFor(5*time.Second))
		go func() { _, _ = s.Recv() }()
		for range 9 {
			time.Sleep(1500 * time.Millisecond)
			synctest.Wait()
			require.LessOrEqual(t, active(w), 1, "attempts that are alive")
		}
		require.Equal(t, stream.Attached, s.State())
	})
}

func TestAnOutageLongerThanTheContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, stays(numbered(1)...))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		s, err := w.dial(ctx, positions())
		require.NoError(t, err)
		mustReceive(t, s, 1)
		w.Refuse(true)
		w.Cut(testnet.RST)
		_, err = s.Recv()
		wantEnd(t, err, stream.ReasonContext, codes.DeadlineExceeded, "the deadline is the application's own")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Minute, time.Since(began), "not a moment later than the deadline")
		require.Greater(t, s.Stats().Attempts, uint64(5), "it went on trying")
	})
}

func TestAServerThatIsNeverThere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, stays())
		w.Refuse(true)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		s, err := w.dial(ctx, positions())
		require.Nil(t, s)
		wantEnd(t, err, stream.ReasonContext, codes.DeadlineExceeded, "opening ends with the context")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Minute, time.Since(began))
	})
}

// Invariant 20: there is no way to reconnect without a wait. A server that accepts and dies at once is the worst case:
// every attempt succeeds.
func TestAServerThatAcceptsAndDiesForAnHour(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, sends(errGone))
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		var d diary
		s, err := w.dial(ctx, positions(), stream.WithObserver(&d))
		require.NoError(t, err)
		_, err = s.Recv()
		wantEnd(t, err, stream.ReasonContext, codes.DeadlineExceeded, "only the context ends it")

		// The waits are 5 s in the mean: 720 attempts, with a deviation of about 16.
		require.InDelta(t, 720, s.Stats().Attempts, 160, "attempts in an hour")
		synctest.Wait()
		delays := d.delays()
		most := 100 * time.Millisecond
		var sum time.Duration
		for i, delay := range delays {
			require.Positive(t, delay, "delay %d", i)
			require.LessOrEqual(t, delay, most, "delay %d is within its backoff", i)
			most = min(2*most, 10*time.Second)
			sum += delay
		}
		require.Greater(t, sum, 55*time.Minute, "the time went into waiting")
		wantWaits(t, &d)
	})
}

// wantWaits sees that each attempt after the first was opened when its delay had passed, and no sooner.
func wantWaits(t *testing.T, d *diary) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	var scheduled note
	for i, e := range d.notes {
		switch e.name {
		case "scheduled":
			scheduled = e
		case "opened":
			if e.info.Attempt > 1 {
				require.Equal(t, "scheduled", d.notes[i-1].name, "attempt %d was waited for", e.info.Attempt)
				require.Equal(t, scheduled.delay, e.info.Time.Sub(scheduled.info.Time), "the wait before attempt %d", e.info.Attempt)
			}
		}
	}
}

// Invariant 20: the backoff starts anew only after an attempt has stayed attached for StableFor, whatever was delivered.
func TestBackoffStartsAnewAfterSustainedHealth(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t,
			lasts(9*time.Second, errGone, numbered(1)...),
			lasts(9*time.Second, errGone, numbered(2)...),
			lasts(9*time.Second, errGone, numbered(3)...),
			lasts(11*time.Second, errGone, numbered(4)...),
			lasts(9*time.Second, errGone, numbered(5)...),
			sends(nil, numbered(6)...),
		)
		var d diary
		exact := stream.NewRetryPolicyBuilder().WithJitter(0).Build()
		s := w.mustDial(positions(), stream.WithStreamPolicies(exact), stream.WithObserver(&d))
		got, err := receiveAll(s)
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, upTo(6), got)
		synctest.Wait()
		ms := time.Millisecond
		require.Equal(t, []time.Duration{100 * ms, 200 * ms, 400 * ms, 100 * ms, 200 * ms}, d.delays(),
			"the fourth attempt was stable, the others were not")
	})
}

func TestStableForIsSetByOption(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, lasts(2*time.Second, errGone), lasts(2*time.Second, errGone), sends(nil))
		var d diary
		exact := stream.NewRetryPolicyBuilder().WithJitter(0).Build()
		s := w.mustDial(positions(), stream.WithStreamPolicies(exact), stream.WithObserver(&d), stream.WithStableFor(time.Second))
		_, err := s.Recv()
		require.ErrorIs(t, err, io.EOF)
		synctest.Wait()
		require.Equal(t, []time.Duration{100 * time.Millisecond, 100 * time.Millisecond}, d.delays(), "both were stable")
	})
}

func TestAServerThatRefusesForTenMinutesAndComesBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, stays(numbered(1)...), sends(nil, numbered(2)...))
		s := w.mustDial(positions())
		mustReceive(t, s, 1)
		began := time.Now()
		w.Refuse(true)
		w.Cut(testnet.FIN)
		time.AfterFunc(10*time.Minute, func() { w.Refuse(false) })
		mustReceive(t, s, 2)
		require.InDelta(t, 10*time.Minute, time.Since(began), float64(30*time.Second), "back soon after the server")
		st := s.Stats()
		require.InDelta(t, 120, st.Attempts, 60, "attempts in ten minutes")
		require.Equal(t, uint64(1), st.Outages, "it was one outage")
		require.Equal(t, uint64(1), st.Resumes)
		_, err := s.Recv()
		require.ErrorIs(t, err, io.EOF)
	})
}

func TestMaxOutage(t *testing.T) {
	t.Parallel()
	t.Run("ends a stream that is detached", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := scripted(t, stays(numbered(1)...))
			s := w.mustDial(positions(), stream.WithMaxOutage(5*time.Minute))
			mustReceive(t, s, 1)
			time.Sleep(time.Hour) // no outage: time does not count
			began := time.Now()
			w.Refuse(true)
			w.Cut(testnet.RST)
			_, err := s.Recv()
			wantEnd(t, err, stream.ReasonMaxOutage, codes.Unavailable, "the last failure's code")
			require.Equal(t, 5*time.Minute, time.Since(began), "at once, not at the next try")
			require.NotErrorIs(t, err, context.Canceled, "invariant 30: the application has cancelled nothing")
		})
	})
	t.Run("ends a stream that never opens", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := scripted(t, stays())
			w.Refuse(true)
			began := time.Now()
			_, err := w.dial(t.Context(), positions(), stream.WithMaxOutage(time.Minute))
			wantEnd(t, err, stream.ReasonMaxOutage, codes.Unavailable, "the first open is an outage too")
			require.Equal(t, time.Minute, time.Since(began))
		})
	})
	t.Run("does not cut an attempt that is attached", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := scripted(t, lasts(9*time.Second, errGone, numbered(1)...), stays())
			s := w.mustDial(positions(), stream.WithMaxOutage(5*time.Second))
			began := time.Now()
			mustReceive(t, s, 1)
			_, err := s.Recv()
			wantEnd(t, err, stream.ReasonMaxOutage, codes.Unavailable, "lost before it was stable, and too late")
			require.Equal(t, 9*time.Second, time.Since(began), "when the attempt was lost")
		})
	})
	t.Run("starts anew after a stable attempt", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := scripted(t, lasts(time.Minute, errGone, numbered(1)...), lasts(time.Minute, errGone, numbered(2)...), sends(nil))
			s := w.mustDial(positions(), stream.WithMaxOutage(5*time.Second))
			got, err := receiveAll(s)
			require.ErrorIs(t, err, io.EOF)
			require.Equal(t, upTo(2), got)
		})
	})
}

// Invariant 23: an attempt that is given up is cancelled, though its connection lives on, and its handler ends.
func TestSupersededAttemptsEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &feed{}
		w := newWorld(t, f)
		s := w.mustOpen(withReplay(), stream.WithIdleTimeout(time.Second))
		ended := receiving(s)
		rest(time.Minute)
		f.mu.Lock()
		require.Greater(t, f.handlers, 3, "attempts that were given up as idle")
		require.LessOrEqual(t, f.active, 1, "handlers that live")
		f.mu.Unlock()
		require.Equal(t, 1, w.Stats().Connections, "all on one connection")
		mustClose(t, s, "called by the test")
		requireReason(t, within(t, ended, "the end of Recv"), stream.ReasonClosed, "Recv")
		synctest.Wait()
		require.Zero(t, f.active, "handlers after Close")
	})
}

// Invariant 10: what an earlier attempt's handler sends late, and its timers, do nothing.
func TestStaleTimersDoNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t,
			lasts(1900*time.Millisecond, errGone, numbered(1)...),
			lasts(1900*time.Millisecond, errGone, numbered(2)...),
			lasts(1900*time.Millisecond, nil, numbered(3)...))
		s := w.mustDial(positions(), stream.WithIdleTimeout(2*time.Second), stream.WithAtMostOnceSends())
		got, err := receiveAll(s)
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, upTo(3), got)
		require.Equal(t, uint64(3), s.Stats().Attempts)
	})
}
