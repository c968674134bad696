package stream_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/streamsafe/streamsafe/stream"
)

// withRetryInfo is an error that asks to wait.
func withRetryInfo(t *testing.T, code codes.Code, d time.Duration) error {
	t.Helper()
	st, err := status.New(code, "busy").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(d)})
	require.NoError(t, err)
	return st.Err()
}

// Invariants 16 and 19: every code means the same in every phase.
func TestEveryCodeInEveryPhase(t *testing.T) {
	t.Parallel()
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		for name, phase := range phases() {
			t.Run(fmt.Sprintf("%s, %s", code, name), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					says := status.Error(code, "the handler says")
					handlers, resume, dial := phase(says)
					w := newWorld(t, &feed{handler: inOrder(handlers...)}, dial...)
					cb := positions()
					if cb.Err = tells(says); resume != nil {
						cb.Resume = resume
					}
					got, err := receiveAll(w.mustDial(cb))
					if code == codes.Unavailable || code == codes.Unauthenticated { // once in a row, after the server had accepted the stream
						require.ErrorIs(t, err, io.EOF, "resumed")
						require.Equal(t, upTo(2), got)
						return
					}
					reason := stream.ReasonServer // the last word
					if code == codes.OutOfRange {
						reason = stream.ReasonPositionLost
					}
					wantEnd(t, err, reason, code, "not resumed")
					require.Equal(t, upTo(1), got)
				})
			})
		}
	}
}

// Invariant 21: a reset or a handshake that failed is itself worth another try.
func TestTransportFailuresAreResumed(t *testing.T) {
	t.Parallel()
	t.Run("connections that die in the handshake", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := scripted(t, sends(nil, numbered(1)...))
			w.Refuse(true)
			time.AfterFunc(time.Minute, func() { w.Refuse(false) })
			got, err := receiveAll(w.mustDial(positions()))
			require.ErrorIs(t, err, io.EOF)
			require.Equal(t, upTo(1), got)
		})
	})
	t.Run("INTERNAL that the transport made", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			reset := status.Error(codes.Internal, "stream terminated by RST_STREAM with error code: INTERNAL_ERROR")
			w := scripted(t, sends(reset, numbered(1)...), sends(nil, numbered(2)...))
			got, err := receiveAll(w.mustDial(positions()))
			require.ErrorIs(t, err, io.EOF)
			require.Equal(t, upTo(2), got)
		})
	})
}

// What the server asks for is waited for, by RetryInfo or by pushback; without that, some codes are its last word.
func TestHintsOfTheServer(t *testing.T) {
	t.Parallel()
	for _, code := range []codes.Code{codes.ResourceExhausted, codes.Aborted, codes.Unavailable} {
		for name, handler := range map[string]func(bidi) error{
			"RetryInfo":          sends(withRetryInfo(t, code, time.Minute)),
			"pushback":           pushesBack("60000", status.Error(code, "busy")),
			"the longer of both": pushesBack("1", withRetryInfo(t, code, time.Minute)),
		} {
			t.Run(fmt.Sprintf("%s, %s", code, name), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := scripted(t, handler, sends(nil, numbered(1)...))
					began := time.Now()
					got, err := receiveAll(w.mustDial(positions()))
					require.ErrorIs(t, err, io.EOF)
					require.Equal(t, upTo(1), got)
					require.Equal(t, time.Minute, time.Since(began), "as long as the server asked for")
				})
			})
			t.Run(fmt.Sprintf("%s, %s, in Resume", code, name), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := scripted(t, handler, sends(nil, numbered(1)...))
					cb := positions()
					cb.Resume = func(_ context.Context, r *resumption) error {
						if r.Attempt() == 1 {
							_, err := r.Recv()
							return err
						}
						return nil
					}
					began := time.Now()
					_, err := receiveAll(w.mustDial(cb))
					require.ErrorIs(t, err, io.EOF)
					require.Equal(t, time.Minute, time.Since(began))
				})
			})
		}
		t.Run(fmt.Sprintf("%s, not to be tried again", code), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				for _, ms := range []string{"-1", "soon"} {
					_, err := receiveAll(scripted(t, pushesBack(ms, status.Error(code, "busy"))).mustDial(positions()))
					wantEnd(t, err, stream.ReasonServer, code, "the server asked not to")
				}
			})
		})
	}
}

func TestWithResumable(t *testing.T) {
	t.Parallel()
	t.Run("more", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := scripted(t, sends(status.Error(codes.NotFound, "not yet"), numbered(1)...), sends(nil, numbered(2)...))
			yes := func(err error) bool { return status.Code(err) == codes.NotFound }
			got, err := receiveAll(w.mustDial(positions(), stream.WithResumable(yes)))
			require.ErrorIs(t, err, io.EOF)
			require.Equal(t, upTo(2), got)
		})
	})
	t.Run("less", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := scripted(t, sends(errGone, numbered(1)...))
			_, err := receiveAll(w.mustDial(positions(), stream.WithResumable(func(error) bool { return false })))
			wantEnd(t, err, stream.ReasonServer, codes.Unavailable, "the application's own table")
		})
	})
	t.Run("the safe defaults hold, and the end is the end", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			yes := stream.WithResumable(func(error) bool { return true })
			_, err := receiveAll(scripted(t, sends(errGone, numbered(1)...)).mustDial(callbacks{}, yes))
			wantEnd(t, err, stream.ReasonNoCheckpoint, codes.Unavailable, "all the same")
			_, err = receiveAll(scripted(t, sends(nil)).mustDial(callbacks{}, yes))
			require.ErrorIs(t, err, io.EOF)
		})
	})
}

func TestErrorsOfResume(t *testing.T) {
	t.Parallel()
	errOwn := errors.New("no token")
	receive := func(r *resumption) error {
		for {
			if _, err := r.Recv(); err != nil {
				return err
			}
		}
	}
	tests := map[string]struct {
		server error
		resume func(r *resumption) error
		reason stream.Reason
		code   codes.Code
	}{
		"of its own":                   {nil, func(*resumption) error { return errOwn }, stream.ReasonResume, codes.Unknown},
		"with a status":                {nil, func(*resumption) error { return status.Error(codes.Unauthenticated, "x") }, stream.ReasonServer, codes.Unauthenticated},
		"an EOF that is not the end":   {nil, func(*resumption) error { return io.EOF }, stream.ReasonResume, codes.Unknown},
		"what Recv said":               {status.Error(codes.NotFound, "x"), func(r *resumption) error { return receive(r) }, stream.ReasonServer, codes.NotFound},
		"what Recv said, in its words": {status.Error(codes.NotFound, "x"), func(r *resumption) error { _ = receive(r); return errOwn }, stream.ReasonServer, codes.NotFound},
		"an end that comes too early":  {nil, func(r *resumption) error { _ = receive(r); return errOwn }, stream.ReasonResume, codes.Unknown},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := scripted(t, sends(test.server))
				cb := positions()
				cb.Resume = func(_ context.Context, r *resumption) error { return test.resume(r) }
				_, err := w.dial(t.Context(), cb)
				wantEnd(t, err, test.reason, test.code, name)
				require.NotErrorIs(t, err, io.EOF, "that would be a good end")
			})
		})
	}
}

func TestWhatAnErrorTells(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		detailed := withRetryInfo(t, codes.FailedPrecondition, time.Hour)
		w := scripted(t, sends(errGone, numbered(1)...), sends(detailed))
		_, err := receiveAll(w.mustDial(positions()))
		var e *stream.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, "recv", e.Op)
		require.Equal(t, stream.ReasonServer, e.Reason)
		require.Equal(t, uint64(2), e.Attempts)
		require.Equal(t, codes.FailedPrecondition, e.GRPCStatus().Code())
		require.Len(t, status.Convert(err).Details(), 1, "the server's details come through")
		require.EqualError(t, err, "stream: recv: ended by the server (attempts: 2): rpc error: code = FailedPrecondition desc = busy")
		require.Equal(t, e.Cause, errors.Unwrap(err))
	})
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, stays())
		w.Refuse(true)
		_, err := w.dial(t.Context(), positions(), stream.WithStreamPolicies(retrypolicy.NewBuilder[any]().WithMaxRetries(1).Build()))
		var e *stream.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, "open", e.Op, "nothing was ever received")
		require.Equal(t, uint64(2), e.Attempts)
		require.ErrorIs(t, err, retrypolicy.ErrExceeded)
	})
	require.EqualError(t, &stream.Error{Op: "send", Reason: stream.ReasonClosed}, "stream: send: closed (attempts: 0)")
}

// Invariant 19: an RST_STREAM is resumable whatever code it becomes, but for one that will not get better.
func TestRSTStreamIsResumable(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		code codes.Code
		name string
	}{{codes.ResourceExhausted, "ENHANCE_YOUR_CALM"}, {codes.Internal, "PROTOCOL_ERROR"}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := scripted(t, sends(status.Error(c.code, "stream terminated by RST_STREAM with error code: "+c.name)), lasts(time.Second, nil, numbered(1)...))
				mustReceive(t, w.mustDial(positions()), 1)
			})
		})
	}
}

// Invariant 19: only the transport makes an INTERNAL of it.
func TestAHandlersUnexpectedEOFIsItsLastWord(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, func(bidi) error { return io.ErrUnexpectedEOF })
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		s, err := w.dial(ctx, positions())
		require.NoError(t, err)
		_, err = s.Recv()
		wantEnd(t, err, stream.ReasonServer, codes.Unknown, "the handler's error")
		require.Equal(t, uint64(1), s.Stats().Attempts)
	})
}

// An error of the application's own is not the transport's, whatever it says.
func TestResumesErrorThatSoundsLikeTheTransport(t *testing.T) {
	t.Parallel()
	for text, want := range map[error]stream.Reason{
		plainError("unexpected EOF"):                  stream.ReasonResume,
		plainError("transport: it is late"):           stream.ReasonResume,
		status.Error(codes.NotFound, "transport: no"): stream.ReasonServer,
	} {
		t.Run(text.Error(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := scripted(t, stays())
				cb := positions()
				cb.Resume = func(context.Context, *resumption) error { return text }
				_, err := w.dial(t.Context(), cb)
				requireReason(t, err, want, "end of the stream")
			})
		})
	}
}

type plainError string

func (e plainError) Error() string { return string(e) }
