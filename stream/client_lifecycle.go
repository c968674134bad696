package stream

import (
	"context"
	"errors"
	"io"
	"time"
)

// run is the lifecycle goroutine. It owns the states: it opens attempts, attaches them, waits for their loss, and ends
// the stream.
func (s *ClientStream[Req, Res]) run() {
	defer func() {
		if s.final == nil { // a listener of a policy has ended the goroutine
			s.end(endedGoroutine())
		}
		close(s.done)
	}()
	stopLeaving := context.AfterFunc(s.ctx, func() {
		s.inbox.Leave()
		s.outbox.Leave()
	})
	defer stopLeaving()
	if s.life == nil {
		s.lifetime()
	} else if denied := s.admit(); denied != nil {
		s.end(denied)
	}
}

// lifetime is the stream from its first open to its last commit.
func (s *ClientStream[Req, Res]) lifetime() {
	end := endedGoroutine()
	defer func() { // in any case, or the application would wait for ever
		if a := s.newest.Load(); a != nil {
			a.cancel()
			a.stopWatch()
		}
		s.end(end)
		if s.committer != nil {
			s.committer.drain()
		}
	}()
	end = s.live()
}

// endedGoroutine is the end of the stream if a callback, or a listener of a policy, ends the goroutine that it runs in.
func endedGoroutine() *attemptError {
	return (&attemptError{op: "open", cause: errGoroutineEnded}).endsWith(ReasonResume)
}

// admit lets the stream live while it holds the permits of bulkheads and adaptive limiters. It returns the end of the
// stream where they kept it out.
func (s *ClientStream[Req, Res]) admit() *attemptError {
	ctx, release := context.WithCancelCause(s.ctx)
	defer release(nil)
	stopWaiting := func() bool { return true }
	if limit := s.options.limits.maxOutage; limit > 0 {
		stopWaiting = time.AfterFunc(limit, func() { release(errMaxOutage) }).Stop
	}
	admitted := false
	err := s.life.WithContext(ctx).Run(func() error {
		admitted = true
		stopWaiting()
		contained(s.lifetime) // or a callback that ends the goroutine keeps the permits
		release(nil)          // an adaptive limiter is not to take the life of a stream for a response time
		return nil
	})
	if admitted {
		return nil
	}
	return s.denied(ctx, err)
}

// live goes from outage to outage until the stream ends.
func (s *ClientStream[Req, Res]) live() *attemptError {
	if end := s.acquire(); end != nil {
		return end
	}
	var broken *attemptError
	for {
		if broken != nil && broken.planned {
			s.pause(broken)
			broken = nil
		}
		var a *attempt[Req, Res]
		end := endedGoroutine()
		contained(func() { a, end = s.bridge(broken) }) // its stack is deep, and this one's stays for the life of the stream
		if end == nil {
			if a.rotation == nil {
				s.health.closes = 0
			}
			end = s.serve(a)
		}
		if end.final {
			return end
		}
		broken = end
	}
}

// acquire makes the stream the owner of its key, and starts from the position there; without a store, from WithPosition.
func (s *ClientStream[Req, Res]) acquire() *attemptError {
	if s.committer == nil {
		s.inbox.StartsFrom(s.options.position)
		return nil
	}
	position, err := s.committer.acquire(s.ctx)
	if err != nil {
		return s.orContext(&attemptError{op: "open", cause: err, final: true, reason: ReasonStore})
	}
	s.inbox.StartsFrom(position)
	return nil
}

// end ends the stream: nothing more is sent or received, what is processed is committed, and both halves are told. Where
// the application ended it, they do not wait for the store.
func (s *ClientStream[Req, Res]) end(end *attemptError) {
	s.final = end.ended(s.counts.attempts.Load())
	s.cancel(nil)
	abrupt := isAbrupt(s.final)
	if !abrupt && end.reason != ReasonStore {
		_ = s.flushed() // kept in lastErr, and published; Close tries again
	}
	s.enter(Closed)
	s.events.publish(event{kind: eventClosed, cause: s.final})
	s.tellFinished()
	s.inbox.End(s.final, abrupt)
	s.outbox.End(s.endOfSend(end.reason))
	if abrupt && end.reason != ReasonFenced {
		_ = s.flushed()
	}
}

// tellFinished calls the functions of grpc.OnFinish, before the application hears of the end, as grpc does.
func (s *ClientStream[Req, Res]) tellFinished() {
	if len(s.options.finished) == 0 {
		return
	}
	err := s.final
	if err == io.EOF { //nolint:errorlint // it is bare
		err = nil
	}
	s.calling(func() {
		contained(func() {
			for _, f := range s.options.finished {
				f(err)
			}
		})
	})
}

// endOfSend returns what Send says of the end: how the server ended the stream is Recv's to tell.
func (s *ClientStream[Req, Res]) endOfSend(reason Reason) error {
	switch reason { //nolint:exhaustive // the others are what Recv says
	case ReasonServer, ReasonUnacked:
		return io.EOF
	case ReasonContext:
		if e, ok := errors.AsType[*Error](s.final); ok && e.Op == "recv" {
			waited := *e
			waited.Op = "send"
			return &waited
		}
	}
	return s.final
}

// isAbrupt reports whether the stream ended in a way after which Recv returns err at once, whatever is still to be had:
// the application has left, or another owner has its key.
func isAbrupt(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && (e.Reason == ReasonClosed || e.Reason == ReasonContext || e.Reason == ReasonFenced)
}

// calling calls f, which calls the application, in the lifecycle goroutine. Close does not wait for it.
func (s *ClientStream[Req, Res]) calling(f func()) {
	s.inside.Add(1)
	defer s.inside.Add(-1) // f may end the goroutine
	f()
}
