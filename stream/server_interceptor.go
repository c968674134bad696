package stream

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// server is what one interceptor has.
type server struct {
	options serverOptions // set at construction, then read only
	wrong   error         // set at construction, then read only
	fence   fence
}

func newServer(opts []ServerOption) *server {
	v := &server{}
	v.options, v.wrong = newServerOptions(opts)
	return v
}

// ServerInterceptor returns an interceptor that looks after the streams of a server: it limits, fences and drains them, as
// its options say. It is for grpc.StreamInterceptor or grpc.ChainStreamInterceptor. Put interceptors that recover from panics,
// and that authenticate, before it.
//
// If an option may have to end a stream early, the handler runs in a goroutine of its own, and the interceptor returns first.
// That wakes a handler which is blocked in SendMsg or RecvMsg. Its context is cancelled, and [context.Cause] tells why, with
// an [*EndedError]. The client gets the status of that error. A handler may go on after that for as long as it likes, but it
// cannot send or receive any more. Without such an option the handler runs in place, and without any option a stream costs
// nothing.
//
// If the handler panics, the interceptor panics with a [*PanicError], which has the stack of the handler. If it ends its
// goroutine, by runtime.Goexit, the client gets INTERNAL.
//
// grpc's binary logging (GRPC_BINARY_LOG_FILTER) is not safe together with streams that end early: it reads what the handler
// may still write.
func ServerInterceptor(opts ...ServerOption) grpc.StreamServerInterceptor {
	return newServer(opts).intercept
}

func (v *server) intercept(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if v.wrong != nil {
		return refusesAll(v.wrong)
	}
	told, err := metadataOf(ss.Context())
	if err != nil {
		return v.refuses(ss, info.FullMethod, status.Error(codes.InvalidArgument, err.Error()))
	}
	fenced := told.told && !v.options.unfenced
	if !fenced && v.options.isPlain() {
		return handler(srv, ss)
	}
	s := v.newStream(ss, info.FullMethod)
	s.attempt, s.fenced = told.attempt, fenced
	defer s.release()
	if refused := s.admitted(); refused != nil {
		s.tellRefused(refused)
		return s.endsWith(refused)
	}
	s.tellOpened()
	s.watch()
	if fenced || v.options.endsEarly() {
		return s.runApart(srv, handler)
	}
	return s.runInPlace(srv, handler)
}

// refuses tells of a stream that is refused before anybody is asked.
func (v *server) refuses(ss grpc.ServerStream, method string, why error) error {
	s := v.newStream(ss, method)
	defer s.release()
	s.tellRefused(why)
	return why
}

// serverKey is the context key of a *ServerStream.
type serverKey struct{}

func (v *server) newStream(ss grpc.ServerStream, method string) *ServerStream {
	s := &ServerStream{
		ServerStream: ss, server: v, method: method, began: time.Now(), over: make(chan struct{}), done: make(chan struct{}),
	}
	ctx, cancel := context.WithCancelCause(ss.Context())
	s.ctx, s.cancel = context.WithValue(ctx, serverKey{}, s), cancel
	s.ticks.Store(1)
	if s.overHTTP() {
		s.lastSent = make(chan struct{}, 1)
	}
	s.counts, s.messages = v.options.counts(), v.options.counters.messages()
	return s
}

// admitted lets everybody who may keep the stream out have a say. It returns why one has. What the stream holds then is given
// back.
func (s *ServerStream) admitted() (refused *EndedError) {
	g := guard{gone: s.leave}
	defer g.check()
	refused = s.admit()
	g.returned = refused == nil
	return refused
}

// admit is the order in which a stream is let in. Who may not come in takes nobody's place; who takes a place does so before
// the policies, as one of them may hold back the newer attempt for the sake of the older one, whose client is gone.
func (s *ServerStream) admit() *EndedError {
	if d := s.server.options.drainer; d != nil {
		if refused := d.enter(s); refused != nil {
			return refused
		}
	}
	if f := s.server.options.authorized; f != nil {
		if until, ends := f(s.ctx); ends {
			left := time.Until(until)
			if left <= 0 {
				return unauthorizedEnd()
			}
			s.endAfter(left, func(time.Duration) *EndedError { return unauthorizedEnd() })
		}
	}
	if s.fenced {
		older, refused := s.server.fence.enter(s)
		if refused != nil {
			return refused
		}
		s.entered = true
		s.takeOver(older)
	}
	if refused := s.acquire(); refused != nil {
		return refused
	}
	return s.endedEarly()
}
