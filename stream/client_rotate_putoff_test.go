package stream_test

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/internal/testnet"
	"github.com/streamsafe/streamsafe/stream"
)

// Rotations that do not come, or come later, and ends that were announced.

// The next attempt cannot be opened for an hour: the old one goes on, and is asked rarely.
func TestARotationThatIsPutOff(t *testing.T) {
	t.Parallel()
	for _, hangs := range []bool{false, true} {
		name := map[bool]string{false: "refused", true: "hangs"}[hangs]
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := &feed{total: 3}
				w := newWorld(t, f)
				cb := f.callbacks()
				resume := cb.Resume
				down := atomic.Bool{}
				cb.Resume = func(ctx context.Context, r *resumption) error {
					switch {
					case !down.Load():
						return resume(ctx, r)
					case hangs:
						<-ctx.Done()
						return ctx.Err()
					default:
						return errGone
					}
				}
				var d diary
				s := w.mustDial(cb, withReplay(), stream.WithMaxAge(time.Hour, 0), stream.WithObserver(&d))
				ended := receiving(s)
				down.Store(true)
				rest(time.Hour + 30*time.Minute)
				n := len(d.of("put off"))
				require.Greater(t, n, 20, "it is tried again")
				require.Less(t, n, 75, "rarely: no storm")
				for _, e := range d.of("put off") {
					require.Equal(t, uint64(1), e.info.Attempt, "whose")
					require.Equal(t, map[bool]codes.Code{false: codes.Unavailable, true: codes.Unavailable}[hangs], codeOf(e.cause), "%v", e.cause)
				}
				began := time.Now()
				mustSend(t, s, 1, 10)
				require.Less(t, time.Since(began), 11*time.Second, "sends do not wait for ever")
				rest(time.Second)
				for deadline := time.Now().Add(time.Minute); s.State() == stream.Rotating && time.Now().Before(deadline); {
					rest(time.Second) // another try, which has an attempt of its own, is on its way
				}
				require.Equal(t, stream.Attached, s.State(), "between two tries, after a minute")
				require.Equal(t, upTo(10), f.seen)
				require.Equal(t, []uint64{0, 0}, []uint64{s.Stats().Outages, s.Stats().Rotations})
				require.Equal(t, 1, active(w), "attempts that were not opened are gone")
				require.Empty(t, d.of("detached"))
				down.Store(false)
				rest(2 * time.Minute)
				require.Equal(t, uint64(1), s.Stats().Rotations)
				goesOn(t, ended)
			})
		})
	}
}

// The server's last word about the next attempt is not that about the stream, while the old one lives. Nor is Complete.
func TestTheOldAttemptOutlivesALastWordAboutTheNext(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{
		"last word": errLastWord, "position lost": errCompacted, "complete": stream.Complete, "no status": errors.New("no status"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := newPuppet()
				w := newWorld(t, &feed{handler: p.handle})
				cb := announced(w.feed.callbacks())
				cb.Lost = func(context.Context, checkpoint.Position, error) (stream.Recovery, error) {
					require.Fail(t, "the position is not lost")
					return stream.Recovery{}, nil
				}
				resume := cb.Resume
				cb.Resume = func(ctx context.Context, r *resumption) error {
					if r.Attempt() > 1 {
						return err
					}
					return resume(ctx, r)
				}
				var d diary
				s := w.mustDial(cb, stream.WithObserver(&d))
				ended := receiving(s)
				p.tell(bye())
				rest(time.Second)
				require.NotEmpty(t, d.of("put off"))
				p.tell(numbered(1, 2)...)
				require.Equal(t, uint64(2), s.Stats().Deliveries)
				goesOn(t, ended)
			})
		})
	}
}

// What may be lost or come twice is not rotated, and the observer is told.
func TestWhatIsNotRotated(t *testing.T) {
	t.Parallel()
	sends := func(t *testing.T, s *client) {
		t.Helper()
		mustSend(t, s, 1, 1)
	}
	for name, c := range map[string]struct {
		cb     callbacks
		opts   []stream.ClientOption
		before func(*testing.T, *client)
		cause  string
		puts   int
	}{
		"sends in doubt":        {cb: positions(), before: sends, cause: "it is not known whether the server has all 1 messages", puts: 1},
		"never acknowledged":    {cb: acking(), before: sends, cause: "it is not known whether the server has all 1 messages", puts: 60},
		"no position to resume": {cb: callbacks{}, cause: "there is no position to resume from", puts: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var d diary
				w := scripted(t, stays(numbered(1)...))
				s := w.mustDial(c.cb, append(c.opts, stream.WithMaxAge(time.Hour, 0), stream.WithObserver(&d))...)
				ended := receiving(s)
				synctest.Wait()
				if c.before != nil {
					c.before(t, s)
				}
				rest(2 * time.Hour)
				require.Zero(t, s.Stats().Rotations)
				require.Equal(t, uint64(1), s.Stats().Attempts, "the next one is not even opened")
				require.NotEmpty(t, d.of("put off"))
				require.LessOrEqual(t, len(d.of("put off")), c.puts+30)
				require.Contains(t, d.of("put off")[0].cause.Error(), c.cause)
				goesOn(t, ended)
			})
		})
	}
	t.Run("WithRestart", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s := scripted(t, stays(numbered(1)...)).mustDial(callbacks{}, stream.WithRestart(), stream.WithMaxAge(time.Hour, 0))
			ended := receiving(s)
			rest(90 * time.Minute)
			require.Equal(t, []uint64{1, 2}, []uint64{s.Stats().Rotations, s.Stats().Deliveries})
			goesOn(t, ended)
		})
	})
	t.Run("at most once, nothing acknowledged", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			var got numbers
			s := scripted(t, func(s bidi) error { // it is slow: the second of two messages waits to be read
				for {
					m, err := s.Recv()
					if err != nil {
						return err
					}
					got.add(frameOf(m).seq)
					time.Sleep(120 * time.Millisecond)
				}
			}).mustDial(positions(), stream.WithAtMostOnceSends(), stream.WithMaxAge(time.Minute, 0))
			ended := receiving(s)
			for seq := uint64(1); seq <= 600; seq += 2 {
				mustSend(t, s, seq, seq+1)
				time.Sleep(2 * time.Second)
			}
			synctest.Wait()
			require.Equal(t, upTo(600), got.all(), "the server had time to read")
			require.GreaterOrEqual(t, s.Stats().Rotations, uint64(8))
			goesOn(t, ended)
		})
	})
}

// What the server announces and then does is planned, unless it is the server's last word.
func TestAnAnnouncedEnd(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ends   error
		reason stream.Reason
	}{
		"OK": {}, "UNAVAILABLE": {ends: errGone}, "the last word": {ends: errLastWord, reason: stream.ReasonServer},
		"position lost": {ends: errCompacted, reason: stream.ReasonPositionLost},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				failures := 0
				breaker := circuitbreaker.NewBuilder[any]().OnFailure(func(failsafe.ExecutionEvent[any]) { failures++ }).Build()
				w := scripted(t, sends(c.ends, append(numbered(1), bye())...), stays(numbered(1, 2)...))
				s := w.mustDial(announced(positions()), stream.WithStreamPolicies(stream.NewRetryPolicyBuilder().Build(), breaker))
				ended := receiving(s)
				if c.reason != stream.ReasonUnknown {
					requireReason(t, within(t, ended, "the end"), c.reason, "Recv")
					return
				}
				rest(time.Minute)
				require.Equal(t, []uint64{0, 2, 2}, []uint64{s.Stats().Outages, s.Stats().Attempts, s.Stats().Deliveries})
				require.Zero(t, failures)
				goesOn(t, ended)
			})
		})
	}
	t.Run("acknowledged, without replay", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			p := newPuppet()
			s := newWorld(t, &feed{handler: p.handle}).mustDial(announced((&feed{}).callbacks()))
			ended := receiving(s)
			mustSend(t, s, 1, 2)
			p.tell(frame{kind: ack, seq: 2}, bye(), frame{kind: end})
			rest(time.Minute)
			require.Equal(t, 2, p.handlers(), "nothing is in doubt")
			goesOn(t, ended)
		})
	})
	t.Run("WithoutResume", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s := scripted(t, lasts(time.Minute, nil, bye())).mustDial(announced(positions()), stream.WithoutResume())
			require.Equal(t, io.EOF, drain(s), "the end is the end")
			require.Equal(t, uint64(1), s.Stats().Attempts)
		})
	})
	t.Run("the connection ends", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := scripted(t, stays(bye()))
			s := w.mustDial(announced(positions()))
			w.Cut(testnet.RST)
			ended := receiving(s)
			rest(time.Minute)
			require.LessOrEqual(t, s.Stats().Outages, uint64(1), "the announcement may have been lost with it")
			goesOn(t, ended)
		})
	})
}

// An attempt that is dead before it is attached does not take over, though Resume says nothing of it.
func TestADeadAttemptDoesNotTakeOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var d diary
		cb := announced(positions())
		cb.Resume = func(_ context.Context, r *resumption) error {
			if r.Attempt() > 1 {
				_, _ = r.Recv()
			}
			return nil
		}
		s := scripted(t, stays(bye()), sends(errGone), stays(numbered(1)...)).mustDial(cb, stream.WithObserver(&d))
		ended := receiving(s)
		rest(500 * time.Millisecond)
		require.Len(t, d.of("put off"), 1)
		require.Equal(t, codes.Unavailable, codeOf(d.of("put off")[0].cause))
		rest(time.Minute)
		require.Equal(t, []uint64{0, 1, 3}, []uint64{s.Stats().Outages, s.Stats().Rotations, s.Stats().Attempts})
		goesOn(t, ended)
	})
}

// A server that announces its end again, while the rotation is under way, asks for no other one, and not for a quicker one.
func TestAnAnnouncementDuringARotation(t *testing.T) {
	t.Parallel()
	t.Run("before it", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			p := newPuppet()
			w := newWorld(t, &feed{handler: p.handle})
			var d diary
			s := w.mustDial(announced(w.feed.callbacks()), withReplay(), stream.WithObserver(&d))
			ended := receiving(s)
			mustSend(t, s, 1, 3)
			p.tell(bye())
			rest(time.Second)
			p.tell(bye())
			rest(2 * time.Second)
			require.Equal(t, 1, p.handlers(), "it waits for acknowledgements")
			p.greetsWith(3)
			p.tell(frame{kind: ack, seq: 3})
			rest(time.Minute)
			require.Equal(t, []uint64{1, 2, 0}, []uint64{s.Stats().Rotations, s.Stats().Attempts, s.Stats().Replayed})
			require.Empty(t, d.of("put off"))
			goesOn(t, ended)
		})
	})
	t.Run("before it is put off", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			p := newPuppet()
			w := newWorld(t, &feed{handler: p.handle})
			cb := announced(w.feed.callbacks())
			resume := cb.Resume
			begun, failed := make(chan time.Time, 100), make(chan time.Time, 100)
			cb.Resume = func(ctx context.Context, r *resumption) error {
				if r.Attempt() == 1 {
					return resume(ctx, r)
				}
				begun <- time.Now()
				timer := time.NewTimer(3 * time.Second)
				defer timer.Stop()
				select {
				case <-timer.C:
					failed <- time.Now()
					return errLastWord
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			s := w.mustDial(cb)
			ended := receiving(s)
			p.tell(bye())
			rest(2 * time.Second)
			p.tell(bye())
			rest(8 * time.Second)
			require.GreaterOrEqual(t, len(begun), 2, "it is tried again")
			<-begun
			require.GreaterOrEqual(t, (<-begun).Sub(<-failed), 500*time.Millisecond, "and not at once")
			goesOn(t, ended)
		})
	})
}
