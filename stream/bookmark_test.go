package stream_test

import (
	"context"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream"
)

// A bookmark where the stream stands says nothing of what follows: a gap that is still there after it ends the stream.
func TestABookmarkDoesNotMendAGap(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, stays(numbered(1, 3)...), stays(frame{kind: bookmark, seq: 1}, frame{kind: data, seq: 3}))
		s := w.mustDial(positions(), stream.WithGapDetection())
		time.AfterFunc(time.Hour, func() { _ = s.Close() })
		got, err := receiveAll(s)
		wantEnd(t, err, stream.ReasonGap, codes.DataLoss, "2 is still missing")
		require.Equal(t, upTo(1), got)
		require.Equal(t, uint64(2), s.Stats().Attempts)
	})
}

// Progress does: the next gap is another one.
func TestAGapAfterProgressIsAnotherOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, stays(numbered(1, 3)...), stays(numbered(2, 4)...), sends(nil, numbered(3, 4)...))
		got, err := receiveAll(w.mustDial(positions(), stream.WithGapDetection()))
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, upTo(4), got)
	})
}

// unitWithBookmark is a message without a position, and a bookmark that ends the unit.
func unitWithBookmark(n uint64) []frame {
	return []frame{{kind: fragment, seq: 10*n + 1}, {kind: bookmark, seq: n}}
}

// With holding, a unit that comes again is dropped whole, also where it ends in a bookmark (invariant 5).
func TestAUnitThatEndsInABookmarkIsHandedOverOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		two := slices.Concat(unitWithBookmark(1), unitWithBookmark(2))
		w := scripted(t, sends(errGone, two...), sends(nil, slices.Concat(unitWithBookmark(1), unitWithBookmark(3))...))
		var d diary
		s := w.mustDial(positions(), stream.HoldUntilCheckpoint(1<<20, stream.OverflowFail), stream.WithObserver(&d))
		got, err := receiveAll(s)
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, []uint64{11, 21, 31}, got)
		require.Equal(t, uint64(1), s.Stats().Duplicates, "the bookmark does not count")
		synctest.Wait()
		require.Len(t, d.of("duplicate"), 1)
		require.Equal(t, uint64(1), d.of("duplicate")[0].count)
	})
}

// One at the position may be a heartbeat inside a unit: what is held is kept, and is not handed over yet.
func TestABookmarkInsideAUnit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rest := make(chan struct{})
		w := scripted(t, func(s bidi) error {
			err := sends(nil, frame{kind: data, seq: 1}, frame{kind: fragment, seq: 21}, frame{kind: bookmark, seq: 1},
				frame{kind: fragment, seq: 22})(s)
			if err != nil {
				return err
			}
			<-rest
			return sends(nil, numbered(2)...)(s)
		})
		s := w.mustDial(positions(), stream.HoldUntilCheckpoint(1<<20, stream.OverflowFail))
		mustReceive(t, s, 1)
		time.AfterFunc(time.Minute, func() {
			defer close(rest)
			require.Equal(t, 2, s.Stats().Held)
			require.Equal(t, uint64(1), s.Stats().Deliveries)
		})
		mustReceive(t, s, 21, 22, 2)
		require.Zero(t, s.Stats().Duplicates)
	})
}

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
