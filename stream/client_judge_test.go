package stream_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/fallback"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/stream"
)

// Whose word an error is, and what that means for the stream.

// Invariants 16 and 19: what a policy at open scope makes of an error does not change whether that may be resumed.
func TestWhatOpenPoliciesMakeOfAnErrorDoesNotChangeItsKind(t *testing.T) {
	t.Parallel()
	wrap := func(exec failsafe.Execution[any]) (any, error) {
		return nil, errors.Join(status.Error(codes.NotFound, "sorry"), exec.LastError())
	}
	policies := map[string]func() failsafe.Policy[any]{
		"a retry that gives up": func() failsafe.Policy[any] {
			return retrypolicy.NewBuilder[any]().WithMaxRetries(1).WithDelay(time.Second).Build()
		},
		"a fallback that wraps": func() failsafe.Policy[any] { return fallback.NewWithFunc(wrap) },
	}
	transports := []error{
		status.Error(codes.Internal, "stream terminated by RST_STREAM with error code: INTERNAL_ERROR"),
		status.Error(codes.Unknown, "transport: the connection is odd"),
		status.Error(codes.Internal, "unexpected EOF"),
		errGone,
	}
	for name, policy := range policies {
		for _, made := range transports {
			t.Run(fmt.Sprintf("%s, %v", name, made), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					s := scripted(t, stays()).mustDial(resumes(func(_ context.Context, r *resumption) error {
						if r.Attempt() < 4 {
							return made
						}
						return nil
					}), stream.WithOpenPolicies(policy()), stream.WithMaxOutage(time.Hour))
					require.Equal(t, uint64(4), s.Stats().Attempts)
				})
			})
		}
	}
}

// An executor's policies cannot be told apart, and none tries the server's last word again.
func TestAnOpenExecutorMindsTheLastWord(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		retry := retrypolicy.NewBuilder[any]().WithDelay(time.Second).WithMaxRetries(5).Build()
		_, err := scripted(t, stays()).dial(t.Context(), resumes(func(context.Context, *resumption) error {
			return status.Error(codes.PermissionDenied, "no")
		}), stream.WithOpenExecutor(failsafe.With(retry)))
		wantEnd(t, err, stream.ReasonServer, codes.PermissionDenied, "the last word")
		require.Equal(t, uint64(1), attemptsOf(err))
	})
	synctest.Test(t, func(t *testing.T) {
		retry := retrypolicy.NewBuilder[any]().WithDelay(time.Second).WithMaxRetries(5).Build()
		var d diary
		s := scripted(t, stays()).mustDial(resumes(func(_ context.Context, r *resumption) error {
			if r.Attempt() < 3 {
				return errGone
			}
			return nil
		}), stream.WithOpenExecutor(failsafe.With(retry)), stream.WithObserver(&d))
		require.Equal(t, uint64(3), s.Stats().Attempts)
		synctest.Wait()
		require.Empty(t, d.of("detached"), "anything else it tries again: three attempts were one open")
	})
}

// A plain error is the word of who made it, and no status of the server's. A status counts as one, whatever its code.
func TestWhoseWordAnErrorIs(t *testing.T) {
	t.Parallel()
	errSorry := errors.New("sorry")
	instead := func(err error) stream.ClientOption { return stream.WithOpenPolicies(fallback.NewWithError[any](err)) }
	fails := func(context.Context, *resumption) error { return errGone }
	tests := map[string]struct {
		resume func(context.Context, *resumption) error
		opts   []stream.ClientOption
		reason stream.Reason
		code   codes.Code
	}{
		"a plain one of a fallback":  {fails, []stream.ClientOption{instead(errSorry)}, stream.ReasonPolicy, codes.Unknown},
		"a status of a fallback":     {fails, []stream.ClientOption{instead(status.Error(codes.NotFound, "no"))}, stream.ReasonServer, codes.NotFound},
		"an UNKNOWN of a fallback":   {fails, []stream.ClientOption{instead(status.Error(codes.Unknown, "?"))}, stream.ReasonServer, codes.Unknown},
		"a plain one of Resume":      {func(context.Context, *resumption) error { return errSorry }, nil, stream.ReasonResume, codes.Unknown},
		"an UNKNOWN of Resume":       {func(context.Context, *resumption) error { return status.Error(codes.Unknown, "?") }, nil, stream.ReasonServer, codes.Unknown},
		"a deadline of Resume's own": {ownDeadline, nil, stream.ReasonResume, codes.DeadlineExceeded},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				opts := append(test.opts, stream.WithMaxOutage(time.Minute))
				_, err := scripted(t, stays()).dial(t.Context(), resumes(test.resume), opts...)
				wantEnd(t, err, test.reason, test.code, name)
				require.Equal(t, uint64(1), attemptsOf(err))
			})
		})
	}
}

// ownDeadline is a Resume that asks somebody else, and gives up.
func ownDeadline(ctx context.Context, _ *resumption) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	<-ctx.Done()
	return fmt.Errorf("asking the directory: %w", ctx.Err())
}

// A policy that tries whatever comes of it tries once more, and finds that the outage is over.
func TestAPolicyThatAlwaysTriesAgainIsStopped(t *testing.T) {
	t.Parallel()
	always := func() failsafe.Policy[any] {
		yes := func(any, error) bool { return true }
		return retrypolicy.NewBuilder[any]().HandleIf(yes).WithMaxRetries(-1).WithDelay(time.Minute).Build()
	}
	options := map[string]func() stream.ClientOption{
		"policies": func() stream.ClientOption { return stream.WithStreamPolicies(always()) },
		"executor": func() stream.ClientOption { return stream.WithStreamExecutor(failsafe.With(always())) },
	}
	for name, option := range options {
		t.Run(name+", the last word", func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				s, err := scripted(t, sends(status.Error(codes.NotFound, "no"), numbered(1)...)).dial(ctx, positions(), option())
				require.NoError(t, err)
				_, err = receiveAll(s)
				wantEnd(t, err, stream.ReasonServer, codes.NotFound, "the last word")
				require.Equal(t, uint64(1), s.Stats().Attempts)
			})
		})
		t.Run(name+", a stable attempt", func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				w := scripted(t, lasts(10*time.Minute, errGone, numbered(1)...), lasts(10*time.Minute, nil, numbered(2)...))
				s, err := w.dial(ctx, positions(), option())
				require.NoError(t, err)
				got, err := receiveAll(s)
				require.ErrorIs(t, err, io.EOF, "the loss of the stable attempt was noticed")
				require.Equal(t, upTo(2), got)
			})
		})
	}
}

// A fallback that wraps an error of Resume that carries no status does not make it the server's.
func TestAFallbackThatWrapsACallbacksError(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &feed{handler: stays()})
		cb := positions()
		cb.Resume = func(context.Context, *resumption) error { return errors.New("no token") }
		_, err := w.dial(t.Context(), cb)
		wantEnd(t, err, stream.ReasonResume, codes.Unknown, "without a fallback")
		_, err = w.dial(t.Context(), cb, stream.WithOpenPolicies(fallback.NewWithFunc(
			func(exec failsafe.Execution[any]) (any, error) {
				return nil, fmt.Errorf("opening: %w", exec.LastError())
			})))
		wantEnd(t, err, stream.ReasonResume, codes.Unknown, "with a fallback that wraps")
	})
}
