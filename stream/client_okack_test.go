package stream_test

import (
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/internal/testnet"
	"github.com/streamsafe/streamsafe/stream"
)

// WithOKAcknowledges: OK is the receipt. Any other end is none (invariant 32).
func TestOKAcknowledges(t *testing.T) {
	t.Parallel()
	t.Run("OK", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			p := newPuppet()
			s := newWorld(t, &feed{handler: p.handle}).mustOpen(withReplay(), stream.WithOKAcknowledges())
			mustSendSized(t, s, 1, 100)
			p.tell(frame{kind: ack, seq: 49}, frame{kind: end})
			require.Equal(t, io.EOF, drain(s))
			require.Equal(t, uint64(100), s.Stats().Acked)
			numbers, _ := keptBy(s)
			require.Empty(t, numbers)
			require.NoError(t, s.Flush(t.Context()))
		})
	})
	t.Run("after a break", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			p := newPuppet()
			w := newWorld(t, &feed{handler: p.handle})
			s := w.mustOpen(withReplay(), stream.WithOKAcknowledges())
			ended := receiving(s)
			mustSendSized(t, s, 1, 5)
			synctest.Wait()
			w.Cut(testnet.RST)
			synctest.Wait()
			require.Equal(t, 5, s.Stats().Unacked, "a break acknowledges nothing")
			rest(time.Minute)
			p.tell(frame{kind: end})
			require.Equal(t, io.EOF, <-ended)
			require.Equal(t, append(upTo(5), upTo(5)...), p.got())
		})
	})
	t.Run("an error", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			p := newPuppet()
			s := newWorld(t, &feed{handler: p.endsWith(status.Error(codes.NotFound, "no"))}).
				mustOpen(withReplay(), stream.WithOKAcknowledges())
			mustSendSized(t, s, 1, 10)
			p.tell(frame{kind: ack, seq: 4}, frame{kind: end})
			requireReason(t, drain(s), stream.ReasonServer, "Recv")
			wantKept(t, s, 5, 10, "after the end")
			requireReason(t, s.Flush(t.Context()), stream.ReasonServer, "Flush")
		})
	})
	t.Run("Close", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			p := newPuppet()
			s := newWorld(t, &feed{handler: p.handle}).mustOpen(withReplay(), stream.WithOKAcknowledges())
			mustSendSized(t, s, 1, 10)
			require.NoError(t, s.Close())
			wantKept(t, s, 1, 10, "after Close")
		})
	})
}

// Complete of Resume is an end with OK: what it has told Acknowledge counts, and no more (invariants 14 and 32).
func TestCompleteIsNoReceipt(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		acked  int64 // what the second Resume acknowledges; below zero: nothing
		opts   []stream.ClientOption
		reason stream.Reason // unknown: io.EOF
	}{
		"nothing acknowledged":         {-1, nil, stream.ReasonUnacked},
		"a part":                       {3, nil, stream.ReasonUnacked},
		"everything":                   {5, nil, stream.ReasonUnknown},
		"more than was sent":           {6, nil, stream.ReasonProtocol},
		"nothing, and OK is a receipt": {-1, []stream.ClientOption{stream.WithOKAcknowledges()}, stream.ReasonUnknown},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := newPuppet()
				w := newWorld(t, &feed{handler: p.handle})
				cb := w.feed.callbacks()
				resume := cb.Resume
				cb.Resume = func(ctx context.Context, r *resumption) error {
					if r.Attempt() == 1 {
						return resume(ctx, r)
					}
					if test.acked >= 0 {
						r.Acknowledge(uint64(test.acked))
					}
					return stream.Complete
				}
				s := w.mustDial(cb, append(test.opts, withReplay())...)
				ended := receiving(s)
				mustSendSized(t, s, 1, 5)
				synctest.Wait()
				w.Cut(testnet.RST)
				err := <-ended
				if test.reason == stream.ReasonUnknown {
					require.Equal(t, io.EOF, err)
					require.Zero(t, s.Stats().Unacked)
					require.NoError(t, s.Flush(t.Context()))
					return
				}
				requireReason(t, err, test.reason, "Recv")
				first := uint64(1)
				if test.reason == stream.ReasonUnacked {
					first += uint64(max(0, test.acked))
				}
				wantKept(t, s, first, 5, "after the end")
				requireReason(t, s.Flush(t.Context()), test.reason, "Flush")
			})
		})
	}
}
