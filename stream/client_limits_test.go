package stream_test

import (
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/internal/testnet"
	"github.com/streamsafe/streamsafe/stream"
)

// requireLimit checks that an attempt was given up at its limit: not earlier, and no more than a tick later.
func requireLimit(t *testing.T, limit, after time.Duration) {
	t.Helper()
	require.GreaterOrEqual(t, after, limit, "a limit is not cut short")
	require.LessOrEqual(t, after, limit+limit/8, "nor is it late")
}

// Invariant 22: a connection that is dead and looks alive is found by a deadline on the stream. What is left to grpc's
// keepalive is to get rid of the connection.
func TestABlackHoleIsFoundByTheIdleTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &feed{handler: inOrder(stays(numbered(1)...), sends(nil, numbered(2)...))}
		w := newWorld(t, f, grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 2 * time.Second}))
		var d diary
		s := w.mustDial(positions(), stream.WithIdleTimeout(5*time.Second), stream.WithObserver(&d))
		mustReceive(t, s, 1)
		began := time.Now()
		w.Cut(testnet.BlackHole)
		mustReceive(t, s, 2)
		require.Less(t, time.Since(began), 20*time.Second)
		_, err := s.Recv()
		require.ErrorIs(t, err, io.EOF)
		synctest.Wait()
		lost := d.of("detached")[0]
		requireLimit(t, 5*time.Second, lost.info.Time.Sub(began))
		require.Equal(t, codes.DeadlineExceeded, status.Code(lost.cause))
		require.NotErrorIs(t, lost.cause, context.DeadlineExceeded, "invariant 30: not the application's deadline")
	})
}

// Wherever in a tick the wait begins, the limit is neither cut short nor stretched by more than a tick.
func TestTheIdleTimeoutAtEveryMoment(t *testing.T) {
	t.Parallel()
	for late := time.Duration(0); late < time.Second; late += 17 * time.Millisecond {
		t.Run(late.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := scripted(t, func(s bidi) error {
					time.Sleep(late)
					return stays(numbered(1)...)(s)
				}, sends(nil, numbered(2)...))
				var d diary
				s := w.mustDial(positions(), stream.WithIdleTimeout(800*time.Millisecond),
					stream.WithFirstMessageTimeout(time.Minute), stream.WithObserver(&d))
				mustReceive(t, s, 1)
				began := time.Now()
				mustReceive(t, s, 2)
				synctest.Wait()
				requireLimit(t, 800*time.Millisecond, d.of("detached")[0].info.Time.Sub(began))
			})
		})
	}
}

func TestFirstMessageTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, stays(), lasts(time.Hour, nil, numbered(1)...))
		began := time.Now()
		var d diary
		s := w.mustDial(positions(), stream.WithFirstMessageTimeout(3*time.Second), stream.WithObserver(&d))
		mustReceive(t, s, 1)
		synctest.Wait()
		requireLimit(t, 3*time.Second, d.of("detached")[0].info.Time.Sub(began))
		_, err := s.Recv()
		require.ErrorIs(t, err, io.EOF, "later messages have no limit")
		require.Equal(t, uint64(2), s.Stats().Attempts)
	})
}

// The limit of the first message may be the longer one: a server that takes its time to begin, and then may not pause.
func TestTheIdleTimeoutCountsFromTheFirstMessage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, stays(numbered(1)...), sends(nil, numbered(2)...))
		s := w.mustDial(positions(), stream.WithFirstMessageTimeout(time.Minute), stream.WithIdleTimeout(5*time.Second))
		mustReceive(t, s, 1)
		began := time.Now()
		mustReceive(t, s, 2)
		require.InDelta(t, 5*time.Second, time.Since(began), float64(time.Second), "the shorter limit, from the first message on")
	})
}

func TestTheIdleTimeoutAloneCountsForTheFirstMessage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, stays(), sends(nil, numbered(1)...))
		began := time.Now()
		s := w.mustDial(positions(), stream.WithIdleTimeout(5*time.Second))
		mustReceive(t, s, 1)
		require.InDelta(t, 5*time.Second, time.Since(began), float64(time.Second))
	})
}

// A slow application is not a dead server: only the time in which somebody waits in Recv counts.
func TestASlowApplicationDoesNotTripTheIdleTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, lasts(10*time.Minute, nil, numbered(1, 2, 3)...))
		s := w.mustDial(positions(), stream.WithIdleTimeout(5*time.Second), stream.WithFirstMessageTimeout(time.Second))
		for seq := uint64(1); seq <= 3; seq++ {
			time.Sleep(time.Minute + 3*time.Second)
			mustReceive(t, s, seq)
		}
		require.Equal(t, uint64(1), s.Stats().Attempts, "no attempt was given up")
		began := time.Now()
		time.Sleep(time.Minute + 1500*time.Millisecond)
		go func() { _, _ = s.Recv() }() // ends with the stream
		time.Sleep(4 * time.Second)
		require.Zero(t, s.Stats().Outages, "waited for 4 s, after %v", time.Since(began))
		time.Sleep(2 * time.Second)
		require.Equal(t, uint64(1), s.Stats().Outages, "waited for more than 5 s, after %v", time.Since(began))
	})
}

// Any message is a sign of life, protocol messages too.
func TestHeartbeatsKeepAQuietStreamAlive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, func(s bidi) error {
			for range 100 {
				time.Sleep(4 * time.Second)
				if err := s.Send(frame{kind: ack}.response()); err != nil {
					return err
				}
			}
			return nil
		})
		s := w.mustDial(positions(), stream.WithIdleTimeout(5*time.Second))
		_, err := s.Recv()
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, uint64(1), s.Stats().Attempts)
	})
}

func TestSendTimeoutWhereFlowControlIsStalled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &feed{}
		f.handler = inOrder(stays(), f.serve)
		w := newWorld(t, f)
		cb := f.callbacks()
		handshake := cb.Resume
		cb.Resume = func(ctx context.Context, r *resumption) error {
			if r.Attempt() == 1 {
				return nil // the first handler reads nothing
			}
			return handshake(ctx, r)
		}
		var d diary
		s := w.mustDial(cb, stream.WithReplay(stream.ReplayLimits{}), stream.WithSendTimeout(3*time.Second), stream.WithObserver(&d))
		began := time.Now()
		for seq := uint64(1); seq <= 10; seq++ {
			require.NoError(t, s.Send(frame{kind: data, seq: seq, size: 30_000}.request()))
		}
		require.NoError(t, s.CloseSend())
		_, err := s.Recv()
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, upTo(10), f.stored)
		synctest.Wait()
		lost := d.of("detached")
		require.Len(t, lost, 1)
		requireLimit(t, 3*time.Second, lost[0].info.Time.Sub(began))
		require.Equal(t, codes.DeadlineExceeded, status.Code(lost[0].cause))
	})
}

func TestSendTimeoutDoesNotCountIdleTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &feed{}
		w := newWorld(t, f)
		s := w.mustOpen(stream.WithReplay(stream.ReplayLimits{}), stream.WithSendTimeout(time.Second))
		for seq := uint64(1); seq <= 3; seq++ {
			time.Sleep(time.Minute)
			require.NoError(t, s.Send(frame{kind: data, seq: seq}.request()))
		}
		require.NoError(t, s.CloseSend())
		_, err := s.Recv()
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, uint64(1), s.Stats().Attempts)
	})
}

func TestOpenTimeoutWithAResumeThatHangs(t *testing.T) {
	t.Parallel()
	hangs := map[string]func(context.Context, *resumption) error{
		"in its own wait": func(ctx context.Context, _ *resumption) error { <-ctx.Done(); return ctx.Err() },
		"in Recv":         func(_ context.Context, r *resumption) error { _, err := r.Recv(); return err },
	}
	for name, hang := range hangs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := scripted(t, stays(), sends(nil, numbered(1)...))
				cb := positions()
				var cause error
				cb.Resume = func(ctx context.Context, r *resumption) error {
					cause = r.Cause()
					if r.Attempt() == 1 {
						return hang(ctx, r)
					}
					return nil
				}
				began := time.Now()
				s := w.mustDial(cb, stream.WithOpenTimeout(2*time.Second))
				require.InDelta(t, 2*time.Second, time.Since(began), float64(100*time.Millisecond))
				mustReceive(t, s, 1)
				require.Equal(t, codes.DeadlineExceeded, status.Code(cause), "the next attempt is told")
				require.NotErrorIs(t, cause, context.Canceled, "invariant 30")
				require.Equal(t, uint64(2), s.Stats().Attempts)
			})
		})
	}
}

func TestOpenTimeoutDoesNotOutliveTheOpening(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, lasts(time.Minute, nil, numbered(1)...))
		s := w.mustDial(positions(), stream.WithOpenTimeout(2*time.Second))
		got, err := receiveAll(s)
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, upTo(1), got)
		require.Equal(t, uint64(1), s.Stats().Attempts)
	})
}

func TestLimitsOfZeroAndLessAreNone(t *testing.T) {
	t.Parallel()
	for _, limit := range []time.Duration{0, -time.Second} {
		t.Run(limit.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := scripted(t, lasts(24*time.Hour, nil, numbered(1)...))
				w.watch.sleep(25*time.Hour, w.watch.bark)
				s := w.mustDial(positions(), stream.WithOpenTimeout(limit), stream.WithFirstMessageTimeout(limit),
					stream.WithIdleTimeout(limit), stream.WithSendTimeout(limit), stream.WithMaxOutage(limit))
				got, err := receiveAll(s)
				require.ErrorIs(t, err, io.EOF)
				require.Equal(t, upTo(1), got)
				require.Equal(t, uint64(1), s.Stats().Attempts)
			})
		})
	}
}

// The longer of the two limits counts for the first message where it is that one's; once that has come, or where it comes
// late, the shorter one takes over.
func TestTheIdleTimeoutBelowTheFirstMessages(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, func(s bidi) error {
			time.Sleep(2500 * time.Millisecond)
			return stays(numbered(1)...)(s)
		})
		began := time.Now()
		s := w.mustDial(positions(), stream.WithIdleTimeout(time.Second), stream.WithFirstMessageTimeout(time.Hour), stream.WithoutResume())
		mustReceive(t, s, 1)
		require.Equal(t, 2500*time.Millisecond, time.Since(began))
		_, err := s.Recv()
		wantEnd(t, err, stream.ReasonResumeOff, codes.DeadlineExceeded, "the idle timeout")
		requireLimit(t, time.Second, time.Since(began)-2500*time.Millisecond)
	})
}

// An idle limit that is watched at another pace before the first message is no later for that.
func TestTheIdleTimeoutAfterAFirstMessageTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, lasts(time.Hour, nil, frame{kind: data, seq: 1}), stays())
		d := &diary{}
		s := w.mustDial(positions(), stream.WithFirstMessageTimeout(72*time.Millisecond), stream.WithIdleTimeout(80*time.Millisecond),
			stream.WithObserver(d))
		mustReceive(t, s, 1)
		began := time.Now()
		receiving(s)
		for len(d.of("detached")) == 0 {
			time.Sleep(time.Millisecond)
			synctest.Wait()
		}
		require.LessOrEqual(t, time.Since(began), 90*time.Millisecond, "an eighth late at the most")
	})
}

// The time in which nobody received does not count while the cause is looked for.
func TestTheLastWordIsNotAnIdleTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, lasts(10*time.Second, status.Error(codes.PermissionDenied, "no"), numbered(1, 2)...), stays())
		cb := positions()
		inner := cb.Checkpoint
		cb.Checkpoint = func(m *response) (checkpoint.Position, bool) {
			if frameOf(m).seq == 2 {
				time.Sleep(200 * time.Millisecond) // well within the limit
			}
			return inner(m)
		}
		s := w.mustDial(cb, stream.WithIdleTimeout(time.Second), stream.WithAtMostOnceSends())
		mustReceive(t, s, 1)
		time.Sleep(11900 * time.Millisecond)
		go func() { _ = s.Send(frame{kind: data, seq: 1}.request()) }()
		time.Sleep(time.Minute)
		require.Equal(t, stream.Closed, s.State(), "attempts %d, %v", s.Stats().Attempts, s.Stats().LastError)
	})
}

// The limit is for the transport, not for acknowledgements.
func TestSendTimeoutDoesNotCountTheWaitForRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, func(s bidi) error {
			time.Sleep(5500 * time.Millisecond)
			if err := s.Send(frame{kind: ack, seq: 1}.response()); err != nil { // room
				return err
			}
			time.Sleep(time.Second) // flow control is stalled for one second more
			for {
				if _, err := s.Recv(); err != nil {
					return err
				}
			}
		})
		cb := positions()
		cb.Acked = (&feed{}).callbacks().Acked
		s := w.mustDial(cb, stream.WithReplay(stream.ReplayLimits{Messages: 1}), stream.WithSendTimeout(2*time.Second))
		go func() { _, _ = s.Recv() }()
		require.NoError(t, s.Send(frame{kind: data, seq: 1, size: 1 << 20}.request())) // fills the transport
		require.NoError(t, s.Send(frame{kind: data, seq: 2, size: 1 << 20}.request()))
		time.Sleep(10 * time.Second)
		synctest.Wait()
		require.Equal(t, uint64(1), s.Stats().Attempts, "the transport took 1 s, the limit is 2 s")
	})
}
