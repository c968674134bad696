package stream_test

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/streamsafe/streamsafe/internal/testnet"
	"github.com/streamsafe/streamsafe/stream"
)

// Callbacks.Replay changes messages and drops them. What it leaves keeps its number.
func TestReplayCallback(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPuppet()
		f := &feed{handler: p.handle}
		cb := f.callbacks()
		var asked []uint64
		var ackedThen []uint64
		cb.Replay = func(m *request, acked uint64) *request {
			seq := frameOf(m).seq
			asked, ackedThen = append(asked, seq), append(ackedThen, acked)
			if seq == 3 || seq == 5 {
				return nil
			}
			m.Payload = frame{kind: data, seq: seq + 100}.payload()
			return m
		}
		w := newWorld(t, f)
		s := w.mustDial(cb, withReplay())
		ended := receiving(s)
		mustSend(t, s, 1, 5)
		p.tell(frame{kind: ack, seq: 1})
		w.Cut(testnet.RST)
		synctest.Wait()
		mustSend(t, s, 6, 6)
		synctest.Wait()
		require.Equal(t, []uint64{2, 3, 4, 5}, asked, "messages shown to Replay")
		require.Equal(t, []uint64{1, 1, 1, 1}, ackedThen, "acknowledged by then")
		require.Equal(t, []uint64{1, 2, 3, 4, 5, 102, 104, 6}, p.got(), "what the server has")
		require.Equal(t, 3, s.Stats().Unacked, "2, 4 and 6 are kept, 3 and 5 were dropped")
		p.tell(frame{kind: ack, seq: 2})
		require.Equal(t, 2, s.Stats().Unacked, "the changed message kept its number")
		p.tell(frame{kind: ack, seq: 6}, frame{kind: end})
		require.ErrorIs(t, within(t, ended, "the end of Recv"), io.EOF)
		require.Zero(t, s.Stats().Unacked)
	})
}

// What Replay drops makes room: a Send that waited goes on, and is waited for again when the window is full anew.
func TestReplayCallbackMakesRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPuppet()
		f := &feed{handler: p.handle}
		cb := f.callbacks()
		cb.Replay = func(*request, uint64) *request { return nil }
		var d diary
		w := newWorld(t, f)
		s := w.mustDial(cb, stream.WithReplay(stream.ReplayLimits{Messages: 2}), stream.WithObserver(&d))
		receiving(s)
		sent := make(chan uint64, 100)
		go func() { // ends with the stream; nobody waits for it
			for seq := uint64(1); s.Send(frame{kind: data, seq: seq}.request()) == nil; seq++ {
				sent <- seq
			}
		}()
		synctest.Wait()
		require.Len(t, sent, 2)
		w.Cut(testnet.RST)
		rest(time.Minute)
		require.Len(t, sent, 4, "sends that came through, two of them after the first two were dropped")
		require.Len(t, d.of("full"), 2, "times the observer was told that the window is full")
	})
}

// Invariants 12 and 13: a message that is on its way when the attempt is lost is waited for before the next attempt
// opens, and goes there in its place, before newer ones.
func TestSendOnItsWayIsReplayedInItsPlace(t *testing.T) {
	t.Parallel()
	for name, delivered := range map[string]bool{"the server had it": true, "the server never had it": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := newPuppet()
				held := make(chan struct{})
				var once sync.Once
				w := newWorld(t, &feed{handler: p.handle},
					grpc.WithStreamInterceptor(sendingWith(func(m any, next func(any) error) error {
						if frameOf(asRequest(m)).seq != 3 {
							return next(m)
						}
						if delivered {
							defer once.Do(func() { <-held })
						} else {
							once.Do(func() { <-held })
						}
						return next(m)
					})))
				s := w.mustOpen(withReplay())
				receiving(s)
				mustSend(t, s, 1, 2)
				sent := make(chan error, 1)
				go func() { sent <- s.Send(frame{kind: data, seq: 3}.request()) }() // ends when held is closed
				synctest.Wait()
				p.forget()
				w.Cut(testnet.RST)
				rest(time.Minute)
				require.Equal(t, 1, p.handlers(), "attempts while the message is on its way")
				close(held)
				require.NoError(t, within(t, sent, "the return of Send"))
				mustSend(t, s, 4, 4)
				synctest.Wait()
				require.Equal(t, upTo(4), p.got(), "what the next attempt brought")
				require.Equal(t, 4, s.Stats().Unacked)
			})
		})
	}
}

// Invariant 13: a Send during the replay waits, and comes after it.
func TestSendDuringReplayComesAfterIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPuppet()
		var attempts atomic.Int32
		f := &feed{}
		f.handler = func(s bidi) error {
			attempts.Add(1)
			return p.handle(s)
		}
		w := newWorld(t, f, grpc.WithStreamInterceptor(sendingWith(func(m any, next func(any) error) error {
			if attempts.Load() > 1 {
				time.Sleep(time.Second)
			}
			return next(m)
		})))
		s := w.mustOpen(withReplay())
		receiving(s)
		mustSend(t, s, 1, 20)
		synctest.Wait()
		p.forget()
		w.Cut(testnet.RST)
		synctest.Wait()
		mustSend(t, s, 21, 22)
		rest(time.Minute)
		require.Equal(t, uint64(20), s.Stats().Replayed)
		require.Equal(t, upTo(22), p.got(), "what the second attempt brought")
	})
}

// A replay that finds its attempt dead, again and again, loses nothing and doubles nothing.
func TestReplayDiesRepeatedly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const n = 30
		f := &feed{total: 5}
		j := keepJournal(f)
		serve := f.handler
		deaths := 0
		f.handler = func(s bidi) error {
			if deaths++; deaths > 20 {
				return serve(s)
			}
			if err := greet(s, 0); err != nil {
				return err
			}
			for range deaths {
				if _, err := s.Recv(); err != nil {
					return err
				}
			}
			return status.Error(codes.Unavailable, "dies in the middle of it")
		}
		s := newWorld(t, f).mustOpen(withReplay())
		converse(t, s, j, n)
		require.Equal(t, uint64(21), s.Stats().Attempts)
	})
}

// What Replay makes of a message may be too large to be sent. That is Replay's failure, not the server's.
func TestReplayCallbackMakesTheMessageTooLarge(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPuppet()
		f := &feed{handler: p.handle}
		cb := f.callbacks()
		cb.Replay = func(*request, uint64) *request { return frame{kind: data, seq: 1, size: 10_000}.request() }
		w := newWorld(t, f)
		s := w.mustDial(cb, withReplay(), stream.WithCallOptions(grpc.MaxCallSendMsgSize(1000)))
		ended := receiving(s)
		mustSend(t, s, 1, 1)
		w.Cut(testnet.RST)
		err := within(t, ended, "the end of Recv")
		requireReason(t, err, stream.ReasonResume, "end of the stream")
		require.Equal(t, codes.ResourceExhausted, status.Code(err))
	})
}

// What Replay makes smaller is counted as what it is then, and makes room.
func TestReplayCallbackMakesMessagesSmaller(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPuppet()
		f := &feed{handler: p.handle}
		cb := f.callbacks()
		cb.Replay = func(m *request, _ uint64) *request { return frame{kind: data, seq: frameOf(m).seq}.request() }
		var d diary
		w := newWorld(t, f)
		s := w.mustDial(cb, stream.WithReplay(stream.ReplayLimits{Messages: -1, Bytes: 2500}), stream.WithObserver(&d))
		receiving(s)
		large := proto.Size(frame{kind: data, seq: 1, size: 1000}.request())
		small := proto.Size(frame{kind: data, seq: 1}.request())
		sent := make(chan uint64, 100)
		go func() { // ends with the stream; nobody waits for it
			for seq := uint64(1); s.Send(frame{kind: data, seq: seq, size: 1000}.request()) == nil; seq++ {
				sent <- seq
			}
		}()
		synctest.Wait()
		require.Len(t, sent, 3)
		require.Equal(t, 3*large, s.Stats().UnackedSize)
		w.Cut(testnet.RST)
		rest(time.Minute)
		require.Len(t, sent, 6, "sends that came through, three of them after the first three had become small")
		require.Equal(t, 3*small+3*large, s.Stats().UnackedSize)
		require.Len(t, d.of("full"), 2, "times the observer was told that the window is full")
		p.tell(frame{kind: ack, seq: 3})
		require.Equal(t, 3*large, s.Stats().UnackedSize)
	})
}

// A replay ends with the context, also where Replay takes its time and sends nothing.
func TestReplayThatDropsEndsWithTheContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPuppet()
		f := &feed{handler: p.handle}
		cb := f.callbacks()
		cb.Replay = func(*request, uint64) *request { time.Sleep(time.Second); return nil } // looks it up
		w := newWorld(t, f)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		s, err := w.dial(ctx, cb, withReplay())
		require.NoError(t, err)
		ended := receiving(s)
		mustSend(t, s, 1, 1000)
		synctest.Wait()
		w.Cut(testnet.RST)
		time.Sleep(5 * time.Second)
		began := time.Now()
		cancel()
		wantEnd(t, within(t, ended, "the end of Recv"), stream.ReasonContext, codes.Canceled, "Recv")
		require.LessOrEqual(t, time.Since(began), time.Second, "the message that Replay has in hand, and no more")
	})
}

// Invariant 29: what is sent again is what was sent, whatever the caller has done to the message since.
func TestReplayHasWhatWasSent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const n = 10
		f := &feed{total: 1}
		j := keepJournal(f)
		forgetsFirst(f, n)
		s := newWorld(t, f).mustOpen(withReplay())
		m := frame{kind: data, size: 100}.request()
		for seq := uint64(1); seq <= n; seq++ {
			proto.Reset(m)
			proto.Merge(m, frame{kind: data, seq: seq, size: sizeOf(seq)}.request())
			require.NoError(t, s.Send(m))
			for i := range m.Payload.Body {
				m.Payload.Body[i] = 0xff
			}
		}
		require.NoError(t, s.CloseSend())
		require.ErrorIs(t, drain(s), io.EOF)
		require.Equal(t, upTo(n), f.stored)
		require.Equal(t, uint64(n), s.Stats().Replayed)
		j.check(t)
	})
}
