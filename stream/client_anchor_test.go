package stream_test

import (
	"context"
	"io"
	"math"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream"
)

// Invariant 1: an anchor at the beginning of a history is kept as one. Where the next attempt begins later, what came in
// between is lost, and that is told.
func TestAnAnchorAtTheBeginning(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		anchors []checkpoint.Position
		lost    bool
	}{
		"a later one":         {anchors: []checkpoint.Position{{}, at(3)}, lost: true},
		"the same":            {anchors: []checkpoint.Position{{}, {}}},
		"in a lineage":        {anchors: []checkpoint.Position{{Lineage: "a"}, {Lineage: "a", Seq: 3}}, lost: true},
		"in another lineage":  {anchors: []checkpoint.Position{{Lineage: "a"}, {Lineage: "b"}}, lost: true},
		"in the same lineage": {anchors: []checkpoint.Position{{Lineage: "a"}, {Lineage: "a"}}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := scripted(t, sends(errGone), sends(nil, numbered(4, 5)...))
				cb := positions()
				lineage := test.anchors[0].Lineage
				cb.Checkpoint = func(m *response) (checkpoint.Position, bool) {
					return checkpoint.Position{Lineage: lineage, Seq: frameOf(m).seq}, true
				}
				cb.Resume = func(_ context.Context, r *resumption) error {
					r.StartsAt(test.anchors[r.Attempt()-1])
					return nil
				}
				got, err := receiveAll(w.mustDial(cb))
				if test.lost {
					wantEnd(t, err, stream.ReasonPositionLost, codes.OutOfRange, "what came between the attempts")
					require.Empty(t, got)
					return
				}
				require.ErrorIs(t, err, io.EOF)
				require.Equal(t, []uint64{4, 5}, got)
			})
		})
	}
}

// Invariant 1: the position is anchored when the stream opens. Without that, what the server has at the first attempt
// and no longer at the second would be skipped.
func TestABreakBeforeTheFirstMessageLosesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, sends(errGone), sends(nil, numbered(8, 9)...))
		var seen froms
		cb := positions()
		cb.Resume = seen.resume(func(_ context.Context, r *resumption) error {
			if r.Attempt() == 1 {
				r.StartsAt(at(7)) // "from now on", says the server, is after 7
			}
			return nil
		})
		s := w.mustDial(cb)
		require.Equal(t, at(7), s.Stats().Delivered, "before any message")
		got, err := receiveAll(s)
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, []uint64{8, 9}, got)
		require.Equal(t, froms{{}, at(7)}, seen, "the second attempt starts where the first began")
	})
}

// An anchor past the position says that what lies between is gone: no message after it is handed over as if it followed.
func TestAnAnchorThatDoesNotFit(t *testing.T) {
	t.Parallel()
	anchors := map[string]checkpoint.Position{
		"past the position": at(5),
		"another lineage":   {Lineage: "restored", Seq: 2},
	}
	for name, anchor := range anchors {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := scripted(t, sends(errGone, numbered(1, 2)...), stays(numbered(6, 7)...), sends(nil, numbered(1, 2, 3)...))
				var seen froms
				cb := positions()
				cb.Resume = seen.resume(func(_ context.Context, r *resumption) error {
					if r.Attempt() == 2 {
						m, err := r.Recv()
						if err != nil {
							return err
						}
						r.Deliver(m)
						r.StartsAt(anchor)
					}
					return nil
				})
				var lostAt []checkpoint.Position
				cb.Lost = func(_ context.Context, at checkpoint.Position, cause error) (stream.Recovery, error) {
					require.ErrorIs(t, cause, stream.ErrPositionLost)
					lostAt = append(lostAt, at)
					return stream.RestartFrom(checkpoint.Position{}), nil
				}
				got, err := receiveAll(w.mustDial(cb))
				require.ErrorIs(t, err, io.EOF)
				require.Equal(t, []uint64{1, 2, 1, 2, 3}, got, "nothing of the attempt that began too late")
				require.Equal(t, []checkpoint.Position{at(2)}, lostAt, "once")
				require.Equal(t, froms{{}, at(2), {}}, seen)
			})
		})
	}
}

func TestAnAnchorThatFits(t *testing.T) {
	t.Parallel()
	for name, anchor := range map[string]checkpoint.Position{"at the position": at(2), "before it": at(1)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := scripted(t, sends(errGone, numbered(1, 2)...), sends(nil, numbered(2, 3)...))
				cb := positions()
				cb.Resume = func(_ context.Context, r *resumption) error {
					if r.Attempt() == 2 {
						r.StartsAt(anchor)
					}
					return nil
				}
				got, err := receiveAll(w.mustDial(cb))
				require.ErrorIs(t, err, io.EOF)
				require.Equal(t, upTo(3), got)
			})
		})
	}
}

// A stream that begins at the highest number would take all that follows for repeated, and drop it.
func TestAnAnchorThatNoNumberFollows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, stays(numbered(1)...))
		cb := positions()
		cb.Resume = func(_ context.Context, r *resumption) error {
			r.StartsAt(at(math.MaxUint64))
			return nil
		}
		_, err := w.dial(t.Context(), cb)
		wantEnd(t, err, stream.ReasonProtocol, codes.Internal, "nothing is dropped silently")
		require.ErrorContains(t, err, "none follows")
	})
}
