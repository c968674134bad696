package stream_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/stream"
)

// situation is a state that a stream can be ended in. make brings a stream there, with a Recv and a Send that wait.
type situation struct {
	name string
	want stream.State
	make func(t *testing.T, ctx context.Context) (*world, *client)
}

func situations() []situation {
	return []situation{
		{"attached", stream.Attached, func(t *testing.T, ctx context.Context) (*world, *client) {
			t.Helper()
			w := scripted(t, stays())
			s, err := w.dial(ctx, positions(), stream.WithAtMostOnceSends())
			require.NoError(t, err)
			return w, s
		}},
		{"detached", stream.Detached, func(t *testing.T, ctx context.Context) (*world, *client) {
			t.Helper()
			w := scripted(t, sends(errGone))
			slow := stream.NewRetryPolicyBuilder().WithDelay(24 * time.Hour).WithJitter(0).Build()
			s, err := w.dial(ctx, positions(), stream.WithAtMostOnceSends(), stream.WithStreamPolicies(slow))
			require.NoError(t, err)
			return w, s
		}},
		{"opening", stream.Opening, func(t *testing.T, ctx context.Context) (*world, *client) {
			t.Helper()
			w := scripted(t, sends(errGone))
			cb := positions()
			cb.Resume = func(ctx context.Context, r *resumption) error {
				if r.Attempt() > 1 {
					<-ctx.Done()
				}
				return ctx.Err()
			}
			s, err := w.dial(ctx, cb, stream.WithAtMostOnceSends())
			require.NoError(t, err)
			return w, s
		}},
	}
}

func TestCancelInEveryState(t *testing.T) {
	t.Parallel()
	for _, at := range situations() {
		t.Run(at.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				w, s := at.make(t, ctx)
				recv, send := blocked(s)
				time.Sleep(time.Minute)
				require.Equal(t, at.want, s.State())
				began := time.Now()
				cancel()
				for _, err := range []error{within(t, recv, "the end of Recv"), within(t, send, "the end of Send")} {
					wantEnd(t, err, stream.ReasonContext, codes.Canceled, "the application has cancelled")
					require.ErrorIs(t, err, context.Canceled)
					require.NotErrorIs(t, err, stream.ErrClosed)
				}
				require.Zero(t, time.Since(began), "at once")
				_, err := s.Recv()
				require.ErrorIs(t, err, context.Canceled, "and again")
				synctest.Wait()
				require.Equal(t, stream.Closed, s.State())
				require.Zero(t, active(w), "invariant 23: no handler is left behind")
				mustClose(t, s, "called by the test")
			})
		})
	}
}

func TestCloseInEveryState(t *testing.T) {
	t.Parallel()
	for _, at := range situations() {
		t.Run(at.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w, s := at.make(t, t.Context())
				recv, send := blocked(s)
				time.Sleep(time.Minute)
				require.Equal(t, at.want, s.State())
				began := time.Now()
				mustClose(t, s, "called by the test")
				for _, err := range []error{within(t, recv, "the end of Recv"), within(t, send, "the end of Send")} {
					wantEnd(t, err, stream.ReasonClosed, codes.Canceled, "the application has closed it")
					require.ErrorIs(t, err, stream.ErrClosed)
					require.NotErrorIs(t, err, context.Canceled, "invariant 30: no context was cancelled")
				}
				require.Zero(t, time.Since(began), "at once")
				synctest.Wait()
				require.Equal(t, stream.Closed, s.State())
				require.ErrorIs(t, s.Context().Err(), context.Canceled)
				require.ErrorIs(t, context.Cause(s.Context()), stream.ErrClosed)
				require.Zero(t, active(w), "invariant 23: no handler is left behind")
				mustClose(t, s, "again")
			})
		})
	}
}

func TestCancelInTheFirstResume(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, stays())
		ctx, cancel := context.WithCancel(t.Context())
		cb := positions()
		cb.Resume = func(ctx context.Context, _ *resumption) error { cancel(); <-ctx.Done(); return ctx.Err() }
		s, err := w.dial(ctx, cb)
		require.Nil(t, s)
		wantEnd(t, err, stream.ReasonContext, codes.Canceled, "before there was a stream")
		require.ErrorIs(t, err, context.Canceled)
	})
}

// Invariant 30: what cancels a context may carry anything. It decides neither code nor reason.
func TestTheCauseOfACancelIsOnlyTold(t *testing.T) {
	t.Parallel()
	causes := map[string]func(t *testing.T) error{
		"plain":             func(*testing.T) error { return errors.New("out of coffee") },
		"a status":          func(*testing.T) error { return errGone },
		"ErrClosed":         func(*testing.T) error { return stream.ErrClosed },
		"a deadline's":      func(*testing.T) error { return context.DeadlineExceeded },
		"end of a stream":   otherStreamsEnd,
		"a closed stream's": closedStreamsCause,
	}
	for name, cause := range causes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cause := cause(t)
				w := scripted(t, stays())
				ctx, cancel := context.WithCancelCause(t.Context())
				s, err := w.dial(ctx, positions())
				require.NoError(t, err)
				cancel(cause)
				_, err = s.Recv()
				wantEnd(t, err, stream.ReasonContext, codes.Canceled, "the application has cancelled")
				require.ErrorIs(t, err, context.Canceled)
				require.ErrorIs(t, err, cause)
			})
		})
	}
}

// otherStreamsEnd is what an errgroup would cancel its context with: the end of another stream, whose policies gave up.
func otherStreamsEnd(t *testing.T) error {
	t.Helper()
	w := scripted(t, sends(errGone))
	once := stream.NewRetryPolicyBuilder().WithMaxRetries(1).Build()
	s := w.mustDial(positions(), stream.WithStreamPolicies(once))
	_, err := s.Recv()
	wantEnd(t, err, stream.ReasonPolicy, codes.Unavailable, "the other stream")
	return err
}

// closedStreamsCause is what the context of another stream was cancelled with.
func closedStreamsCause(t *testing.T) error {
	t.Helper()
	s := scripted(t, stays()).mustDial(positions())
	mustClose(t, s, "called by the test")
	return context.Cause(s.Context())
}

// Invariant 30: a server's or a policy's CANCELLED is not the application's.
func TestALostAttemptNeverLooksLikeACancel(t *testing.T) {
	t.Parallel()
	t.Run("the server says CANCELLED", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := scripted(t, sends(status.Error(codes.Canceled, "a handler's own")))
			s := w.mustDial(positions())
			_, err := s.Recv()
			wantEnd(t, err, stream.ReasonServer, codes.Canceled, "the server's last word")
			require.NotErrorIs(t, err, context.Canceled)
		})
	})
	t.Run("the server says DEADLINE_EXCEEDED", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := scripted(t, sends(status.Error(codes.DeadlineExceeded, "a backend's")))
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			s, err := w.dial(ctx, positions())
			require.NoError(t, err)
			_, err = s.Recv()
			wantEnd(t, err, stream.ReasonServer, codes.DeadlineExceeded, "the server's last word")
			require.NotErrorIs(t, err, context.DeadlineExceeded, "an hour is left")
		})
	})
}

func TestAStreamThatNobodyUsesEndsToo(t *testing.T) {
	t.Parallel()
	ends := map[string]func(cancel func(), s *client) error{
		"cancel": func(cancel func(), _ *client) error { cancel(); return nil },
		"Close":  func(_ func(), s *client) error { return s.Close() },
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := scripted(t, stays())
				ctx, cancel := context.WithCancel(t.Context())
				s, err := w.dial(ctx, positions())
				require.NoError(t, err)
				time.Sleep(time.Minute) // stable
				require.NoError(t, end(cancel, s))
				synctest.Wait()
				require.Equal(t, stream.Closed, s.State())
				require.Zero(t, active(w))
				cancel()
			})
		})
	}
}

// After Close nothing more is handed over, though the server has ended the stream before and something is still to be had.
func TestRecvAfterCloseOfAnEndedStream(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := scripted(t, sends(nil, numbered(1, 2, 3)...)).mustDial(positions(), stream.WithAtMostOnceSends())
		synctest.Wait()
		for s.Send(frame{kind: data}.request()) == nil {
			synctest.Wait() // until Send finds out, and the stream looks for the cause
		}
		require.Equal(t, stream.Closed, s.State())
		mustReceive(t, s, 1)
		mustClose(t, s, "called by the test")
		for range 2 {
			_, err := s.Recv()
			wantEnd(t, err, stream.ReasonClosed, codes.Canceled, "after Close")
		}
		require.Zero(t, s.Stats().Waiting)
	})
}

// Where nothing was left, it is how the stream ended that Recv tells.
func TestRecvAfterCloseOfAStreamThatWasReadToItsEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := scripted(t, sends(nil, numbered(1)...)).mustDial(positions())
		_, err := receiveAll(s)
		require.ErrorIs(t, err, io.EOF)
		mustClose(t, s, "called by the test")
		_, err = s.Recv()
		require.ErrorIs(t, err, io.EOF)
	})
}

// Recv repeats its error, whatever waits.
func TestRecvTellsTheSameEndAfterClose(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, stays(numbered(1, 2, 3)...))
		cb := positions()
		cb.Resume = delivers(3)
		ctx, cancel := context.WithCancel(t.Context())
		s, err := w.dial(ctx, cb)
		require.NoError(t, err)
		mustReceive(t, s, 1)
		cancel()
		rest(time.Second)
		_, err = s.Recv()
		wantEnd(t, err, stream.ReasonContext, codes.Canceled, "the context")
		mustClose(t, s, "called by the test")
		_, err = s.Recv()
		wantEnd(t, err, stream.ReasonContext, codes.Canceled, "the same error")
	})
}
