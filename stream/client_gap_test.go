package stream_test

import (
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

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

func TestGapDetection(t *testing.T) {
	t.Parallel()
	t.Run("a gap that heals", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := scripted(t, stays(frame{kind: data, seq: 1}, frame{kind: data, seq: 3}, frame{kind: fragment, seq: 99}, frame{kind: data, seq: 4}),
				sends(nil, numbered(2, 3, 4)...))
			var d diary
			s := w.mustDial(positions(), stream.WithGapDetection(), stream.WithObserver(&d))
			got, err := receiveAll(s)
			require.ErrorIs(t, err, io.EOF)
			require.Equal(t, upTo(4), got, "nothing after the gap was handed over before it was closed")
			synctest.Wait()
			require.Len(t, d.of("gap"), 1)
		})
	})
	t.Run("a gap that stays", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := scripted(t, stays(numbered(1, 3)...), stays(numbered(4)...))
			s := w.mustDial(positions(), stream.WithGapDetection())
			got, err := receiveAll(s)
			wantEnd(t, err, stream.ReasonGap, codes.DataLoss, "after one resume")
			require.Equal(t, upTo(1), got)
			require.Equal(t, uint64(2), s.Stats().Attempts)
		})
	})
	t.Run("two gaps that heal", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := scripted(t, stays(numbered(1, 3)...), stays(numbered(2, 3, 5)...), sends(nil, numbered(4, 5)...))
			got, err := receiveAll(w.mustDial(positions(), stream.WithGapDetection()))
			require.ErrorIs(t, err, io.EOF)
			require.Equal(t, upTo(5), got)
		})
	})
	t.Run("a bookmark may jump", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := scripted(t, sends(nil, frame{kind: data, seq: 1}, frame{kind: bookmark, seq: 7}, frame{kind: data, seq: 8}))
			got, err := receiveAll(w.mustDial(positions(), stream.WithGapDetection()))
			require.ErrorIs(t, err, io.EOF)
			require.Equal(t, []uint64{1, 8}, got)
		})
	})
	t.Run("off", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := scripted(t, sends(nil, numbered(1, 3)...))
			got, err := receiveAll(w.mustDial(positions()))
			require.ErrorIs(t, err, io.EOF)
			require.Equal(t, []uint64{1, 3}, got)
		})
	})
}
