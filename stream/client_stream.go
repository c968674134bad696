package stream

import (
	"context"
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/streamsafe/streamsafe/checkpoint"
)

var (
	_ grpc.BidiStreamingClient[int, string]   = (*ClientStream[int, string])(nil)
	_ grpc.ServerStreamingClient[string]      = (*ClientStream[int, string])(nil)
	_ grpc.ClientStreamingClient[int, string] = (*ClientStream[int, string])(nil)
)

// Close ends the stream. It may be called at any time, from any goroutine, and again. Sends and Recvs that wait return an
// [*Error] with ReasonClosed.
//
// Close discards messages that are not acknowledged, and does not wait for the server. Call Flush first if the server must
// have them, or read them with Unacked.
//
// With WithStore, Close writes the position of what is processed, and returns an error with ReasonStore or ReasonFenced if
// that fails. The message that Recv returned last does not count as processed. If it is, call Commit before Close.
// Otherwise Close returns nil.
//
// Close waits until the goroutines of the stream have ended. It does not wait while one of them is in a callback, in a
// function given as an option, or in a call of grpc, because Close may have been called there. A store, or a listener of a
// policy, must not call Close. It may cancel the context of the stream.
func (s *ClientStream[Req, Res]) Close() error {
	closed := (&attemptError{op: "close", cause: ErrClosed}).endsWith(ReasonClosed)
	s.cancel(closed)
	if s.inside.Load() == 0 {
		<-s.done
	}
	err := closed.ended(s.counts.attempts.Load())
	s.inbox.Abandon(err)
	s.outbox.End(err)
	if err = s.flushed(); err != nil {
		return s.commitError("close", err)
	}
	return nil
}

// Commit makes everything that was handed over count as processed, and writes that position to the store. It returns when
// the store has it. If the store already has it, nothing is written, and a new owner of the key is not noticed.
//
// Errors: ReasonOptions without WithStore, ReasonFenced if another stream has acquired the key, otherwise ReasonStore.
func (s *ClientStream[Req, Res]) Commit(ctx context.Context) error {
	if s.committer == nil {
		return s.refusal(&Error{Op: "commit", Reason: ReasonOptions, Cause: errors.New("the stream has no store: see WithStore")})
	}
	s.inbox.ProcessAll()
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

// State returns the state of the stream. It may be called at any time, from any goroutine.
func (s *ClientStream[Req, Res]) State() State { return State(s.state.Load()) }

// Context returns the context of the stream, a child of the one that was given to Resilient. It is done when the stream has
// ended.
func (s *ClientStream[Req, Res]) Context() context.Context { return s.ctx }

// Header returns the header metadata of the current attempt. It waits for it, across outages. If the stream ends before a
// header arrives, it returns nil. Recv returns the cause. The error is always nil.
func (s *ClientStream[Req, Res]) Header() (metadata.MD, error) {
	a := s.newest.Load()
	if a == nil { // the stream was complete at once
		return nil, nil
	}
	for {
		if md, err := a.stream.Header(); err == nil && md != nil {
			return md, nil
		}
		a.suspected()
		if a = s.inbox.AwaitAfter(a); a == nil {
			return nil, nil
		}
	}
}

// Trailer returns the trailer metadata of the last attempt that has ended. Call it after Recv has returned an error.
func (s *ClientStream[Req, Res]) Trailer() metadata.MD {
	if md := s.trailer.Load(); md != nil {
		return *md
	}
	return nil
}
