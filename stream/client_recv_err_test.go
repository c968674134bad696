package stream_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream"
)

// What a message says counts like what a status says (invariant 16).
func TestAnErrorInAMessage(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		told   error
		reason stream.Reason // ReasonUnknown: the stream ends with io.EOF
		code   codes.Code
		got    []uint64
	}{
		"worth resuming":     {told: status.Error(codes.Unavailable, "no leader"), got: upTo(3)},
		"the last word":      {told: status.Error(codes.PermissionDenied, "no"), reason: stream.ReasonServer, code: codes.PermissionDenied, got: upTo(2)},
		"without a status":   {told: errors.New("odd"), reason: stream.ReasonServer, code: codes.Unknown, got: upTo(2)},
		"the end, as io.EOF": {told: fmt.Errorf("done: %w", io.EOF), got: upTo(2)},
		"the end, Complete":  {told: stream.Complete, got: upTo(2)},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := scripted(t,
					stays(frame{kind: data, seq: 1}, frame{kind: data, seq: 2}, frame{kind: failure}, frame{kind: data, seq: 3}),
					sends(nil, numbered(3)...))
				cb := positions()
				cb.Err = tells(test.told)
				cb.Acked = func(m *response) (uint64, bool) {
					require.NotEqual(t, failure, frameOf(m).kind, "no other callback sees it")
					return 0, false
				}
				s := w.mustDial(cb)
				got, err := receiveAll(s)
				require.Equal(t, test.got, got)
				require.Equal(t, uint64(len(got))+1, s.Stats().Received, "the message that tells counts, too")
				if test.reason == stream.ReasonUnknown {
					require.Equal(t, io.EOF, err)
				} else {
					wantEnd(t, err, test.reason, test.code, "told by a message")
					require.ErrorIs(t, err, test.told)
				}
			})
		})
	}
}

// Where a message says that this was all, what is held is complete. Any other break drops it, as it comes again.
func TestWhatIsHeldWhenAMessageTellsOfTheEnd(t *testing.T) {
	t.Parallel()
	for told, want := range map[error]uint64{io.EOF: 2, stream.Complete: 2, errGone: 3} {
		synctest.Test(t, func(t *testing.T) {
			w := scripted(t, stays(frame{kind: data, seq: 1}, frame{kind: fragment, seq: 2}, frame{kind: failure}),
				sends(nil, frame{kind: fragment, seq: 2}, frame{kind: data, seq: 3}))
			cb := positions()
			cb.Err = tells(told)
			got, err := receiveAll(w.mustDial(cb, stream.HoldUntilCheckpoint(1<<10, stream.OverflowFail)))
			require.Equal(t, io.EOF, err)
			require.Equal(t, upTo(want), got)
		})
	}
}

// It makes no difference who received the message: Resume, or the lifecycle goroutine from a dead attempt.
func TestAnErrorInAMessageThatRecvDoesNotMeet(t *testing.T) {
	t.Parallel()
	refused := status.Error(codes.PermissionDenied, "no")
	t.Run("delivered by Resume", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := scripted(t, stays(frame{kind: data, seq: 1}, frame{kind: failure}, frame{kind: data, seq: 2}))
			cb := positions()
			cb.Err = tells(refused)
			at := cb.Checkpoint
			cb.Checkpoint = func(m *response) (checkpoint.Position, bool) {
				require.Equal(t, uint64(1), frameOf(m).seq, "what follows the failure is not shown: a callback's own state would run ahead")
				return at(m)
			}
			cb.Resume = delivers(3)
			got, err := receiveAll(w.mustDial(cb))
			require.Equal(t, upTo(1), got)
			wantEnd(t, err, stream.ReasonServer, codes.PermissionDenied, "told by a message")
		})
	})
	t.Run("left on a dead attempt", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := scripted(t, sends(errGone, frame{kind: data, seq: 1}, frame{kind: failure}), sends(nil))
			cb := positions()
			cb.Err = tells(refused)
			s := w.mustDial(cb, stream.WithAtMostOnceSends())
			synctest.Wait() // the server has ended the attempt
			require.ErrorIs(t, s.Send(frame{kind: data, seq: 1}.request()), io.EOF, "the server ended the stream")
			got, err := receiveAll(s)
			require.Equal(t, upTo(1), got)
			wantEnd(t, err, stream.ReasonServer, codes.PermissionDenied, "told by a message")
		})
	})
}

// The recipe of Lost's documentation: what the application has to know of a loss reaches it in its place in the stream,
// once, whatever breaks in the meantime.
func TestTellOfALossInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		untold := checkpoint.Position{Token: "the application has still to be told of 7"} // no Seq: what is delivered takes it there
		w := scripted(t, stays(frame{kind: data, seq: 1}, frame{kind: data, seq: 2}, frame{kind: failure}), sends(errGone), sends(nil, numbered(8)...))
		cb := positions()
		cb.Err = tells(stream.ErrPositionLost)
		cb.Lost = func(context.Context, checkpoint.Position, error) (stream.Recovery, error) {
			return stream.RestartFrom(untold), nil
		}
		cb.Resume = func(_ context.Context, r *resumption) error {
			if r.Position() == untold {
				if r.Attempt() == 2 {
					return errGone // and again
				}
				r.Deliver(frame{kind: failure + 1, seq: 7}.response())
			}
			return nil
		}
		at := cb.Checkpoint
		cb.Checkpoint = func(m *response) (checkpoint.Position, bool) {
			if f := frameOf(m); f.kind == failure+1 {
				return checkpoint.Position{Seq: f.seq}, true
			}
			return at(m)
		}
		cb.Control = nil
		got, err := receiveAll(w.mustDial(cb))
		require.Equal(t, io.EOF, err)
		require.Equal(t, []uint64{1, 2, 7, 8}, got)
	})
}
