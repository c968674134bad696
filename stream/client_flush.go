package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
)

// Flush waits until everything that was sent before is acknowledged, across outages, and returns nil then. Otherwise it returns
// an [*Error] that says why that will not be: ReasonUnacked if the server has ended the stream with OK, the reason of the stream's
// end, or ReasonContext when ctx is done. What is not acknowledged then is in [ClientStream.Unacked], with WithReplay.
//
// Acknowledgements arrive by Recv. While nobody receives, the stream does, and keeps what is not an acknowledgement for Recv, up
// to 65,536 messages or 16 MiB. Flush needs Callbacks.Acked; without it, it fails with ReasonOptions.
func (s *ClientStream[Req, Res]) Flush(ctx context.Context) error {
	if s.callbacks.Acked == nil {
		return s.refusal(&Error{Op: "flush", Reason: ReasonOptions, Cause: errors.New("Flush needs Callbacks.Acked")})
	}
	if s.outbox.Watch() {
		s.watchSends()
	}
	defer context.AfterFunc(ctx, s.outbox.Wake)()
	if s.outbox.AwaitAcked(func() bool { return ctx.Err() != nil }) {
		return nil
	}
	left := s.outbox.Stats()
	missing := fmt.Errorf("%d messages were sent, and %d of them are acknowledged", left.LastSeq, left.Acked)
	end := s.outbox.Err()
	if end == nil {
		return s.refusal(&Error{Op: "flush", Reason: ReasonContext, Cause: fmt.Errorf("%w: %w", missing, contextError(ctx))})
	}
	if errors.Is(end, io.EOF) { // the server's verdict is Recv's to tell, and was there first
		end = s.final
	}
	e := &Error{Op: "flush", Reason: ReasonUnacked, Cause: missing}
	if end, ok := errors.AsType[*Error](end); ok {
		e.Reason, e.Cause = end.Reason, fmt.Errorf("%w: %w", missing, end.Cause)
	}
	return s.refusal(e)
}

// Unacked returns what was sent and is not acknowledged, with its sequence numbers, in their order: what WithReplay keeps. It may
// be called at any time from any goroutine, also after the end of the stream, so that an application can store what did not
// arrive. Each message is decoded from the bytes that were sent; it is nil if the codec cannot decode requests.
// Without WithReplay there is none.
func (s *ClientStream[Req, Res]) Unacked() iter.Seq2[uint64, *Req] {
	return func(yield func(uint64, *Req) bool) {
		for seq := uint64(0); ; {
			k, _, ok := s.outbox.Next(seq)
			if !ok {
				return
			}
			seq = k.Seq
			if !k.Encoded { // its Send has not come that far
				continue
			}
			m := new(Req)
			if err := s.codec.Unmarshal(k.Data, m); err != nil {
				m = nil
			}
			k.Data.Free()
			if !yield(seq, m) {
				return
			}
		}
	}
}
