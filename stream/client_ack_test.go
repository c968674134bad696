package stream_test

import (
	"context"
	"errors"
	"io"
	"math"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/internal/testnet"
	"github.com/streamsafe/streamsafe/stream"
)

// Invariant 7: an acknowledgement moves up to the highest number ever sent, stale ones are ignored. Invariant 31: until
// it is acknowledged a message is kept, whatever Send returned.
func TestAcknowledgements(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPuppet()
		w := newWorld(t, &feed{handler: p.handle})
		s := w.mustOpen(withReplay())
		ended := receiving(s)
		mustSend(t, s, 1, 5)
		synctest.Wait()
		require.Equal(t, upTo(5), p.got(), "messages the server has")
		require.Equal(t, 5, s.Stats().Unacked, "messages kept, all of which the server has, and has not acknowledged")
		for _, step := range []struct {
			ack, acked uint64
			what       string
		}{
			{3, 3, "the first"},
			{2, 3, "a stale one"},
			{3, 3, "the same again"},
			{0, 3, "one of nothing"},
			{4, 4, "the next"},
		} {
			p.tell(frame{kind: ack, seq: step.ack})
			require.Equal(t, step.acked, s.Stats().Acked, step.what)
			require.Equal(t, int(5-step.acked), s.Stats().Unacked, step.what)
		}
		w.Cut(testnet.RST)
		synctest.Wait()
		p.greetsWith(4)
		mustSend(t, s, 6, 6)
		synctest.Wait()
		require.Equal(t, []uint64{1, 2, 3, 4, 5, 5, 6}, p.got(), "only what was not acknowledged came again")
		require.Equal(t, uint64(1), s.Stats().Replayed)
		p.tell(frame{kind: ack, seq: 6})
		require.Equal(t, 0, s.Stats().Unacked, "an acknowledgement of more than this attempt sent anew")
		p.tell(frame{kind: end})
		require.ErrorIs(t, within(t, ended, "the end of Recv"), io.EOF)
	})
}

// Invariant 7: an acknowledgement may exceed what this attempt has sent: an earlier one sent it.
func TestAcknowledgementOfEarlierAttemptsMessages(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPuppet()
		w := newWorld(t, &feed{handler: p.handle})
		s := w.mustOpen(withReplay())
		ended := receiving(s)
		mustSend(t, s, 1, 5)
		synctest.Wait()
		p.greetsWith(5)
		w.Cut(testnet.FIN)
		synctest.Wait()
		require.NoError(t, s.Send(frame{kind: data, seq: 6}.request()), "waits for the next attempt")
		synctest.Wait()
		require.Equal(t, 2, p.handlers())
		require.Equal(t, upTo(6), p.got(), "nothing came again")
		p.tell(frame{kind: ack, seq: 5}, frame{kind: end})
		requireReason(t, within(t, ended, "the end of Recv"), stream.ReasonUnacked, "6 is missing")
		require.Equal(t, uint64(5), s.Stats().Acked)
	})
}

// Invariant 7: what was never sent cannot be acknowledged.
func TestAcknowledgementTooHigh(t *testing.T) {
	t.Parallel()
	t.Run("in a message", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			p := newPuppet()
			s := newWorld(t, &feed{handler: p.handle}).mustOpen(withReplay())
			ended := receiving(s)
			mustSend(t, s, 1, 2)
			p.tell(frame{kind: ack, seq: 3})
			wantEnd(t, within(t, ended, "the end of Recv"), stream.ReasonProtocol, codes.Internal, "acknowledged 3 of 2")
			requireReason(t, s.Send(frame{kind: data, seq: 3}.request()), stream.ReasonProtocol, "Send after the end")
		})
	})
	t.Run("in the handshake", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			p := newPuppet()
			w := newWorld(t, &feed{handler: p.handle})
			s := w.mustOpen(withReplay())
			ended := receiving(s)
			mustSend(t, s, 1, 2)
			synctest.Wait()
			p.greetsWith(3)
			w.Cut(testnet.RST)
			wantEnd(t, within(t, ended, "the end of Recv"), stream.ReasonProtocol, codes.Internal, "acknowledged 3 of 2")
		})
	})
}

// A new process goes on with the count of an old one, which the server tells before the first message is sent.
func TestAcknowledgeStartsTheCount(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPuppet()
		p.greetsWith(7)
		w := newWorld(t, &feed{handler: p.handle})
		s := w.mustOpen(withReplay())
		ended := receiving(s)
		require.Equal(t, uint64(7), s.Stats().LastSeq, "before the first message")
		p.greetsWith(9)
		w.Cut(testnet.RST)
		synctest.Wait()
		mustSend(t, s, 10, 11)
		synctest.Wait()
		require.Equal(t, uint64(11), s.Stats().LastSeq, "the first message is number 10: nothing was sent before the break")
		p.tell(frame{kind: ack, seq: 10})
		require.Equal(t, 1, s.Stats().Unacked)
		p.tell(frame{kind: end})
		requireReason(t, within(t, ended, "the end of Recv"), stream.ReasonUnacked, "11 is missing")
	})
}

// Invariant 4: numbers are explicit. The application numbers its messages, and numbers have to rise.
func TestExplicitSequence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPuppet()
		f := &feed{handler: p.handle}
		w := newWorld(t, f)
		cb := f.callbacks()
		cb.Sequence = func(m *request) uint64 { return frameOf(m).seq }
		s := w.mustDial(cb, withReplay())
		ended := receiving(s)
		mustSend(t, s, 10, 10)
		mustSend(t, s, 20, 20)
		for _, seq := range []uint64{20, 15, 0} {
			err := s.Send(frame{kind: data, seq: seq}.request())
			requireReason(t, err, stream.ReasonMessage, "a number that does not rise")
		}
		mustSend(t, s, 30, 30)
		p.tell(frame{kind: ack, seq: 25})
		require.Equal(t, 1, s.Stats().Unacked, "25 acknowledges 10 and 20")
		w.Cut(testnet.RST)
		synctest.Wait()
		require.NoError(t, s.Send(frame{kind: data, seq: 31}.request()))
		synctest.Wait()
		require.Equal(t, []uint64{10, 20, 30, 30, 31}, p.got())
		p.tell(frame{kind: ack, seq: 31}, frame{kind: end})
		require.ErrorIs(t, within(t, ended, "the end of Recv"), io.EOF)
	})
}

// Invariant 4: both ends number the same messages. Resume's own do not count.
func TestResumeSendsDoNotCount(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPuppet()
		f := &feed{handler: p.handle}
		cb := f.callbacks()
		resume := cb.Resume
		cb.Resume = func(ctx context.Context, r *resumption) error {
			if err := resume(ctx, r); err != nil {
				return err
			}
			return r.Send(frame{kind: hello}.request())
		}
		w := newWorld(t, f)
		s := w.mustDial(cb, withReplay())
		receiving(s)
		synctest.Wait()
		w.Cut(testnet.RST)
		synctest.Wait()
		require.NoError(t, s.Send(frame{kind: data, seq: 1}.request()))
		synctest.Wait()
		st := s.Stats()
		require.Equal(t, []uint64{1, 1, 1, 0}, []uint64{st.Sent, st.LastSeq, uint64(st.Unacked), st.Replayed})
		require.Equal(t, []uint64{0, 0, 1}, p.got())
	})
}

// A server that writes "nothing yet" as -1 says the highest number there is: none follows. That is refused, and does not
// wrap around to a message that is never sent again.
func TestAcknowledgementOfTheHighestNumber(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPuppet()
		p.greetsWith(math.MaxUint64)
		_, err := newWorld(t, &feed{handler: p.handle}).open(t.Context(), withReplay())
		wantEnd(t, err, stream.ReasonProtocol, codes.Internal, "open")
	})
}

// Invariant 18: a server that refuses a message that comes again as a duplicate, and says which, has acknowledged it. An unclear
// refusal, whatever its code, has not: the message is kept, and comes again if the stream goes on.
func TestRefusalsOfWhatComesAgain(t *testing.T) {
	t.Parallel()
	reads := func(seen *[]uint64, answers bool) func(bidi) error {
		return func(s bidi) error {
			for {
				m, err := s.Recv()
				if errors.Is(err, io.EOF) {
					return nil
				}
				if err != nil {
					return err
				}
				*seen = append(*seen, frameOf(m).seq)
				if answers { // I have it
					if err := s.Send(frame{kind: ack, seq: frameOf(m).seq}.response()); err != nil {
						return err
					}
				}
			}
		}
	}
	refuses := func(err error) func(bidi) error {
		return func(s bidi) error {
			if _, err := s.Recv(); err != nil {
				return err
			}
			return err
		}
	}
	broken := func(t *testing.T, seen *[]uint64, second ...func(bidi) error) (*client, <-chan error) {
		t.Helper()
		w := scripted(t, append([]func(bidi) error{reads(seen, false)}, second...)...)
		s := w.mustDial(acking(), stream.WithReplay(stream.ReplayLimits{Messages: 3}))
		ended := receiving(s)
		mustSend(t, s, 1, 3)
		synctest.Wait()
		require.Equal(t, upTo(3), *seen)
		w.Cut(testnet.RST)
		return s, ended
	}
	keptIn := func(s *client) (kept []uint64) {
		for seq := range s.Unacked() {
			kept = append(kept, seq)
		}
		return kept
	}
	t.Run("as a duplicate", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			var seen, again []uint64
			s, ended := broken(t, &seen, reads(&again, true))
			require.NoError(t, s.Flush(t.Context()))
			require.Empty(t, keptIn(s))
			mustSend(t, s, 4, 6) // there is room
			require.NoError(t, s.CloseSend())
			require.ErrorIs(t, within(t, ended, "the end of Recv"), io.EOF)
			require.Equal(t, upTo(6), again, "none comes a third time")
			require.Equal(t, uint64(2), s.Stats().Attempts)
		})
	})
	for _, code := range []codes.Code{codes.Unavailable, codes.AlreadyExists, codes.Aborted, codes.FailedPrecondition, codes.InvalidArgument} {
		t.Run("unclear: "+code.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var seen, again []uint64
				s, ended := broken(t, &seen, refuses(status.Error(code, "seen before")), reads(&again, true))
				if code != codes.Unavailable { // the last word
					wantEnd(t, within(t, ended, "the end of Recv"), stream.ReasonServer, code, "the server's word")
					require.Equal(t, upTo(3), keptIn(s))
					require.Error(t, s.Flush(t.Context()))
					return
				}
				require.NoError(t, s.Flush(t.Context()))
				require.Equal(t, upTo(3), again, "they come again")
				require.NoError(t, s.CloseSend())
				require.ErrorIs(t, within(t, ended, "the end of Recv"), io.EOF)
			})
		})
	}
}
