package stream

import (
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// PanicError is a panic of a handler that runs in a goroutine of its own. The interceptor panics with it again, so that an
// interceptor for recovery around it sees it. Only http.ErrAbortHandler is passed on as it is.
type PanicError struct {
	// Value is what the handler has panicked with.
	Value any
	// Stack is the stack of the handler.
	Stack []byte
}

// Error tells the value and the stack.
func (e *PanicError) Error() string {
	return fmt.Sprintf("panic in a stream handler: %v\n\n%s", e.Value, e.Stack)
}

// Unwrap returns the value, if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// errExited is how a stream ends whose handler has ended its goroutine.
var errExited = status.Error(codes.Internal, "stream: the handler has ended its goroutine, by runtime.Goexit")

// runApart runs the handler in a goroutine of its own and returns when the handler does, or before that if the stream is ended
// early (invariant 48). That wakes a handler which is blocked in RecvMsg or SendMsg: grpc ends these calls when the interceptor
// returns. There is no other way.
func (s *ServerStream) runApart(srv any, handler grpc.StreamHandler) error {
	go s.handle(srv, handler) // ends with the handler; waited for here, or by the Drainer if the stream is ended early
	select {
	case <-s.done:
	case <-s.over:
	}
	if end := s.endedEarly(); end != nil {
		s.server.options.counters.abandoned(1)
		s.tellEnded(end.End, end)
		s.awaitSend()
		return s.endsWith(end)
	}
	<-s.done // the ending came first
	s.tellEnded(s.outcome.end(), s.outcome.told())
	return s.conclude()
}

// mostSendWait bounds the wait for a SendMsg that the end of its stream wakes.
const mostSendWait = 100 * time.Millisecond

// awaitSend waits a moment for a SendMsg in flight, over ServeHTTP: if it fails when the status was written, grpc may write the
// status of that failure over it.
func (s *ServerStream) awaitSend() {
	if !s.overHTTP() || s.sending.Load() == 0 {
		return
	}
	timer := time.NewTimer(mostSendWait)
	defer timer.Stop()
	select {
	case <-s.lastSent:
	case <-timer.C:
	}
}

// overHTTP reports whether the server of net/http carries the stream.
func (s *ServerStream) overHTTP() bool { return s.ctx.Value(http.ServerContextKey) != nil }

// endsWith tells the client why the stream was ended early.
func (s *ServerStream) endsWith(end *EndedError) error {
	if end.trailer != nil {
		s.SetTrailer(end.trailer)
	}
	return end.GRPCStatus().Err()
}

// end says how the handler has come to its end.
func (o *outcome) end() End {
	switch {
	case o.panicked != nil:
		return EndPanicked
	case o.exited:
		return EndExited
	default:
		return EndReturned
	}
}

// told is the outcome as observers see it.
func (o *outcome) told() error {
	switch {
	case o.panicked != nil:
		return o.panicked
	case o.exited:
		return errExited
	default:
		return o.err
	}
}

// conclude returns what the handler has returned, or panics as it did.
func (s *ServerStream) conclude() error {
	switch o := &s.outcome; {
	case o.panicked != nil && errors.Is(o.panicked, http.ErrAbortHandler):
		panic(o.panicked.Value) //nolint:forbidigo // net/http compares it
	case o.panicked != nil:
		panic(o.panicked) //nolint:forbidigo // the handler's own
	default:
		return o.told()
	}
}

// handle is the goroutine of the handler.
func (s *ServerStream) handle(srv any, handler grpc.StreamHandler) {
	returned := false
	defer func() {
		if !returned {
			s.outcome.fell(recover())
		}
		s.returned()
		s.leave()
	}()
	s.ran = true
	s.outcome.err = handler(srv, s)
	returned = true
}

// fell notes that the handler has not returned. value is what it has panicked with, nil for runtime.Goexit.
func (o *outcome) fell(value any) {
	if value == nil {
		o.exited = true
		return
	}
	o.panicked = &PanicError{Value: value, Stack: debug.Stack()}
}

// runInPlace runs the handler in the goroutine of the interceptor: nothing ends it early.
func (s *ServerStream) runInPlace(srv any, handler grpc.StreamHandler) error {
	returned := false
	defer func() {
		if returned {
			return
		}
		value := recover()
		s.outcome.fell(value)
		s.returned()
		s.leave()
		s.tellEnded(s.outcome.end(), s.outcome.told())
		if value != nil {
			panic(value) //nolint:forbidigo // the handler's own
		}
		_ = s.ServerStream.SendMsg(handlerExited{}) // it cannot be encoded: grpc ends the call, which nobody else would
	}()
	s.ran = true
	s.outcome.err = handler(srv, s)
	returned = true
	s.returned()
	s.leave()
	s.tellEnded(EndReturned, s.outcome.err)
	return s.outcome.err
}

// handlerExited is no message. grpc names the type in the status.
type handlerExited struct{}

// leave gives back what the stream has held, when its handler has returned (invariant 43), or will not be called. Whatever
// happens in a policy, the others are told.
func (s *ServerStream) leave() {
	defer close(s.done)
	defer s.deregister()
	defer s.tellAbandoned()
	s.giveBack()
}

// deregister lets the fence and the Drainer forget the stream.
func (s *ServerStream) deregister() {
	if s.entered {
		s.server.fence.leave(s)
	}
	if d := s.server.options.drainer; d != nil {
		d.leave(s)
	}
}
