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
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream"
)

// froms are the positions that the attempts of a stream were told to start from.
type froms []checkpoint.Position

func (f *froms) resume(next func(context.Context, *resumption) error) func(context.Context, *resumption) error {
	return func(ctx context.Context, r *resumption) error {
		*f = append(*f, r.Position())
		if next == nil {
			return nil
		}
		return next(ctx, r)
	}
}

func at(seq uint64) checkpoint.Position { return checkpoint.Position{Seq: seq} }

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

// A dead attempt that only Send has noticed may have brought messages: they are kept for Recv, in order, and the next
// attempt starts after them.
func TestWhatADeadAttemptBroughtIsKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, sends(errGone, numbered(1, 2, 3)...), func(s bidi) error {
			m, err := s.Recv()
			if err != nil {
				return err
			}
			return sends(nil, numbered(frameOf(m).seq+1)...)(s)
		})
		cb := positions()
		cb.Resume = func(ctx context.Context, r *resumption) error {
			if r.Attempt() == 1 {
				return nil
			}
			return greets(ctx, r)
		}
		s := w.mustDial(cb, stream.WithAtMostOnceSends())
		time.Sleep(time.Second) // the attempt is dead
		for s.Stats().Outages == 0 {
			require.NoError(t, s.Send(frame{kind: data}.request()))
			synctest.Wait()
		}
		require.Equal(t, 3, s.Stats().Waiting, "kept for Recv")
		require.Equal(t, checkpoint.Position{}, s.Stats().Delivered, "invariant 2: and not handed over")
		time.Sleep(time.Minute)
		got, err := receiveAll(s)
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, upTo(4), got)
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

func TestHeaderAndTrailerAreTheNewestAttempts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		marked := func(mark string, then func(bidi) error) func(bidi) error {
			return func(s bidi) error {
				if err := s.SendHeader(metadata.Pairs("mark", mark)); err != nil {
					return err
				}
				s.SetTrailer(metadata.Pairs("end", mark))
				return then(s)
			}
		}
		w := scripted(t, sends(errGone), marked("second", lasts(time.Second, errGone)), marked("third", sends(nil)))
		s := w.mustDial(positions())
		header, err := s.Header()
		require.NoError(t, err)
		require.Equal(t, []string{"second"}, header.Get("mark"), "the first attempt had no header")
		_, err = s.Recv()
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, []string{"third"}, s.Trailer().Get("end"))
	})
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, sends(status.Error(codes.NotFound, "no")))
		s := w.mustDial(positions())
		header, err := s.Header()
		require.NoError(t, err, "Recv tells")
		require.Nil(t, header)
		_, err = s.Recv()
		wantEnd(t, err, stream.ReasonServer, codes.NotFound, "the server's word")
	})
}

func TestTheErrorIsRepeated(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, sends(status.Error(codes.NotFound, "no"), numbered(1)...))
		s := w.mustDial(positions())
		_, first := receiveAll(s)
		_, second := s.Recv()
		require.Same(t, first, second)
		require.Same(t, errors.Unwrap(first), errors.Unwrap(second))
		require.ErrorIs(t, s.Send(frame{kind: data}.request()), io.EOF, "the server ended it: Recv tells")
	})
}
