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
	s.inbox.Abandon(err)
	s.outbox.End(err)
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
		if a = s.inbox.AwaitAfter(a); a == nil {
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
