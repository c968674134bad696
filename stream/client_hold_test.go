package stream_test

import (
	"context"
	"fmt"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/internal/testnet"
	"github.com/streamsafe/streamsafe/stream"
)

// units is a server whose messages come in units of three: two fragments, and a third with a position. It starts after
// the position it is told.
func units(total uint64) func(bidi) error {
	return func(s bidi) error {
		m, err := s.Recv()
		if err != nil {
			return err
		}
		for seq := frameOf(m).seq + 1; seq <= total; seq++ {
			unit := []frame{{kind: fragment, seq: 100*seq + 1}, {kind: fragment, seq: 100*seq + 2}, {kind: data, seq: seq}}
			if err := sends(nil, unit...)(s); err != nil {
				return err
			}
		}
		return nil
	}
}

func wholeUnits(total uint64) []uint64 {
	var all []uint64
	for seq := uint64(1); seq <= total; seq++ {
		all = append(all, 100*seq+1, 100*seq+2, seq)
	}
	return all
}

// Invariant 5: a checkpoint is never inside a unit. With holding, a unit is handed over once, wherever the break is.
func TestHoldingIsExactlyOnceWhereverTheBreakIs(t *testing.T) {
	t.Parallel()
	for n := 1; n <= 12; n++ {
		for _, where := range []testnet.Where{testnet.Before, testnet.Inside, testnet.After} {
			t.Run(fmt.Sprintf("%s message %d", where, n), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := scripted(t, units(4))
					w.Arm(testnet.Fault{Kind: testnet.RST, Direction: testnet.ToClient, Message: n, Where: where})
					cb := positions()
					cb.Resume = greets
					s := w.mustDial(cb, stream.HoldUntilCheckpoint(1<<20, stream.OverflowFail))
					got, err := receiveAll(s)
					require.ErrorIs(t, err, io.EOF)
					require.Equal(t, wholeUnits(4), got)
					require.Equal(t, uint64(1), s.Stats().Outages)
				})
			})
		}
	}
}

func TestHeldMessagesAreNotHandedOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		w := scripted(t, func(s bidi) error {
			if err := sends(nil, frame{kind: fragment, seq: 11}, frame{kind: fragment, seq: 12})(s); err != nil {
				return err
			}
			<-release
			return sends(nil, numbered(1)...)(s)
		})
		s := w.mustDial(positions(), stream.HoldUntilCheckpoint(1<<20, stream.OverflowFail))
		got := make(chan uint64, 10)
		go func() { // ends with the stream
			for {
				m, err := s.Recv()
				if err != nil {
					close(got)
					return
				}
				got <- frameOf(m).seq
			}
		}()
		synctest.Wait()
		require.Empty(t, got)
		st := s.Stats()
		require.Equal(t, 2, st.Held)
		require.Equal(t, uint64(0), st.Deliveries)
		require.Equal(t, 2*96, st.HeldSize, "a small message counts for 96 bytes")
		close(release)
		for _, seq := range []uint64{11, 12, 1} {
			require.Equal(t, seq, within(t, got, "a held message"))
		}
		_, open := <-got
		require.False(t, open)
		require.Zero(t, s.Stats().HeldSize)
	})
}

// frameSize is the encoded size of a response.
func frameSize(f frame) int { return len(f.payload().GetBody()) + 4 }

// A bookmark releases what is held, and is not handed over itself (invariants 5 and 6).
func TestABookmarkReleasesWhatIsHeld(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, sends(nil, frame{kind: fragment, seq: 11}, frame{kind: ack}, frame{kind: fragment, seq: 12}, frame{kind: bookmark, seq: 1}))
		s := w.mustDial(positions(), stream.HoldUntilCheckpoint(1<<20, stream.OverflowFail))
		got, err := receiveAll(s)
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, []uint64{11, 12}, got)
		require.Equal(t, at(1), s.Stats().Delivered)
	})
}

// What a server sent before it ended the stream does not come again, so it is not held back.
func TestAnUnfinishedUnitAtTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, sends(nil, frame{kind: data, seq: 1}, frame{kind: fragment, seq: 21}))
		s := w.mustDial(positions(), stream.HoldUntilCheckpoint(1<<20, stream.OverflowFail))
		got, err := receiveAll(s)
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, []uint64{1, 21}, got)
		require.Equal(t, at(1), s.Stats().Delivered)
	})
}

func TestHeldOverflow(t *testing.T) {
	t.Parallel()
	limit := 2*frameSize(frame{size: 100}) + 10
	flood := func(err error) func(bidi) error {
		return sends(err, frame{kind: fragment, seq: 11, size: 100}, frame{kind: fragment, seq: 12, size: 100},
			frame{kind: fragment, seq: 13, size: 100}, frame{kind: fragment, seq: 14, size: 100}, frame{kind: data, seq: 1})
	}
	t.Run("fails", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := scripted(t, flood(nil))
			var d diary
			s := w.mustDial(positions(), stream.HoldUntilCheckpoint(limit, stream.OverflowFail), stream.WithObserver(&d))
			got, err := receiveAll(s)
			wantEnd(t, err, stream.ReasonHeldOverflow, codes.ResourceExhausted, "more than may be held")
			require.Empty(t, got, "nothing of the unit")
			require.Equal(t, uint64(1), s.Stats().Attempts, "it would come again")
			synctest.Wait()
			require.Len(t, d.of("overflow"), 1)
			require.Equal(t, uint64(3), d.of("overflow")[0].count)
			require.Equal(t, 3*frameSize(frame{size: 100}), d.of("overflow")[0].bytes)
		})
	})
	t.Run("delivers", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := scripted(t, flood(errGone), sends(nil, numbered(2)...))
			var d diary
			s := w.mustDial(positions(), stream.HoldUntilCheckpoint(limit, stream.OverflowDeliver), stream.WithObserver(&d))
			got, err := receiveAll(s)
			require.ErrorIs(t, err, io.EOF)
			require.Equal(t, []uint64{11, 12, 13, 14, 1, 2}, got, "in order")
			synctest.Wait()
			require.Len(t, d.of("overflow"), 1)
			require.Empty(t, d.of("rewound"), "the unit was finished before the break")
		})
	})
	t.Run("delivers, and may come again", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			half := sends(errGone, frame{kind: fragment, seq: 11, size: 300}, frame{kind: fragment, seq: 12})
			w := scripted(t, half, flood(nil))
			var d diary
			s := w.mustDial(positions(), stream.HoldUntilCheckpoint(limit, stream.OverflowDeliver), stream.WithObserver(&d))
			got, err := receiveAll(s)
			require.ErrorIs(t, err, io.EOF)
			require.Equal(t, []uint64{11, 11, 12, 13, 14, 1}, got, "the held one was dropped, the one over the limit was not")
			synctest.Wait()
			require.Equal(t, uint64(1), d.of("rewound")[0].count)
		})
	})
}

// RecvMsg fills the caller's message, also where another one was held in its place.
func TestHoldingWithRecvMsg(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, units(3))
		cb := positions()
		cb.Resume = greets
		s := w.mustDial(cb, stream.HoldUntilCheckpoint(1<<20, stream.OverflowFail))
		var got []uint64
		m := new(response)
		for {
			err := s.RecvMsg(m)
			if err != nil {
				require.ErrorIs(t, err, io.EOF)
				break
			}
			got = append(got, frameOf(m).seq)
		}
		require.Equal(t, wholeUnits(3), got)
	})
}

// Duplicates come with the fragments before them, which are duplicates too.
func TestAUnitThatComesAgainIsDroppedWhole(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, lasts(time.Second, errGone, frame{kind: fragment, seq: 11}, frame{kind: data, seq: 1}),
			sends(nil, frame{kind: fragment, seq: 11}, frame{kind: data, seq: 1}, frame{kind: fragment, seq: 21}, frame{kind: data, seq: 2}))
		s, err := w.dial(context.WithoutCancel(t.Context()), positions(), stream.HoldUntilCheckpoint(1<<20, stream.OverflowFail))
		require.NoError(t, err)
		got, err := receiveAll(s)
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, []uint64{11, 1, 21, 2}, got)
		require.Equal(t, uint64(2), s.Stats().Duplicates)
	})
}

// What Resume has made itself counts with its own size, too.
func TestSizesOfMessagesThatResumeHasMade(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		made := frame{kind: fragment, seq: 1, size: 400}
		for n, fits := range []bool{1: true, 2: true, 3: false} {
			cb := positions()
			cb.Resume = func(_ context.Context, r *resumption) error {
				for range n {
					r.Deliver(made.response())
				}
				return nil
			}
			s := scripted(t, stays()).mustDial(cb, stream.HoldUntilCheckpoint(1000, stream.OverflowFail))
			ended := receiving(s)
			synctest.Wait()
			if !fits && n > 0 {
				wantEnd(t, within(t, ended, "the end of Recv"), stream.ReasonHeldOverflow, codes.ResourceExhausted, "more than may be held")
				continue
			}
			require.Empty(t, ended)
			require.Equal(t, n*proto.Size(made.response()), s.Stats().HeldSize, "%d messages", n)
		}
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

// Invariant 8: an empty message takes memory, too.
func TestHeldMessagesWithoutASizeAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const n = 100_000
		w := scripted(t, func(s bidi) error {
			for range n {
				if err := s.Send(&response{}); err != nil {
					return err
				}
			}
			<-s.Context().Done()
			return nil
		})
		cb := callbacks{
			Resume:     saysNothing,
			Checkpoint: func(*response) (checkpoint.Position, bool) { return checkpoint.Position{}, false },
		}
		s := w.mustDial(cb, stream.HoldUntilCheckpoint(1000, stream.OverflowFail))
		go func() { _, _ = s.Recv() }()
		time.Sleep(time.Minute)
		require.Less(t, s.Stats().Held, n)
	})
}

// What Resume delivers counts with its own size.
func TestSizesOfDeliveredMessages(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, stays(frame{kind: fragment, seq: 1, size: 10000}, frame{kind: fragment, seq: 2}))
		cb := positions()
		cb.Resume = func(_ context.Context, r *resumption) error {
			for range 2 {
				m, err := r.Recv()
				if err != nil {
					return err
				}
				r.Deliver(m)
			}
			return nil
		}
		s := w.mustDial(cb, stream.HoldUntilCheckpoint(1000, stream.OverflowFail))
		_, err := s.Recv()
		wantEnd(t, err, stream.ReasonHeldOverflow, codes.ResourceExhausted, "the first is larger than the limit")
	})
}
