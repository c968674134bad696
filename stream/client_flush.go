package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
)

// Flush waits until everything that was sent before is acknowledged, across outages, and returns nil. If that cannot be,
// it returns an [*Error]: with ReasonUnacked if the server has ended the stream with OK, with ReasonContext if ctx is done,
// and otherwise with the reason for which the stream ended. With WithReplay, the messages that are not acknowledged are in
// [ClientStream.Unacked].
//
// If an interceptor has rejected a message in Send and again in a replay, the stream has dropped that message. The next Flush
// returns an error with ReasonSendsInDoubt when all the others are acknowledged, once.
//
// Acknowledgements arrive by Recv. If nobody receives while Flush waits, the stream receives by itself, and keeps up to
// 65,536 messages or 16 MiB for Recv. Flush needs Callbacks.Acked. Without it, Flush returns an error with ReasonOptions.
//
// The answer of a client-streaming method acknowledges everything. So there Flush needs CloseSend before it, and returns when
// the answer is there.
func (s *ClientStream[Req, Res]) Flush(ctx context.Context) error {
	switch {
	case s.kind == clientStreaming && !s.outbox.IsClosed():
		return s.refusal(&Error{Op: "flush", Reason: ReasonOptions, Cause: errors.New(
			"Flush needs CloseSend before it: a client-streaming method acknowledges with its answer")})
	case s.callbacks.Acked == nil && s.kind != clientStreaming:
		return s.refusal(&Error{Op: "flush", Reason: ReasonOptions, Cause: errors.New("Flush needs Callbacks.Acked")})
	}
	if s.outbox.Watch() {
		s.watchSends()
	}
	stop := context.AfterFunc(ctx, s.outbox.Wake)
	defer stop()
	if s.outbox.AwaitAcked(func() bool { return ctx.Err() != nil }) {
		return s.rejectedSince()
	}
	missing, end := s.notAcked(), s.outbox.Err()
	if end == nil {
		return s.refusal(&Error{Op: "flush", Reason: ReasonContext, Cause: fmt.Errorf("%w: %w", missing, contextError(ctx))})
	}
	return s.unacked("flush", missing, end)
}

// notAcked says how much of what was sent is acknowledged.
func (s *ClientStream[Req, Res]) notAcked() error {
	state := s.outbox.Stats()
	return fmt.Errorf("%d messages were sent, and %d of them are acknowledged", state.LastSeq, state.Acked)
}

// unacked is the error of a call that waited for acknowledgements until the stream ended. end is what Send says of that.
func (s *ClientStream[Req, Res]) unacked(op string, missing, end error) error {
	if errors.Is(end, io.EOF) { // the server's verdict is Recv's to tell, and was there first
		end = s.final
	}
	e := &Error{Op: op, Reason: ReasonUnacked, Cause: missing}
	if end, ok := errors.AsType[*Error](end); ok {
		e.Reason, e.Cause = end.Reason, fmt.Errorf("%w: %w", missing, end.Cause)
	}
	return s.refusal(e)
}

// rejectedSince is the error of messages that were dropped since the last Flush, and nil if there are none.
func (s *ClientStream[Req, Res]) rejectedSince() error {
	all := s.counts.rejected.Load()
	n := all - s.counts.rejectedTold.Swap(all)
	if n == 0 {
		return nil
	}
	return s.refusal(&Error{Op: "flush", Reason: ReasonSendsInDoubt, Cause: fmt.Errorf(
		"an interceptor has rejected messages twice, and the stream has dropped them: %d", n)})
}

// Unacked returns the messages that WithReplay keeps because they are not acknowledged, with their sequence numbers, in the
// order in which they were sent. Use it after the end of the stream to store what did not arrive. It may be called at any
// time, from any goroutine. Without WithReplay it returns nothing.
//
// Each message is a copy, decoded from the bytes that were sent. It is nil if the codec cannot decode requests.
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
