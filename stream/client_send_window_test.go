package stream_test

import (
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/streamsafe/streamsafe/internal/testnet"
	"github.com/streamsafe/streamsafe/stream"
)

// Invariant 8: a full buffer makes Send wait, by messages and by bytes, and an acknowledgement lets it go on.
func TestFullWindowBlocksSend(t *testing.T) {
	t.Parallel()
	for name, limits := range map[string]stream.ReplayLimits{
		"messages": {Messages: 3},
		"bytes":    {Bytes: 2500, Messages: -1}, // the third goes over it
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := newPuppet()
				w := newWorld(t, &feed{handler: p.handle})
				var d diary
				s := w.mustOpen(stream.WithReplay(limits), stream.WithObserver(&d))
				receiving(s)
				sent := make(chan int, 100)
				go func() { // ends with the stream; nobody waits for it
					for i := 1; s.Send(frame{kind: data, seq: uint64(i), size: 1000}.request()) == nil; i++ {
						sent <- i
					}
				}()
				rest(time.Hour)
				require.Len(t, sent, 3, "sends that came through")
				require.Len(t, d.of("full"), 1, "times the observer was told that the window is full")
				require.InDelta(t, 3*1009, s.Stats().UnackedSize, 100, "bytes kept")
				p.tell(frame{kind: ack, seq: 2})
				require.Len(t, sent, 5, "sends that came through after two were acknowledged")
				w.Cut(testnet.RST)
				rest(time.Hour)
				require.Len(t, sent, 5, "sends that came through after a break")
				p.tell(frame{kind: ack, seq: 5})
				require.Len(t, sent, 8, "sends that came through after all were acknowledged")
				require.Len(t, d.of("full"), 3, "times the observer was told")
			})
		})
	}
}

func TestFullWindowFailsSend(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPuppet()
		w := newWorld(t, &feed{handler: p.handle})
		s := w.mustOpen(stream.WithReplay(stream.ReplayLimits{Messages: 2, FailWhenFull: true}))
		receiving(s)
		mustSend(t, s, 1, 2)
		refused := s.Send(frame{kind: data, seq: 3}.request())
		wantEnd(t, refused, stream.ReasonWindowFull, codes.ResourceExhausted, "the third")
		require.Equal(t, uint64(2), s.Stats().Sent)
		synctest.Wait()
		w.Refuse(true)
		w.Cut(testnet.RST)
		synctest.Wait()
		requireReason(t, s.Send(frame{kind: data, seq: 3}.request()), stream.ReasonWindowFull, "while detached")
		w.Refuse(false)
		rest(time.Minute)
		p.tell(frame{kind: ack, seq: 1})
		mustSend(t, s, 3, 3)
		synctest.Wait()
		require.Equal(t, []uint64{1, 2, 1, 2, 3}, p.got(), "the refused message was not sent")
	})
}

// A Send that waits for room, or for an attempt, ends with the stream.
func TestWaitingSendEndsWithTheStream(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPuppet()
		w := newWorld(t, &feed{handler: p.handle})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		full, err := w.open(ctx, stream.WithReplay(stream.ReplayLimits{Messages: 1}))
		require.NoError(t, err)
		detached, err := w.open(ctx, withReplay())
		require.NoError(t, err)
		receiving(full)
		receiving(detached)
		mustSend(t, full, 1, 1)
		w.Refuse(true)
		w.Cut(testnet.RST)
		synctest.Wait()
		results := make(chan error, 2)
		for _, s := range []*client{full, detached} {
			go func() { results <- s.Send(frame{kind: data, seq: 2}.request()) }() // ends with the context
		}
		synctest.Wait()
		require.Empty(t, results, "both wait")
		cancel()
		for range 2 {
			wantEnd(t, within(t, results, "the end of a Send that waited"), stream.ReasonContext, codes.Canceled, "a Send that waited")
		}
	})
}

// Invariant 8: a replay larger than every buffer goes through while the server sends as much, as long as somebody
// receives: neither waits for the other.
func TestReplayWhileTheServerSends(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const n, size = 200, 8 << 10
		f := &feed{total: n, size: size}
		j := keepJournal(f)
		f.handler = inOrder(
			func(s bidi) error { return swallow(s, n) },
			func(s bidi) error {
				// All data first: the client's replay fills the buffers meanwhile.
				return f.serve(j.begin(s))
			})
		s := newWorld(t, f).mustOpen(withReplay())
		for seq := uint64(1); seq <= n; seq++ {
			require.NoError(t, s.Send(frame{kind: data, seq: seq, size: size}.request()))
		}
		require.NoError(t, s.CloseSend())
		got, err := receiveAll(s)
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, upTo(n), got)
		require.Equal(t, upTo(n), f.stored)
		require.Equal(t, 0, s.Stats().Unacked)
	})
}

// Acknowledgements drain the smallest of windows while data flows both ways.
func TestWindowOfOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &feed{total: 300, size: 4 << 10}
		j := keepJournal(f)
		w := newWorld(t, f)
		w.Chaos(testnet.Chaos{Seed: 3, Messages: 30})
		s := w.mustOpen(stream.WithReplay(stream.ReplayLimits{Messages: 1}))
		converse(t, s, j, 300)
	})
}
