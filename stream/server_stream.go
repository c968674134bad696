package stream

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// ServerStream is one attempt of a client, as the handler on a server has it. [ServerInterceptor] puts it under the stream
// of the generated code. As with any grpc.ServerStream, one goroutine may call SendMsg while another calls RecvMsg.
//
// If the stream is ended early, the context of the handler is cancelled, and SendMsg and RecvMsg return an [*EndedError].
type ServerStream struct {
	grpc.ServerStream

	// set at construction, then read only
	server *server
	method string
	ctx    context.Context //nolint:containedctx // the context of the handler, which the stream gives to it
	cancel context.CancelCauseFunc
	began  time.Time

	observers []Observer // of this stream alone; set before the handler begins, then read only

	attempt Attempt // set before the stream is admitted, then read only
	fenced  bool    // the fence has to let the stream in; the same
	entered bool    // it has; the same

	permits []heldPermit // owned by the goroutine of the interceptor, and then of the handler
	denied  error        // a policy's denial; the same
	ran     bool         // the handler was called; the same

	draining chan struct{} // closed by the Drainer when it tells the handler; nil without one

	ending atomic.Pointer[ending] // nil while the handler runs; written once, by whoever ends it
	over   chan struct{}          // closed when the stream was ended early
	done   chan struct{}          // closed when the stream holds nothing any more: its handler has returned
	stops  []func()               // of timers; owned by the goroutine of the interceptor

	lastSent chan struct{} // nil, or gets the end of a SendMsg that the end of the stream has met; buffered

	ticks     atomic.Uint64 // of the timer that watches the limits, from 1
	receiving atomic.Uint64 // the tick at which the RecvMsg in flight began; 0: none
	sending   atomic.Uint64 // the same for SendMsg
	departed  atomic.Bool   // the transport has said that the client is gone

	counts         bool            // messages are counted; set at construction, then read only
	messages       *messageCounter // where; the same; nil if there are no ServerCounters
	countedAs      string          // the name of the method there; owned by the goroutine of the interceptor
	received, sent atomic.Uint64

	outcome outcome // of the handler; written before done is closed, or by the goroutine of the interceptor
}

// ending is how a handler came to its end.
type ending struct {
	early *EndedError // nil: the handler has returned, in whatever way
	at    time.Time
}

// outcome is what the handler has done.
type outcome struct {
	err      error
	panicked *PanicError
	exited   bool // by runtime.Goexit
}

// WrapServerStream returns a stream for a handler whose server has no [ServerInterceptor]. Time limits cancel its context,
// and then SendMsg and RecvMsg fail. A call that is blocked already is not woken, since only an interceptor can do that: a
// handler has to return when its context is done. Options for the handler as a whole have no effect.
//
// If the options are wrong, SendMsg and RecvMsg return the error that [Validate] returns.
func WrapServerStream(ss grpc.ServerStream, opts ...ServerOption) *ServerStream {
	v := newServer(opts)
	method, _ := grpc.MethodFromServerStream(ss)
	s := v.newStream(ss, method)
	if v.wrong != nil {
		s.end(&EndedError{End: EndRefused, code: codes.Internal, text: v.wrong.Error(), cause: v.wrong})
		return s
	}
	s.watch()
	context.AfterFunc(ss.Context(), s.release)
	return s
}

// Context returns the context of the handler. It is cancelled with an [*EndedError] if the stream is ended early.
func (s *ServerStream) Context() context.Context { return s.ctx }

// SendMsg sends m. See grpc.ServerStream.
func (s *ServerStream) SendMsg(m any) error {
	if chain := s.server.options.messages.sends; chain != nil {
		return s.underPolicies(chain, m, (*ServerStream).send)
	}
	return s.send(m)
}

func (s *ServerStream) send(m any) error {
	s.sending.Store(s.ticks.Load())
	if end := s.endedEarly(); end != nil { // now, so that await sees a call that grpc sees
		s.sending.Store(0)
		return end
	}
	err := s.ServerStream.SendMsg(m)
	s.sending.Store(0)
	if s.endedEarly() != nil {
		select {
		case s.lastSent <- struct{}{}: // for awaitSend
		default:
		}
	}
	if err != nil {
		return s.failed(err)
	}
	if s.counts {
		s.sent.Add(1)
		if s.messages != nil {
			s.messages.sent.Add(1)
		}
	}
	return nil
}

// RecvMsg receives into m. See grpc.ServerStream. A message that arrives after the stream was ended early is not delivered.
func (s *ServerStream) RecvMsg(m any) error {
	if end := s.endedEarly(); end != nil {
		return end
	}
	if chain := s.server.options.messages.recvs; chain != nil {
		return s.underPolicies(chain, m, (*ServerStream).receive)
	}
	return s.receive(m)
}

func (s *ServerStream) receive(m any) error {
	s.receiving.Store(s.ticks.Load())
	err := s.ServerStream.RecvMsg(m)
	s.receiving.Store(0)
	if err != nil {
		return s.failed(err)
	}
	if end := s.endedEarly(); end != nil { // the fence: nothing is handed over after a newer attempt was accepted
		return end
	}
	if s.counts {
		s.received.Add(1)
		if s.messages != nil {
			s.messages.received.Add(1)
		}
	}
	return nil
}

// failed returns what the handler gets for an error of a call.
func (s *ServerStream) failed(err error) error {
	if end := s.endedEarly(); end != nil {
		return end
	}
	if code := status.Code(err); !errors.Is(err, io.EOF) && (code == codes.Canceled || code == codes.Unavailable) {
		s.departed.Store(true)
	}
	return err
}

// endedEarly returns why the stream was ended early, nil if it was not.
func (s *ServerStream) endedEarly() *EndedError {
	if e := s.ending.Load(); e != nil {
		return e.early
	}
	return nil
}

// end ends the stream early. Only the first call counts, and none counts after the handler has returned.
func (s *ServerStream) end(why *EndedError) {
	if s.mark(why) {
		s.wake(why)
	}
}

// mark makes SendMsg and RecvMsg fail from now on.
func (s *ServerStream) mark(why *EndedError) bool {
	return s.ending.CompareAndSwap(nil, &ending{early: why, at: time.Now()})
}

// wake tells the handler and the interceptor that the stream was marked. The interceptor returns, and that wakes a blocked
// call.
func (s *ServerStream) wake(why *EndedError) {
	s.cancel(why)
	close(s.over)
}

// returned notes that the handler has come to its end. If the stream was ended before, that stays so.
func (s *ServerStream) returned() { s.ending.CompareAndSwap(nil, &ending{}) }

// release stops what watches the stream.
func (s *ServerStream) release() {
	for _, stop := range s.stops {
		stop()
	}
	s.cancel(nil)
}
