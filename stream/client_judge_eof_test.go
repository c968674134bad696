package stream_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream"
)

// errToken is what net/http says of a connection that was closed.
var errToken = &url.Error{Op: "Post", URL: "https://auth/token", Err: io.EOF}

// Only the server's own io.EOF is the end of the stream. An open that fails with an error that wraps it is an open that
// failed, and no word of the server's (invariant 33).
func TestAnOpenThatFailsWithEOFIsNotTheEnd(t *testing.T) {
	t.Parallel()
	denied := status.Error(codes.PermissionDenied, "no")
	tests := map[string]struct {
		err    error
		reason stream.Reason
		got    []uint64
	}{
		"without a status":    {err: fmt.Errorf("fetching a token: %w", errToken), got: upTo(3)},
		"with a last word":    {err: fmt.Errorf("fetching a token: %w: %w", errToken, denied), reason: stream.ReasonServer, got: upTo(1)},
		"that may be resumed": {err: unavailable{errToken}, got: upTo(3)},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, &feed{handler: inOrder(sends(errGone, numbered(1)...), sends(nil, numbered(2, 3)...))},
					grpc.WithStreamInterceptor(opensWith(func(call int) error {
						if call == 2 {
							return test.err
						}
						return nil
					})))
				got, err := receiveAll(w.mustDial(positions()))
				require.Equal(t, test.got, got)
				if test.reason == stream.ReasonUnknown {
					require.Equal(t, io.EOF, err, "the server's own, on the third attempt")
					return
				}
				requireReason(t, err, test.reason, "end of the stream")
				require.NotErrorIs(t, err, io.EOF, "it would say that the server said OK")
				require.ErrorIs(t, err, errToken, "everything else is found in it")
				var token *url.Error
				require.ErrorAs(t, err, &token)
			})
		})
	}
}

// unavailable is an error that may be resumed, and wraps another.
type unavailable struct{ error }

func (e unavailable) Unwrap() error { return e.error }

func (unavailable) GRPCStatus() *status.Status { return status.New(codes.Unavailable, "no token") }

// Nor is it found in an Error by errors.Is, whoever it comes from.
func TestErrorsThatWrapEOFDoNotLookLikeTheEnd(t *testing.T) {
	t.Parallel()
	wrapped := fmt.Errorf("loading: %w", io.EOF)
	tests := map[string]struct {
		reason stream.Reason
		end    func(t *testing.T) error
	}{
		"of Lost": {stream.ReasonResume, func(t *testing.T) error {
			t.Helper()
			cb := positions()
			cb.Lost = func(context.Context, checkpoint.Position, error) (stream.Recovery, error) {
				return stream.Recovery{}, wrapped
			}
			_, err := receiveAll(scripted(t, sends(errCompacted, numbered(1)...)).mustDial(cb))
			return err
		}},
		"of the store, at the start": {stream.ReasonStore, func(t *testing.T) error {
			t.Helper()
			store := new(faultyStore)
			store.set(wrapped, 0)
			_, err := newWorld(t, &feed{}).open(t.Context(), stream.WithStore(store, "key"))
			return err
		}},
		"of the store, in Commit": {stream.ReasonStore, func(t *testing.T) error {
			t.Helper()
			store := new(faultyStore)
			s, err := newWorld(t, &feed{total: 1}).open(t.Context(), stream.WithStore(store, "key"))
			require.NoError(t, err)
			defer func() { requireReason(t, s.Close(), stream.ReasonStore, "Close") }()
			mustReceive(t, s, 1)
			store.set(wrapped, 0)
			return s.Commit(t.Context())
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				err := test.end(t)
				requireReason(t, err, test.reason, name)
				require.NotErrorIs(t, err, io.EOF)
				require.ErrorContains(t, err, "loading: EOF", "what happened is told all the same")
			})
		})
	}
}

// The application may cancel its context with io.EOF, as errgroup does with another goroutine's error.
func TestAContextCancelledWithEOF(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, stays(numbered(1)...))
		ctx, cancel := context.WithCancelCause(t.Context())
		s, err := w.dial(ctx, positions())
		require.NoError(t, err)
		mustReceive(t, s, 1)
		cancel(io.EOF)
		_, err = s.Recv()
		wantEnd(t, err, stream.ReasonContext, codes.Canceled, "the application has cancelled")
		require.NotErrorIs(t, err, io.EOF)
		require.True(t, errors.Is(err, context.Canceled))
	})
}
