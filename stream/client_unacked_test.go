package stream_test

import (
	"context"
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/internal/testnet"
	"github.com/streamsafe/streamsafe/stream"
)

// Invariant 32: the end is truthful. OK is no receipt, and what is kept can be read after the end.

// endsWith is the puppet's handler, and what it ends with when it is told to end.
func (p *puppet) endsWith(last error) func(bidi) error {
	return func(s bidi) error {
		if err := p.handle(s); err != nil {
			return err
		}
		return last
	}
}

// keptBy returns the numbers and the messages that Unacked yields.
func keptBy(s *client) (numbers []uint64, frames []frame) {
	for seq, m := range s.Unacked() {
		numbers = append(numbers, seq)
		if m != nil {
			frames = append(frames, frameOf(m))
		}
	}
	return numbers, frames
}

// sized is the message with that number, whose size depends on it.
func sized(seq uint64) frame { return frame{kind: data, seq: seq, size: sizeOf(seq)} }

// mustSendSized sends messages from first to last, whose sizes depend on their numbers, and reuses one.
func mustSendSized(t *testing.T, s *client, first, last uint64) {
	t.Helper()
	m := &request{}
	for seq := first; seq <= last; seq++ {
		m.Payload = sized(seq).payload()
		require.NoError(t, s.Send(m), "message %d", seq)
		clear(m.Payload.Body)
	}
}

// wantKept sees that the messages from first to last are kept, and no other, with their numbers and contents.
func wantKept(t *testing.T, s *client, first, last uint64, when string) {
	t.Helper()
	var want []frame
	for seq := first; seq <= last; seq++ {
		want = append(want, sized(seq))
	}
	numbers, frames := keptBy(s)
	require.Equal(t, upTo(last)[first-1:], numbers, "numbers of what is kept %s", when)
	require.Equal(t, want, frames, "what is kept %s", when)
	st := s.Stats()
	require.Equal(t, len(want), st.Unacked, "Stats().Unacked %s", when)
	require.Equal(t, first-1, st.Acked, "Stats().Acked %s", when)
	require.Equal(t, last, st.LastSeq, "Stats().LastSeq %s", when)
}

// The server takes so many of 100 messages, and ends the stream, whatever it says.
func TestAnEndBeforeEverythingIsAcknowledged(t *testing.T) {
	t.Parallel()
	const n = 100
	ends := map[string]struct {
		err    error
		reason stream.Reason
		code   codes.Code
	}{
		"OK":                {nil, stream.ReasonUnacked, codes.DataLoss},
		"PERMISSION_DENIED": {status.Error(codes.PermissionDenied, "no"), stream.ReasonServer, codes.PermissionDenied},
		"DATA_LOSS":         {status.Error(codes.DataLoss, "no"), stream.ReasonServer, codes.DataLoss},
	}
	for name, over := range ends {
		for _, acked := range []uint64{0, 1, 49, 99} {
			t.Run(fmt.Sprintf("%s after %d", name, acked), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					p := newPuppet()
					s := newWorld(t, &feed{handler: p.endsWith(over.err)}).mustOpen(withReplay())
					mustSendSized(t, s, 1, n)
					wantKept(t, s, 1, n, "before any acknowledgement")
					p.tell(frame{kind: ack, seq: acked}, frame{kind: end})
					err := drain(s)
					wantEnd(t, err, over.reason, over.code, "Recv")
					if over.err == nil {
						for _, way := range []string{"Unacked", "Flush", "WithOKAcknowledges"} {
							require.ErrorContains(t, err, way, "the way out")
						}
						require.ErrorContains(t, err, fmt.Sprintf("%d of %d", acked, n))
					}
					require.ErrorIs(t, s.Send(sized(n+1).request()), io.EOF, "Send after the end: Recv tells")
					wantKept(t, s, acked+1, n, "after the end")
					require.NoError(t, s.Close())
					wantKept(t, s, acked+1, n, "after Close")
					require.Same(t, err, drain(s), "what Recv says after Close")
					require.ErrorIs(t, s.Send(sized(n+1).request()), io.EOF, "Send after Close")
				})
			})
		}
	}
}

// Everything is acknowledged: OK is a success, and nothing is kept.
func TestOKWhenEverythingIsAcknowledged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPuppet()
		s := newWorld(t, &feed{handler: p.handle}).mustOpen(withReplay())
		mustSendSized(t, s, 1, 100)
		p.tell(frame{kind: ack, seq: 100}, frame{kind: end})
		require.Equal(t, io.EOF, drain(s))
		require.NoError(t, s.Close())
		numbers, _ := keptBy(s)
		require.Empty(t, numbers)
	})
}

// Whatever Send accepted is acknowledged or kept, and nothing else, while the server ends with OK in the middle of the Sends.
func TestEachAcceptedMessageIsAcknowledgedOrKept(t *testing.T) {
	t.Parallel()
	for _, at := range []int{1, 2, 50, 99} {
		for _, receives := range []bool{true, false} {
			t.Run(fmt.Sprintf("at %d, receives %v", at, receives), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := scripted(t, acksAndEnds(at))
					s := w.mustDial(acking(), withReplay())
					var ended <-chan error
					if receives {
						ended = receiving(s)
					}
					var accepted uint64
					var err error
					for err == nil && accepted < 5000 {
						if err = s.Send(sized(accepted + 1).request()); err == nil {
							accepted++
						}
					}
					require.ErrorIs(t, err, io.EOF, "the Send after the end")
					if !receives {
						ended = receiving(s)
					}
					requireReason(t, <-ended, stream.ReasonUnacked, "Recv")
					wantKept(t, s, uint64(at), accepted, "after the end")
				})
			})
		}
	}
}

// acksAndEnds is a handler that acknowledges each message, but for the last of so many: then it says OK.
func acksAndEnds(last int) func(bidi) error {
	return func(s bidi) error {
		for i := 1; ; i++ {
			m, err := s.Recv()
			if err != nil || i == last {
				return err
			}
			if err := s.Send(frame{kind: ack, seq: frameOf(m).seq}.response()); err != nil {
				return err
			}
		}
	}
}

// The stream may end in any other way: what is kept can be read then, too, and while it lives.
func TestWhatIsKeptAfterOtherEnds(t *testing.T) {
	t.Parallel()
	ends := map[string]struct {
		end    func(w *world, p *puppet, s *client, cancel func())
		reason stream.Reason
	}{
		"Close":       {func(_ *world, _ *puppet, s *client, _ func()) { _ = s.Close() }, stream.ReasonClosed},
		"cancel":      {func(_ *world, _ *puppet, _ *client, cancel func()) { cancel() }, stream.ReasonContext},
		"a protocol":  {func(_ *world, p *puppet, _ *client, _ func()) { p.tell(frame{kind: ack, seq: 99}) }, stream.ReasonProtocol},
		"max outage":  {func(w *world, _ *puppet, _ *client, _ func()) { w.Refuse(true); w.Cut(testnet.RST) }, stream.ReasonMaxOutage},
		"bad replies": {func(_ *world, p *puppet, _ *client, _ func()) { p.tell(frame{kind: failure}) }, stream.ReasonServer},
	}
	for name, test := range ends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := newPuppet()
				f := &feed{handler: p.handle}
				w := newWorld(t, f)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				cb := f.callbacks()
				cb.Err = func(m *response) error {
					if frameOf(m).kind == failure {
						return status.Error(codes.DataLoss, "gone")
					}
					return nil
				}
				s, err := w.dial(ctx, cb, withReplay(), stream.WithMaxOutage(time.Minute))
				require.NoError(t, err)
				ended := receiving(s)
				rest(time.Minute) // stable
				mustSendSized(t, s, 1, 10)
				p.tell(frame{kind: ack, seq: 4})
				wantKept(t, s, 5, 10, "in mid-life")
				test.end(w, p, s, cancel)
				requireReason(t, <-ended, test.reason, "Recv")
				wantKept(t, s, 5, 10, "after the end")
				_ = s.Close()
				wantKept(t, s, 5, 10, "after Close")
			})
		})
	}
}

// Unacked may be stopped, called again, and called from other goroutines while acknowledgements and breaks come.
func TestUnackedAtAnyTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const n = 2000
		f := &feed{}
		w := newWorld(t, f)
		s := w.mustOpen(withReplay())
		ended := receiving(s)
		stop := make(chan struct{})
		var readers sync.WaitGroup
		for range 2 {
			readers.Go(func() { // ends when stop is closed; the end of the test waits
				for last := uint64(0); ; last = 0 {
					for seq, m := range s.Unacked() {
						assert.Greater(t, seq, last, "numbers rise")
						assert.Equal(t, seq, frameOf(m).seq, "the message with its number")
						if last = seq; seq%7 == 0 {
							break
						}
					}
					select {
					case <-stop:
						return
					case <-time.NewTimer(time.Millisecond).C:
					}
				}
			})
		}
		for seq := uint64(1); seq <= n; seq++ {
			mustSend(t, s, seq, seq)
			if seq%500 == 0 {
				w.Cut(testnet.RST)
			}
		}
		require.NoError(t, s.CloseSend())
		require.Equal(t, io.EOF, <-ended)
		close(stop)
		readers.Wait()
		require.Equal(t, upTo(n), f.stored)
	})
}

// Numbers of the application's own are told, not places.
func TestUnackedTellsTheApplicationsNumbers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPuppet()
		f := &feed{handler: p.handle}
		cb := f.callbacks()
		cb.Sequence = func(m *request) uint64 { return frameOf(m).seq }
		s := newWorld(t, f).mustDial(cb, withReplay())
		for _, seq := range []uint64{10, 20, 30} {
			mustSend(t, s, seq, seq)
		}
		p.tell(frame{kind: ack, seq: 15}, frame{kind: end})
		requireReason(t, drain(s), stream.ReasonUnacked, "20 and 30 are missing")
		numbers, _ := keptBy(s)
		require.Equal(t, []uint64{20, 30}, numbers)
	})
}

// Without replay nothing is kept, and OK is the end that it always was.
func TestUnackedWithoutReplay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPuppet()
		s := newWorld(t, &feed{handler: p.handle}).mustOpen(stream.WithAtMostOnceSends())
		mustSend(t, s, 1, 5)
		p.tell(frame{kind: ack, seq: 2}, frame{kind: end})
		require.Equal(t, io.EOF, drain(s))
		numbers, _ := keptBy(s)
		require.Empty(t, numbers)
	})
}

// writeOnly is a codec that cannot decode what it encodes.
type writeOnly struct{ encoding.CodecV2 }

func (c writeOnly) Unmarshal(data mem.BufferSlice, v any) error {
	if _, ok := v.(*request); ok {
		return status.Error(codes.Internal, "requests are not decoded here")
	}
	return c.CodecV2.Unmarshal(data, v)
}

// A codec that cannot decode requests still tells how many there are, and which.
func TestUnackedOfACodecThatDoesNotDecode(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPuppet()
		s := newWorld(t, &feed{handler: p.handle}).mustOpen(withReplay(),
			stream.WithCallOptions(grpc.ForceCodecV2(writeOnly{encoding.GetCodecV2("proto")})))
		mustSend(t, s, 1, 3)
		p.tell(frame{kind: ack, seq: 1}, frame{kind: end})
		requireReason(t, drain(s), stream.ReasonUnacked, "2 and 3 are missing")
		numbers, frames := keptBy(s)
		require.Equal(t, []uint64{2, 3}, numbers)
		require.Empty(t, frames, "messages that can be decoded")
	})
}
