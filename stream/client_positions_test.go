package stream_test

import (
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/internal/testnet"
	"github.com/streamsafe/streamsafe/stream"
)

// Invariant 6: a bookmark that repeats the last number says nothing of a message that came after that number: it does not
// take the stream past it. Where nothing came after the number, the bookmark's token is the newer one.
func TestABookmarkThatRepeatsTheLastNumber(t *testing.T) {
	t.Parallel()
	token := func(s string) checkpoint.Position { return checkpoint.Position{Seq: 1, Token: s} }
	tests := map[string]struct {
		frames []frame
		from   checkpoint.Position
		again  uint64 // messages that may come again
	}{
		"after a message that it does not cover": {
			frames: []frame{{kind: data, seq: 1}, {kind: fragment, seq: 11}, {kind: bookmark, seq: 1}},
			from:   token("data"), again: 1,
		},
		"after nothing": {
			frames: []frame{{kind: data, seq: 1}, {kind: bookmark, seq: 1}},
			from:   token("bookmark"),
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := scripted(t, sends(errGone, test.frames...), sends(nil))
				var d diary
				var seen froms
				cb := positions()
				cb.Resume = seen.resume(nil)
				cb.Checkpoint = func(m *response) (checkpoint.Position, bool) {
					f := frameOf(m)
					tokens := map[kind]string{data: "data", bookmark: "bookmark"}
					return checkpoint.Position{Seq: f.seq, Token: tokens[f.kind]}, f.kind != fragment
				}
				got, err := receiveAll(w.mustDial(cb, stream.WithObserver(&d)))
				require.Equal(t, io.EOF, err)
				require.Len(t, got, int(1+test.again)) //nolint:gosec // small
				require.Equal(t, froms{{}, test.from}, seen, "where the attempts start")
				synctest.Wait()
				rewound := uint64(0)
				for _, e := range d.of("rewound") {
					rewound += e.count
				}
				require.Equal(t, test.again, rewound, "messages that may come again")
			})
		})
	}
}

func TestWhatAResumeThatFailsToldIsForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, stays(), sends(nil, numbered(1)...))
		var seen froms
		cb := positions()
		cb.Resume = seen.resume(func(_ context.Context, r *resumption) error {
			if r.Attempt() == 1 {
				r.StartsAt(at(7))
				r.Deliver(frame{kind: data, seq: 8}.response())
				return errGone
			}
			return nil
		})
		got, err := receiveAll(w.mustDial(cb))
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, upTo(1), got)
		require.Equal(t, froms{{}, {}}, seen)
	})
}

// Messages come again, and are dropped by their numbers.
func TestDuplicatesAreDroppedBySeq(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, sends(errGone, numbered(1, 2, 3, 4)...), sends(errGone, numbered(2, 3, 4, 5)...), sends(nil, numbered(1, 5, 6)...))
		var d diary
		s := w.mustDial(positions(), stream.WithObserver(&d))
		got, err := receiveAll(s)
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, upTo(6), got)
		require.Equal(t, uint64(5), s.Stats().Duplicates)
		synctest.Wait()
		require.Len(t, d.of("duplicate"), 5)
		require.Equal(t, at(2), d.of("duplicate")[0].at)
		require.Empty(t, d.of("rewound"), "each message has a position: none can come again unseen")
	})
}

// Tokens have no order: the server's word is taken for it, and the next attempt gets the last one.
func TestUnorderedTokens(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, sends(errGone, numbered(30, 10, 20)...), sends(nil, numbered(5)...))
		token := func(m *response) checkpoint.Position {
			return checkpoint.Position{Token: string(rune('a' + frameOf(m).seq))}
		}
		var seen froms
		s := w.mustDial(callbacks{
			Resume:     seen.resume(nil),
			Checkpoint: func(m *response) (checkpoint.Position, bool) { return token(m), true },
		})
		got, err := receiveAll(s)
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, []uint64{30, 10, 20, 5}, got)
		require.Equal(t, froms{{}, {Token: string(rune('a' + 20))}}, seen)
	})
}

// DeliverImmediately: what came after the last position was handed over, and may come again. That is an event.
func TestDeliverImmediatelyRewinds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		unit := []frame{{kind: fragment, seq: 101}, {kind: fragment, seq: 102}, {kind: data, seq: 2}}
		w := scripted(t, sends(errGone, append(numbered(1), unit[:2]...)...), sends(nil, unit...))
		var d diary
		s := w.mustDial(positions(), stream.WithObserver(&d), stream.DeliverImmediately())
		got, err := receiveAll(s)
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, []uint64{1, 101, 102, 101, 102, 2}, got, "at least once")
		synctest.Wait()
		require.Len(t, d.of("rewound"), 1)
		require.Equal(t, uint64(2), d.of("rewound")[0].count)
		require.Equal(t, uint64(1), d.of("rewound")[0].info.Attempt, "the attempt that was lost")
	})
}

// Invariant 6: a bookmark is in order with the data. It moves the position when what came before it was handed over.
func TestBookmarksAreInOrderWithData(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t,
			lasts(time.Minute, errGone, frame{kind: data, seq: 1}, frame{kind: bookmark, seq: 5}, frame{kind: data, seq: 6}, frame{kind: bookmark, seq: 9}),
			sends(nil, numbered(10)...))
		var seen froms
		cb := positions()
		cb.Resume = seen.resume(nil)
		s := w.mustDial(cb)
		mustReceive(t, s, 1)
		synctest.Wait()
		require.Equal(t, at(1), s.Stats().Delivered, "the bookmark was not received yet")
		mustReceive(t, s, 6)
		require.Equal(t, at(6), s.Stats().Delivered, "the first bookmark, and the message after it")
		mustReceive(t, s, 10)
		require.Equal(t, froms{{}, at(9)}, seen, "a bookmark after the last message counts")
		_, err := s.Recv()
		require.ErrorIs(t, err, io.EOF)
	})
}

func TestDeliverComesFirstAndInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, sends(errGone, numbered(1, 2, 3, 4)...), sends(nil, numbered(4, 5, 6, 7)...))
		cb := positions()
		cb.Resume = delivers(3)
		s := w.mustDial(cb)
		got, err := receiveAll(s)
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, upTo(7), got)
		require.Equal(t, uint64(1), s.Stats().Duplicates, "they go through Checkpoint like all others")
	})
}

// Invariant 14: nothing remains, so nothing is sent. Policies do not try again.
func TestComplete(t *testing.T) {
	t.Parallel()
	complete := func(ends uint64) func(context.Context, *resumption) error {
		return func(_ context.Context, r *resumption) error {
			if r.Attempt() >= ends {
				return stream.Complete
			}
			return nil
		}
	}
	again := stream.NewRetryPolicyBuilder().HandleIf(func(_ any, err error) bool { return err != nil }).Build()
	t.Run("at once", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := scripted(t, stays())
			cb := positions()
			cb.Resume = complete(1)
			s, err := w.dial(t.Context(), cb, stream.WithStreamPolicies(again), stream.WithOpenPolicies(again))
			require.Nil(t, s)
			require.True(t, err == io.EOF, "bare: %v", err) //nolint:errorlint // that is what is asked
			require.LessOrEqual(t, handled(w), 1, "opened once")
		})
	})
	t.Run("after a break", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := scripted(t, sends(errGone, numbered(1)...), stays())
			cb := positions()
			cb.Resume = complete(2)
			s := w.mustDial(cb, stream.WithStreamPolicies(again), stream.WithOpenPolicies(again))
			got, err := receiveAll(s)
			require.True(t, err == io.EOF, "bare: %v", err) //nolint:errorlint // that is what is asked
			require.Equal(t, upTo(1), got)
			require.Equal(t, uint64(2), s.Stats().Attempts)
			require.ErrorIs(t, s.Send(frame{kind: data}.request()), io.EOF)
		})
	})
}

// Invariant 2: the position moves when a message is handed over, and not when it arrives. What arrived on an attempt
// that only Send saw die is kept for Recv, and not asked for again.
func TestPositionMovesWithHandOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &feed{total: 3}
		w := newWorld(t, f)
		s := w.mustOpen(withReplay())
		rest(time.Second)
		require.Zero(t, s.Stats().Delivered, "three messages have arrived, and nobody has called Recv")
		w.Cut(testnet.FIN)
		synctest.Wait()
		mustSend(t, s, 1, 1)
		rest(time.Minute)
		require.Equal(t, 3, s.Stats().Waiting, "messages kept for Recv")
		require.Zero(t, s.Stats().Delivered, "still nobody has called Recv")
		for seq := uint64(1); seq <= 3; seq++ {
			mustReceive(t, s, seq)
			require.Equal(t, seq, s.Stats().Delivered.Seq)
			require.Equal(t, seq-1, s.Stats().Processed.Seq, "the message handed over is not processed yet")
		}
		require.NoError(t, s.CloseSend())
		require.ErrorIs(t, drain(s), io.EOF)
		require.Zero(t, s.Stats().Duplicates, "messages that came again")
		require.Equal(t, upTo(1), f.stored)
	})
}
