package stream_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/stream"
)

// bye is what a server says that will end the attempt.
func bye() frame { return frame{kind: goodbye} }

// An idle stream rotates, at ages that differ, and nothing of that is a failure.
func TestAnIdleStreamRotates(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var d diary
		w := scripted(t, stays())
		s := w.mustDial(positions(), stream.WithMaxAge(time.Hour, 20*time.Minute), stream.WithObserver(&d))
		ended := receiving(s)
		rest(20 * time.Hour)
		st := s.Stats()
		require.GreaterOrEqual(t, st.Rotations, uint64(19))
		require.LessOrEqual(t, st.Rotations, uint64(31))
		require.Equal(t, []uint64{0, st.Rotations, st.Rotations + 1}, []uint64{st.Outages, st.Resumes, st.Attempts})
		require.Equal(t, stream.Attached, st.State)
		require.NoError(t, st.LastError)
		require.Equal(t, 1, active(w), "the old handlers are gone (invariant 23)")
		require.Equal(t, []string{"opened", "attached", "scheduled", "rotating", "opened", "rotated", "attached"}, d.names()[:7])
		ages := map[time.Duration]bool{}
		for i, e := range d.of("rotating") {
			age := e.info.Time.Sub(d.of("attached")[i].info.Time)
			require.GreaterOrEqual(t, age, 40*time.Minute)
			require.Less(t, age, time.Hour+11*time.Second)
			ages[age.Truncate(time.Second)] = true
			require.ErrorIs(t, e.cause, stream.Rotate)
			require.Equal(t, e.info.Attempt+1, d.of("rotated")[i].info.Attempt)
			require.Equal(t, e.info.Attempt, d.of("rotated")[i].count, "from which")
		}
		require.Greater(t, len(ages), 3, "ages are spread")
		goesOn(t, ended)
	})
}

// A thousand rotations leave nothing (invariant 23).
func TestAThousandRotationsLeakNothing(t *testing.T) { //nolint:paralleltest // goleak sees the goroutines of all tests
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	synctest.Test(t, func(t *testing.T) {
		f := &feed{total: 0}
		w := newWorld(t, f)
		s, err := w.open(t.Context(), withReplay(), stream.WithMaxAge(time.Minute, 30*time.Second))
		require.NoError(t, err)
		ended := receiving(s)
		sent := uint64(0)
		for s.Stats().Rotations < 1000 {
			sent++
			mustSend(t, s, sent, sent)
			time.Sleep(20 * time.Second)
		}
		synctest.Wait()
		require.Equal(t, 1, active(w))
		require.Equal(t, upTo(sent), f.seen, "each message once")
		require.Zero(t, s.Stats().Outages)
		mustClose(t, s, "at the end")
		<-ended
	})
}

// A server announces its end and does not acknowledge: after the grace time the next attempt takes over, and what is left is sent
// again. Meanwhile new sends wait, and the state tells.
func TestSendsWaitForTheNextAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPuppet()
		w := newWorld(t, &feed{handler: p.handle})
		var d diary
		cb := w.feed.callbacks()
		resume := cb.Resume
		var causes []error
		cb.Resume = func(ctx context.Context, r *resumption) error {
			causes = append(causes, r.Cause())
			return resume(ctx, r)
		}
		s := w.mustDial(announced(cb), withReplay(), stream.WithObserver(&d))
		ended := receiving(s)
		mustSend(t, s, 1, 3)
		p.tell(bye())
		require.Equal(t, stream.Rotating, s.State())
		sent := async(func() error { return s.Send(frame{kind: data, seq: 4}.request()) })
		p.tell(frame{kind: ack, seq: 2})
		require.Equal(t, uint64(2), s.Stats().Acked, "it is still acknowledged")
		rest(4 * time.Second)
		require.Equal(t, []uint64{1, 2, 3}, p.got(), "no new message on the old attempt")
		require.Equal(t, 1, p.handlers())
		p.greetsWith(2)
		rest(2 * time.Second)
		require.NoError(t, within(t, sent, "Send"))
		synctest.Wait()
		require.Equal(t, []uint64{1, 2, 3, 3, 4}, p.got())
		require.Equal(t, stream.Attached, s.State())
		require.Equal(t, 1, active(w))
		require.ErrorIs(t, causes[1], stream.Rotate)
		require.Equal(t, []uint64{1, 0}, []uint64{s.Stats().Rotations, s.Stats().Outages})
		goesOn(t, ended)
	})
}

// Nobody receives: the stream does, so that acknowledgements arrive (invariant 35).
func TestARotationDoesNotDependOnTheApplicationReceiving(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &feed{total: 5}
		w := newWorld(t, f)
		s := w.mustOpen(withReplay(), stream.WithMaxAge(time.Minute, 0))
		mustSend(t, s, 1, 3)
		rest(time.Minute + time.Second)
		require.Equal(t, uint64(1), s.Stats().Rotations, "long before the grace time is over")
		require.Zero(t, s.Stats().Replayed, "they were acknowledged in the grace time")
		require.Equal(t, upTo(3), f.seen)
		mustReceive(t, s, upTo(5)...)
	})
}

// No policy counts a rotation (invariant 28), and what is held for the life of the stream stays held.
func TestPoliciesDoNotSeeRotations(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		failures := 0
		breaker := circuitbreaker.NewBuilder[any]().WithFailureThreshold(1).WithDelay(time.Hour).
			OnFailure(func(failsafe.ExecutionEvent[any]) { failures++ }).Build()
		bulk := bulkhead.New[any](1)
		w := scripted(t, stays(numbered(1)...), stays(numbered(2)...), stays())
		s := w.mustDial(announced(positions()), stream.WithMaxAge(time.Hour, 0),
			stream.WithStreamPolicies(bulk, stream.NewRetryPolicyBuilder().Build(), breaker))
		ended := receiving(s)
		rest(10 * time.Hour)
		require.Equal(t, uint64(9), s.Stats().Rotations)
		require.Zero(t, failures)
		require.False(t, bulk.TryAcquirePermit(), "the permit is held")
		require.NoError(t, s.Close())
		<-ended
		require.True(t, bulk.TryAcquirePermit())
	})
}

// Two causes at once are one rotation, and one that comes during an outage is none.
func TestTwoCausesAreOneRotation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, lasts(time.Minute, nil, bye(), bye(), bye()), stays())
		s := w.mustDial(announced(positions()), stream.WithMaxAge(50*time.Millisecond, 0), stream.WithStableFor(time.Hour))
		ended := receiving(s)
		time.Sleep(49 * time.Millisecond)
		synctest.Wait()
		require.LessOrEqual(t, s.Stats().Attempts, uint64(2))
		rest(time.Second)
		require.Equal(t, s.Stats().Rotations+1, s.Stats().Attempts)
		goesOn(t, ended)
	})
}

// A server that announces its end each time at once is not stormed.
func TestAServerThatAnnouncesAgainAndAgainIsNotStormed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := scripted(t, stays(bye())).mustDial(announced(positions()))
		ended := receiving(s)
		rest(time.Hour)
		require.Less(t, s.Stats().Attempts, uint64(2000))
		require.Zero(t, s.Stats().Outages)
		goesOn(t, ended)
	})
}

// The message that announces the end is one like any other.
func TestTheMessageThatAnnouncesIsTakenIn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cb := (&feed{}).callbacks()
		cb.Err = func(m *response) error {
			if frameOf(m).seq == 2 {
				return stream.Rotate
			}
			return nil
		}
		s := scripted(t, func(b bidi) error {
			if err := greet(b, 0); err != nil {
				return err
			}
			return stays(numbered(1, 2, 3)...)(b)
		}).mustDial(cb)
		mustReceive(t, s, 1, 2, 3)
		ended := receiving(s)
		rest(time.Second)
		require.Equal(t, at(3), s.Stats().Delivered)
		require.Equal(t, uint64(3), s.Stats().Deliveries)
		require.NotZero(t, s.Stats().Rotations)
		goesOn(t, ended)
	})
}

// A server that lets only the newest attempt live ends the old one as soon as the next one comes.
func TestAServerThatFencesIsRotated(t *testing.T) {
	t.Parallel()
	for name, says := range map[string]error{"ABORTED": status.Error(codes.Aborted, "superseded"), "OK": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				newer := make(chan struct{}, 100)
				f := &feed{}
				f.handler = func(s bidi) error {
					select {
					case newer <- struct{}{}:
					default:
					}
					if err := greet(s, 0); err != nil {
						return err
					}
					<-newer // the first is its own
					select {
					case <-newer:
						newer <- struct{}{}
						return says
					case <-s.Context().Done():
						return s.Context().Err()
					}
				}
				w := newWorld(t, f)
				s := w.mustDial(w.feed.callbacks(), stream.WithMaxAge(time.Minute, 0))
				ended := receiving(s)
				rest(10 * time.Minute)
				require.Zero(t, s.Stats().Outages)
				require.GreaterOrEqual(t, s.Stats().Rotations, uint64(8))
				goesOn(t, ended)
			})
		})
	}
}

// Options that do not fit are refused.
func TestWithMaxAgeIsChecked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, stays())
		for name, opts := range map[string][]stream.ClientOption{
			"a jitter below zero":         {stream.WithMaxAge(time.Hour, -1)},
			"a jitter as long as the age": {stream.WithMaxAge(time.Hour, time.Hour)},
			"WithoutResume":               {stream.WithMaxAge(time.Hour, 0), stream.WithoutResume()},
		} {
			_, err := w.dial(t.Context(), positions(), opts...)
			requireReason(t, err, stream.ReasonOptions, name)
		}
		for _, d := range []time.Duration{0, -1} {
			s := w.mustDial(positions(), stream.WithMaxAge(d, time.Minute))
			rest(10 * time.Hour)
			require.Zero(t, s.Stats().Rotations, "no limit")
			require.NoError(t, s.Close())
		}
	})
}

// A unit is not cut, or the part of it that has come would come again: the rotation waits for the message with a position, and
// not for ever.
func TestARotationDoesNotCutAUnit(t *testing.T) {
	t.Parallel()
	for _, whole := range []bool{true, false} {
		t.Run(map[bool]string{true: "it is completed", false: "it is not"}[whole], func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := newPuppet()
				var d diary
				s := newWorld(t, &feed{handler: p.handle}).mustDial(announced((&feed{}).callbacks()), stream.WithObserver(&d))
				ended := receiving(s)
				p.tell(frame{kind: fragment, seq: unitOf(1)}, bye())
				rest(4 * time.Second)
				require.Equal(t, 1, p.handlers(), "in the middle of a unit")
				if whole {
					p.tell(numbered(1)...)
					require.Equal(t, 2, p.handlers())
					require.Empty(t, d.of("rewound"))
					require.Equal(t, at(1), d.of("attached")[1].at)
				} else {
					rest(2 * time.Second)
					require.Equal(t, 2, p.handlers(), "the grace time is over")
					require.Len(t, d.of("rewound"), 1, "a part may come again")
				}
				goesOn(t, ended)
			})
		})
	}
}
