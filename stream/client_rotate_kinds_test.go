package stream_test

import (
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream"
)

// Rotations of the other two kinds of methods, with stores: make before break, and nothing is lost, doubled or out of order.

// announces is a download that sends one message each 10 ms, announces its end after so many messages, once, and goes on until its
// client has left.
func (h *warehouse) announces(after int) func(*request, downstream) error {
	return func(r *request, s downstream) error {
		h.mu.Lock()
		leads := len(h.requests) == 1
		h.mu.Unlock()
		sent := 0
		send := func(f frame) error {
			if leads && sent == after {
				if err := s.Send(bye().response()); err != nil {
					return err
				}
			}
			sent++
			return s.Send(f.response())
		}
		for seq := frameOf(r).seq + 1; seq <= h.total; seq++ {
			if h.units {
				for _, part := range []uint64{1, 2} {
					if err := send(frame{kind: fragment, seq: 100*seq + part}); err != nil {
						return err
					}
				}
			}
			if err := send(frame{kind: data, seq: seq}); err != nil {
				return err
			}
			if err := takes(s.Context(), 10*time.Millisecond, nil); err != nil {
				return err
			}
		}
		return takes(s.Context(), time.Second, nil) // a rotation may still be on its way
	}
}

// rotatedDownloads are callbacks that know positions and goodbyes.
func rotatedDownloads() callbacks {
	cb := announced(downloads())
	cb.Control = (&feed{}).callbacks().Control
	return cb
}

// A server-streaming call is rotated at each place, because of an announcement, with and without units. The store gets each position in
// order, and none before the application has done with its message (invariants 2, 3 and 12).
func TestMatrixOfRotationsOfServerStreaming(t *testing.T) {
	t.Parallel()
	for _, units := range []bool{false, true} {
		t.Run(fmt.Sprintf("holding %v", units), func(t *testing.T) {
			t.Parallel()
			want, opts := upTo(rotated), []stream.ClientOption{}
			if units {
				want = wholeUnits(rotated)
				opts = append(opts, stream.HoldUntilCheckpoint(1<<20, stream.OverflowFail))
			}
			for after := range want {
				synctest.Test(t, func(t *testing.T) {
					h := &warehouse{total: rotated, units: units}
					h.download = h.announces(after)
					store := &process{Store: new(checkpoint.Memory)}
					var d diary
					s := newShop(t, h).watching(rotatedDownloads(),
						append(opts, stream.WithStore(store, "key", stream.CommitEvery(1)), stream.WithObserver(&d))...)
					got, err := store.work(s, len(want)+1)
					require.ErrorIs(t, err, io.EOF, "announced after %d messages", after)
					require.Equal(t, want, got, "announced after %d messages", after)
					synctest.Wait()
					noOutage(t, s, &d)
					require.Equal(t, uint64(1), s.Stats().Rotations, "announced after %d messages", after)
					require.Len(t, h.requests, 2)
					h.rising(t)
					require.Equal(t, uint64(rotated), committed(t, store))
					if !units { // fragments of a unit have numbers of their own here
						require.False(t, store.ahead.Load(), "a commit ahead of what is processed (invariant 3)")
					}
				})
			}
		})
	}
}

// The process is killed at each message of a call that rotates often. The next one goes on from the store: it gets what was not
// committed, and nothing is missing.
func TestMatrixOfKillsWithRotations(t *testing.T) {
	t.Parallel()
	for kill := 1; kill <= 3*rotated; kill++ {
		t.Run(fmt.Sprintf("after %d messages", kill), func(t *testing.T) {
			t.Parallel()
			eachStore(t, func(t *testing.T, store checkpoint.Store) {
				t.Helper()
				h := &warehouse{total: 3 * rotated}
				h.download = h.announces(-1)
				w := newShop(t, h)
				open := func(p *process) *client {
					return w.watching(downloads(), stream.WithMaxAge(35*time.Millisecond, 20*time.Millisecond),
						stream.WithStore(p, "key", stream.CommitEvery(2)))
				}
				first := &process{Store: store}
				s := open(first)
				got, err := first.work(s, kill)
				require.NoError(t, err)
				require.Equal(t, upTo(uint64(kill)), got) //nolint:gosec // small
				first.killed.Store(true)
				_ = s.Close()
				from := committed(t, store)
				require.LessOrEqual(t, from, uint64(kill))                                           //nolint:gosec // small
				require.GreaterOrEqual(t, from+4, uint64(kill), "commits were not put off for ever") //nolint:gosec // small
				second := &process{Store: store}
				next := open(second)
				got, err = second.work(next, 3*rotated+1)
				require.ErrorIs(t, err, io.EOF)
				require.Equal(t, upTo(3 * rotated)[from:], got, "after what was committed: in order, no loss, no duplicate")
				require.Equal(t, uint64(3*rotated), committed(t, store))
				require.NotZero(t, s.Stats().Rotations+next.Stats().Rotations, "rotations")
			})
		})
	}
}

// An upload is rotated at each age, whether Resume asks the server what it has or not. The answer counts each message once.
func TestMatrixOfRotationsOfClientStreaming(t *testing.T) {
	t.Parallel()
	for _, asking := range []bool{false, true} {
		t.Run(fmt.Sprintf("Resume asks %v", asking), func(t *testing.T) {
			t.Parallel()
			for age := 10 * time.Millisecond; age <= 400*time.Millisecond; age += 10 * time.Millisecond {
				synctest.Test(t, func(t *testing.T) {
					h := &warehouse{}
					var cb uploads
					if asking {
						cb.Resume = h.asks
					}
					var d diary
					s := newShop(t, h).uploading(cb, withReplay(), stream.WithMaxAge(age, age/2), stream.WithObserver(&d))
					for seq := uint64(1); seq <= matrixed; seq++ {
						require.NoError(t, s.Send(piece(seq)))
						time.Sleep(30 * time.Millisecond)
					}
					m, err := s.CloseAndRecv()
					require.NoError(t, err, "age %v", age)
					require.Equal(t, int32(matrixed), m.GetAggregatedPayloadSize(), "the answer, age %v", age)
					h.checkUploads(t, matrixed)
					st := s.Stats()
					require.Zero(t, st.Outages, "outages, age %v", age)
					require.Zero(t, st.Unacked)
					require.Equal(t, int(st.Rotations)+1, h.handlersOf(), "handlers, age %v", age) //nolint:gosec // small
					if age <= 200*time.Millisecond {                                               // the backoff comes on top
						require.NotZero(t, st.Rotations, "rotations, age %v", age)
					}
				})
			}
		})
	}
}

// A server answers early, at each moment around a rotation: the answer is the end, and no attempt takes over from one that has
// answered.
func TestAnAnswerDuringARotation(t *testing.T) {
	t.Parallel()
	for at := 20 * time.Millisecond; at <= 400*time.Millisecond; at += 10 * time.Millisecond {
		synctest.Test(t, func(t *testing.T) {
			h := &warehouse{}
			began := time.Now()
			h.upload = func(s upstream, n int) error {
				go func() { _ = h.receive(s, n) }() // ends with the stream
				timer := time.NewTimer(at - time.Since(began))
				defer timer.Stop()
				select {
				case <-timer.C:
					return s.SendAndClose(&answer{AggregatedPayloadSize: 42})
				case <-s.Context().Done():
					return s.Context().Err()
				}
			}
			s := newShop(t, h).uploading(uploads{}, withReplay(), stream.WithMaxAge(50*time.Millisecond, 0))
			require.NoError(t, s.Send(piece(1)))
			m, err := s.Recv()
			require.NoError(t, err, "answered after %v", at)
			require.Equal(t, int32(42), m.GetAggregatedPayloadSize())
			_, err = s.Recv()
			require.Equal(t, io.EOF, err)
			require.Zero(t, s.Stats().Outages, "answered after %v", at)
		})
	}
}

// Without replay, an upload is not rotated while the server may not have everything: the rotation is put off, and nothing is lost.
func TestAnUploadWithoutReplayIsNotRotated(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := &warehouse{}
		var d diary
		s := newShop(t, h).uploading(uploads{}, stream.WithMaxAge(time.Second, 0), stream.WithObserver(&d))
		for seq := uint64(1); seq <= matrixed; seq++ {
			require.NoError(t, s.Send(piece(seq)))
			time.Sleep(time.Second)
		}
		_, err := s.CloseAndRecv()
		require.NoError(t, err)
		h.checkUploads(t, matrixed)
		require.Zero(t, s.Stats().Rotations)
		require.NotEmpty(t, d.of("put off"))
		require.ErrorContains(t, d.of("put off")[0].cause, "WithReplay", "the observers hear what decides")
	})
}

// Between two rotations there is a wait, whoever wants them: it grows while nothing lasts (invariant 20).
func TestRotationsHaveAWaitBetweenThem(t *testing.T) {
	t.Parallel()
	const most = 20
	for name, opts := range map[string][]stream.ClientOption{
		"announced": nil,
		"aged":      {stream.WithMaxAge(time.Millisecond, 0)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var frames []frame
				if name == "announced" {
					frames = append(frames, bye())
				}
				began := time.Now()
				enough := make(chan time.Duration, 1)
				var s *client
				w := newWorld(t, &feed{handler: stays(frames...)}, opensDo(func(n int) error {
					if n == most { // or a storm would stop the clock for ever
						enough <- time.Since(began)
						_ = s.Close()
					}
					return nil
				}))
				s = w.mustDial(announced(positions()), opts...)
				receiving(s)
				require.Greater(t, within(t, enough, "the last rotation"), 5*time.Second, "how long %d attempts took", most)
			})
		})
	}
}
