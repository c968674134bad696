package stream

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/streamsafe/streamsafe/checkpoint"
)

var (
	_ grpc.BidiStreamingClient[int, string]   = (*ClientStream[int, string])(nil)
	_ grpc.ServerStreamingClient[string]      = (*ClientStream[int, string])(nil)
	_ grpc.ClientStreamingClient[int, string] = (*ClientStream[int, string])(nil)
)

// Send sends m. It waits while the stream is not attached, while the transport's flow control does not let m pass, and
// with WithReplay while the buffer is full.
//
// A nil error says that the stream answers for m as its options say: with WithReplay it is kept until the server
// acknowledges it. It does not say that the server has it (invariant 31). m may be changed and used again afterwards.
// Interceptors see m once for each attempt that it is tried on: one that changes messages has to change a copy. They have to
// pass on io.EOF as it is: it says that the attempt is dead.
//
// After the end of the stream Send returns io.EOF where the server ended it, and Recv tells how; otherwise the
// [*Error] that Recv returns. An [*Error] with ReasonMessage or ReasonWindowFull is about m alone, which was not sent;
// the stream goes on, so who gives up sending then has to call CloseSend or Close, or Recv waits for ever. Where grpc
// found the fault (size, encoding), it has aborted the attempt, and the stream goes on as after any other loss, or ends.
// An interceptor's refusal leaves the attempt alone. With WithReplay, where an interceptor fails after grpc had m, that
// counts as sent, and is sent again; where it is refused then, too, it is let go.
func (s *ClientStream[Req, Res]) Send(m *Req) error {
	if m == nil {
		return s.refusal(refused(errors.New("the message is nil")))
	}
	var seq uint64
	if s.callbacks.Sequence != nil {
		seq = s.callbacks.Sequence(m)
	}
	for {
		t, err := s.outbox.begin(m, seq)
		if err != nil {
			return s.refusal(err)
		}
		err = s.sendOn(t, m)
		switch {
		case err == nil:
			return s.accept(m, t)
		case t.attempt.refuses(err):
			s.refuse(m, t, err)
			return s.refusal(refused(err))
		case s.options.replay && errors.Is(err, io.EOF):
			s.outbox.abandon(t.attempt)
			return s.accept(m, t)
		default: // the transport never had m: it goes on the next attempt
			s.outbox.abandon(t.attempt)
			s.outbox.forget(t)
		}
	}
}

// sendOn sends m on the ticket's attempt.
func (s *ClientStream[Req, Res]) sendOn(t ticket[Req, Res], m *Req) error {
	returned := false
	defer func() {
		if !returned { // a codec or an interceptor panics, or ends the goroutine: nobody is sending any more
			t.attempt.fail(&loss{op: "send", err: errGoroutineEnded, final: ReasonResume})
			s.outbox.forget(t)
		}
	}()
	err := t.attempt.send(m)
	returned = true
	return err
}

// accept ends a Send that the transport has taken, or will take on the next attempt.
func (s *ClientStream[Req, Res]) accept(m *Req, t ticket[Req, Res]) error {
	err := s.outbox.done(m, t)
	if err == nil {
		return nil
	}
	err = fmt.Errorf("keeping a message that an interceptor has replaced: %w", err)
	t.attempt.fail(&loss{op: "send", err: err, final: ReasonSendsInDoubt})
	return s.refusal(&Error{Op: "send", Reason: ReasonSendsInDoubt, Cause: withoutEOF(err)})
}

// refuse ends a Send of a message that is bad.
func (s *ClientStream[Req, Res]) refuse(m *Req, t ticket[Req, Res], err error) {
	l := &loss{op: "send", err: err, ours: true}
	switch {
	case neverSent(err):
		t.attempt.aborted.Store(l) // before the message is settled: lose looks after that
		s.outbox.forget(t)
		t.attempt.suspected() // it may have ended before that, and then the server's word counts
	case s.outbox.mayBeSent(t): // grpc had it, and an interceptor failed after that
		s.outbox.markRefused(t)
		_ = s.accept(m, t) // where it cannot be kept the stream ends
		t.attempt.fail(l)
	default: // an interceptor has refused it
		s.outbox.forget(t)
	}
}

// refusal completes an error that is about one message.
func (s *ClientStream[Req, Res]) refusal(err error) error {
	if e, ok := errors.AsType[*Error](err); ok && e.Attempts == 0 {
		e.Attempts = s.counts.attempts.Load()
	}
	return err
}

// Recv returns the next message for the application. It waits until there is one, across outages.
//
// After the end of the stream it returns what is still to be had, and then always the same error: io.EOF where the
// server ended the stream with OK, otherwise an [*Error]. After Close, and when the context is done, it returns the
// error at once.
func (s *ClientStream[Req, Res]) Recv() (*Res, error) { return s.receive(nil) }

// receive is Recv, into a message of its own or into the one given.
func (s *ClientStream[Req, Res]) receive(into *Res) (*Res, error) {
	var from *attempt[Req, Res] // the one that a message is taken in from
	defer func() {
		if from != nil { // a callback, a codec or an interceptor panics, or ends the goroutine: nobody is receiving any more
			from.fail(&loss{op: "recv", err: errGoroutineEnded, final: ReasonResume})
			s.inbox.refuse(from, false)
		}
	}()
	for {
		m, a, err := s.inbox.begin()
		switch {
		case err != nil:
			if !isAbrupt(err) {
				_ = s.flushed() // Close tells
			}
			return nil, err
		case m != nil:
			return m, nil
		}
		from = a
		if m, err = a.recv(into); err != nil {
			a.recvFailed(err)
			s.inbox.refuse(a, false)
		} else if s.take(a, m, false) {
			from = nil
			return m, nil
		}
		from = nil
		into = nil // a codec that does not reset messages would leave something in it
	}
}

// take accounts for m, which a has received. It reports whether m is the application's, now; with queue it is put where
// Recv finds it.
func (s *ClientStream[Req, Res]) take(a *attempt[Req, Res], m *Res, queue bool) bool {
	if told := s.callbacks.Err; told != nil {
		if err := told(m); err != nil {
			a.fail(&loss{op: "recv", err: err})
			s.inbox.refuse(a, true)
			return false
		}
	}
	if acked := s.callbacks.Acked; acked != nil {
		if seq, ok := acked(m); ok && !s.outbox.acknowledge(seq) {
			a.fail(s.ackTooHigh("recv", seq))
			s.inbox.refuse(a, true)
			return false
		}
	}
	var in arrival[Res]
	if at := s.callbacks.Checkpoint; at != nil {
		position, ok := at(m)
		in.position, in.hasPos = position, ok && !position.IsZero()
	}
	in.m = m
	if control := s.callbacks.Control; control != nil {
		in.control = control(m)
	}
	switch {
	case queue:
		in.size = a.sizeOf(m)
	case a.codec != nil:
		in.size = a.codec.received
	}
	return s.inbox.arrived(a, &in, queue)
}

// SendMsg is Send for a message of type *Req.
func (s *ClientStream[Req, Res]) SendMsg(m any) error {
	req, ok := m.(*Req)
	if !ok {
		return s.refusal(refused(fmt.Errorf("the message is a %T, not a %T", m, req)))
	}
	return s.Send(req)
}

// RecvMsg is Recv into a message of type *Res.
func (s *ClientStream[Req, Res]) RecvMsg(m any) error {
	res, ok := m.(*Res)
	if !ok || res == nil {
		return s.refusal(&Error{Op: "recv", Reason: ReasonMessage, Cause: fmt.Errorf("the message is a %T, not a %T", m, res)})
	}
	into := res
	if s.options.holds {
		into = nil // it may have to wait
	}
	got, err := s.receive(into)
	if err == nil && got != res {
		copyMessage(res, got)
	}
	return err
}

// copyMessage makes dst equal to src.
func copyMessage[M any](dst, src *M) {
	from, ok := any(src).(proto.Message)
	if !ok {
		*dst = *src
		return
	}
	if to, ok := any(dst).(proto.Message); ok {
		proto.Reset(to)
		proto.Merge(to, from)
	}
}

// CloseSend says that nothing more will be sent. It is remembered, and said again on the attempt after a break
// (invariant 15). It returns nil, always, and may be called again.
func (s *ClientStream[Req, Res]) CloseSend() error {
	s.outbox.closeSend()
	return nil
}

// CloseAndRecv is CloseSend and Recv, for methods that answer once.
func (s *ClientStream[Req, Res]) CloseAndRecv() (*Res, error) {
	s.outbox.closeSend()
	return s.Recv()
}

// Close ends the stream, at any time and from any goroutine. Sends and Recvs that wait return an [*Error] with
// ReasonClosed. Where there is a store, what is processed is committed, and Close returns the error of that. The message
// that Recv returned last does not count as processed: call Commit before where it is.
//
// Close returns when the stream's goroutines have ended, unless one of them is in a callback, or in a function given as
// an option, or in a call of grpc's: that may be the caller. A listener of a policy and a store may not call it; they can
// cancel the stream's context.
func (s *ClientStream[Req, Res]) Close() error {
	closed := (&attemptError{op: "close", cause: ErrClosed}).endsWith(ReasonClosed)
	s.cancel(closed)
	if s.inside.Load() == 0 {
		<-s.done
	}
	err := closed.ended(s.counts.attempts.Load())
	s.inbox.abandon(err)
	s.outbox.end(err)
	if err = s.flushed(); err != nil {
		return s.commitError("close", err)
	}
	return nil
}

// Commit marks everything that was handed over as processed, and returns when that position is in the store. Where the
// store has it already nothing is written, and a new owner of the key is not noticed. Without a store it fails with
// ReasonOptions.
func (s *ClientStream[Req, Res]) Commit(ctx context.Context) error {
	if s.committer == nil {
		return s.refusal(&Error{Op: "commit", Reason: ReasonOptions, Cause: errors.New("the stream has no store: see WithStore")})
	}
	s.inbox.processAll()
	if err := s.committer.writeWithin(ctx); err != nil {
		return s.commitError("commit", err)
	}
	return nil
}

// flushed commits what is processed, where there is a store.
func (s *ClientStream[Req, Res]) flushed() error {
	if s.committer == nil {
		return nil
	}
	return s.committer.flush(s.ctx)
}

func (s *ClientStream[Req, Res]) commitError(op string, err error) error {
	reason := ReasonStore
	if errors.Is(err, checkpoint.ErrFenced) {
		reason = ReasonFenced
	}
	return &Error{Op: op, Reason: reason, Attempts: s.counts.attempts.Load(), Cause: withoutEOF(err)}
}

// State returns where the stream stands.
func (s *ClientStream[Req, Res]) State() State { return State(s.state.Load()) }

// Context returns the context of the stream: a child of the one it was opened with, done when the stream has ended.
func (s *ClientStream[Req, Res]) Context() context.Context { return s.ctx }

// Header returns the header metadata of the current attempt. It waits for it, across outages. Where the stream ends
// without one it returns nil, and Recv tells why.
func (s *ClientStream[Req, Res]) Header() (metadata.MD, error) {
	for a := s.newest.Load(); ; {
		if md, err := a.stream.Header(); err == nil && md != nil {
			return md, nil
		}
		a.suspected()
		if a = s.inbox.awaitAfter(a); a == nil {
			return nil, nil
		}
	}
}

// Trailer returns the trailer metadata of the last attempt. It is there after Recv has returned an error.
func (s *ClientStream[Req, Res]) Trailer() metadata.MD {
	if md := s.trailer.Load(); md != nil {
		return *md
	}
	return nil
}
