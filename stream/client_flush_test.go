package stream_test

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/internal/testnet"
	"github.com/streamsafe/streamsafe/stream"
)

// flushing calls Flush in a goroutine of its own, and returns where the result is told.
func flushing(ctx context.Context, s *client) <-chan error {
	flushed := make(chan error, 1)
	go func() { flushed <- s.Flush(ctx) }() // ends with ctx, or with the stream; nobody waits for it
	return flushed
}

// both are the two ways of an application during Flush: it receives, or it does not.
func both(t *testing.T, test func(t *testing.T, receives bool)) {
	t.Helper()
	for name, receives := range map[string]bool{"receiving": true, "not receiving": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { test(t, receives) })
		})
	}
}

// Flush returns nil when everything is acknowledged, and not before: also where nobody receives (invariant 35).
func TestFlushWaitsForAcknowledgements(t *testing.T) {
	t.Parallel()
	options := map[string]stream.ClientOption{"with replay": withReplay(), "at most once": stream.WithAtMostOnceSends()}
	for name, opt := range options {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			both(t, func(t *testing.T, receives bool) {
				t.Helper()
				p := newPuppet()
				s := newWorld(t, &feed{handler: p.handle}).mustOpen(opt)
				require.NoError(t, s.Flush(t.Context()), "nothing was sent")
				if receives {
					receiving(s)
				}
				mustSend(t, s, 1, 5)
				flushed := flushing(t.Context(), s)
				p.tell(frame{kind: ack, seq: 4})
				rest(time.Hour)
				require.Empty(t, flushed, "5 is not acknowledged")
				p.tell(frame{kind: ack, seq: 5})
				rest(2 * time.Second)
				require.Len(t, flushed, 1, "everything is acknowledged: Flush returns, soon")
				require.NoError(t, <-flushed)
				require.NoError(t, s.Flush(t.Context()), "at once")
			})
		})
	}
}

// What is no acknowledgement waits for Recv meanwhile, in order, and nothing is lost.
func TestFlushKeepsWhatRecvHasToSee(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &feed{total: 1000, size: 200}
		w := newWorld(t, f)
		s := w.mustOpen(withReplay())
		mustSend(t, s, 1, 300)
		require.NoError(t, s.Flush(t.Context()))
		require.Equal(t, uint64(300), s.Stats().Acked)
		require.Zero(t, s.Stats().Deliveries, "messages that the application got")
		require.NoError(t, s.CloseSend())
		got, err := receiveAll(s)
		require.Equal(t, io.EOF, err)
		require.Equal(t, upTo(1000), got)
	})
}

// Flush waits across outages: what was not acknowledged is sent again.
func TestFlushAcrossAnOutage(t *testing.T) {
	t.Parallel()
	for name, breaks := range map[string]func(w *world){
		"cut":           func(w *world) { w.Cut(testnet.RST) },
		"away a minute": func(w *world) { awayForAMinute(w.Memory) },
		"cut ten times": func(w *world) {
			for range 10 {
				w.Cut(testnet.FIN)
				rest(30 * time.Second)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			both(t, func(t *testing.T, receives bool) {
				t.Helper()
				f := &feed{}
				forgetsFirst(f, 5)
				w := newWorld(t, f)
				s := w.mustOpen(withReplay())
				if receives {
					receiving(s)
				}
				mustSend(t, s, 1, 4) // the first handler has them, waits for more, and tells nobody
				flushed := flushing(t.Context(), s)
				rest(time.Minute)
				require.Empty(t, flushed)
				breaks(w)
				rest(5 * time.Minute)
				require.Len(t, flushed, 1, "Flush has returned")
				require.NoError(t, <-flushed)
				require.Equal(t, upTo(4), f.stored)
			})
		})
	}
}

// Every end of the stream is an end of Flush, with its reason; what is missing is told.
func TestFlushEndsWithTheStream(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		last   error // of the handler
		ends   func(p *puppet, s *client, cancel func())
		reason stream.Reason
		code   codes.Code
	}{
		"OK":                {nil, says, stream.ReasonUnacked, codes.DataLoss},
		"PERMISSION_DENIED": {status.Error(codes.PermissionDenied, "no"), says, stream.ReasonServer, codes.PermissionDenied},
		"Close":             {nil, func(_ *puppet, s *client, _ func()) { _ = s.Close() }, stream.ReasonClosed, codes.Canceled},
		"the stream's context": {
			nil, func(_ *puppet, _ *client, cancel func()) { cancel() }, stream.ReasonContext, codes.Canceled,
		},
		"a protocol": {
			nil, func(p *puppet, _ *client, _ func()) { p.tell(frame{kind: ack, seq: 6}) }, stream.ReasonProtocol, codes.Internal,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			both(t, func(t *testing.T, receives bool) {
				t.Helper()
				p := newPuppet()
				w := newWorld(t, &feed{handler: p.endsWith(test.last)})
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				s, err := w.open(ctx, withReplay())
				require.NoError(t, err)
				if receives {
					receiving(s)
				}
				mustSendSized(t, s, 1, 5)
				flushed := flushing(t.Context(), s)
				p.tell(frame{kind: ack, seq: 2})
				rest(time.Minute)
				test.ends(p, s, cancel)
				rest(2 * time.Second)
				require.Len(t, flushed, 1, "Flush has returned")
				err = <-flushed
				wantEnd(t, err, test.reason, test.code, "Flush")
				require.Equal(t, "flush", opOf(err))
				require.ErrorContains(t, err, "5 messages were sent, and 2 of them are acknowledged")
				require.NotErrorIs(t, err, io.EOF)
				_ = s.Close()
				wantEnd(t, s.Flush(t.Context()), test.reason, test.code, "Flush after Close")
				wantKept(t, s, 3, 5, "after Close")
			})
		})
	}
}

// says makes a puppet say its last word.
func says(p *puppet, _ *client, _ func()) { p.tell(frame{kind: end}) }

// opOf returns the Op of an *Error.
func opOf(err error) string {
	if e, ok := errors.AsType[*stream.Error](err); ok {
		return e.Op
	}
	return ""
}

// The context of Flush ends Flush, and nothing else.
func TestFlushEndsWithItsContext(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, receives bool) {
		t.Helper()
		p := newPuppet()
		w := newWorld(t, &feed{handler: p.handle})
		s := w.mustOpen(withReplay())
		if receives {
			receiving(s)
		}
		mustSendSized(t, s, 1, 5)
		began := time.Now()
		limited, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := s.Flush(limited)
		wantEnd(t, err, stream.ReasonContext, codes.DeadlineExceeded, "a deadline")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Minute, time.Since(began))
		why := errors.New("a cause of the caller's own")
		cancelled, stop := context.WithCancelCause(t.Context())
		stop(why)
		err = s.Flush(cancelled)
		wantEnd(t, err, stream.ReasonContext, codes.Canceled, "a cancel before")
		require.ErrorIs(t, err, why)

		w.Refuse(true)
		w.Cut(testnet.RST)
		inOutage, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		wantEnd(t, s.Flush(inOutage), stream.ReasonContext, codes.DeadlineExceeded, "during an outage")
		w.Refuse(false)
		rest(time.Minute)
		p.tell(frame{kind: ack, seq: 5})
		require.NoError(t, s.Flush(t.Context()), "the stream goes on")
		require.NoError(t, s.Flush(cancelled), "everything is acknowledged, whatever the context says")
	})
}

// Flush cannot know without Acked.
func TestFlushNeedsAcked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := scripted(t, stays()).mustDial(positions())
		err := s.Flush(t.Context())
		wantEnd(t, err, stream.ReasonOptions, codes.InvalidArgument, "Flush")
		require.ErrorContains(t, err, "Callbacks.Acked")
		require.Equal(t, stream.Attached, s.State(), "the stream goes on")
	})
}

// Flush is about what was sent before it: another goroutine may go on sending for ever, and nobody need receive.
func TestFlushWhileAnotherSends(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, receives bool) {
		t.Helper()
		w := newWorld(t, &feed{})
		w.Delay(50 * time.Millisecond) // something is always unacknowledged
		s := w.mustOpen(withReplay())
		if receives {
			receiving(s)
		}
		stop := make(chan struct{})
		var sender sync.WaitGroup
		sender.Go(func() { // ends when stop is closed; the end of the test waits
			for seq := uint64(1); ; seq++ {
				assert.NoError(t, s.Send(frame{kind: data, seq: seq}.request()))
				select {
				case <-stop:
					return
				case <-time.NewTimer(7 * time.Millisecond).C:
				}
			}
		})
		for range 5 {
			rest(time.Second)
			before := s.Stats().LastSeq
			began := time.Now()
			limited, cancel := context.WithTimeout(t.Context(), time.Minute)
			require.NoError(t, s.Flush(limited), "of %d messages", before)
			cancel()
			require.GreaterOrEqual(t, s.Stats().Acked, before)
			require.LessOrEqual(t, time.Since(began), 2*time.Second)
		}
		close(stop)
		sender.Wait()
	})
}

// Several may wait, each with a context of its own, also with messages that are refused meanwhile.
func TestSeveralFlush(t *testing.T) {
	t.Parallel()
	for name, opt := range map[string]stream.ClientOption{"with replay": withReplay(), "at most once": stream.WithAtMostOnceSends()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			both(t, func(t *testing.T, receives bool) {
				t.Helper()
				p := newPuppet()
				s := newWorld(t, &feed{handler: p.handle}).mustOpen(opt)
				if receives {
					receiving(s)
				}
				mustSend(t, s, 1, 3)
				first, second := flushing(t.Context(), s), flushing(t.Context(), s)
				limited, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				third := flushing(limited, s)
				requireReason(t, s.Send(nil), stream.ReasonMessage, "a bad message")
				rest(time.Minute)
				requireReason(t, <-third, stream.ReasonContext, "the third")
				p.tell(frame{kind: ack, seq: 3})
				rest(2 * time.Second)
				require.Len(t, first, 1)
				require.Len(t, second, 1)
				require.NoError(t, <-first)
				require.NoError(t, <-second)
			})
		})
	}
}

// A message that an interceptor rejects in Send and in the replay is dropped. That is no success: Flush tells of it, once
// (invariant 32).
func TestFlushTellsOfWhatWasRejectedTwice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPuppet() // it has the message, and does not say so
		s := newWorld(t, &feed{handler: p.handle}, tooLate(func(f frame) error {
			if f.seq == 3 {
				return errors.New("the audit log does not take this one")
			}
			return nil
		})).mustOpen(withReplay())
		receiving(s)
		mustSend(t, s, 1, 2)
		p.tell(frame{kind: ack, seq: 2})
		requireReason(t, s.Send(frame{kind: data, seq: 3}.request()), stream.ReasonSendsInDoubt, "3")
		rest(time.Minute)
		require.Equal(t, uint64(1), s.Stats().Rejected, "the replay has dropped it")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		requireReason(t, s.Flush(ctx), stream.ReasonSendsInDoubt, "3")
		require.NoError(t, s.Flush(ctx), "it was told")
	})
}
