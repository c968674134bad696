package stream

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/internal/inbox"
)

// ServerStreaming is what a generated server-streaming method returns, from any generation of protoc-gen-go-grpc. Recv,
// RecvMsg, Context, Header and Trailer are used: a fake needs them.
type ServerStreaming[Res any] interface {
	Recv() (*Res, error)
	grpc.ClientStream
}

// ClientStreaming is what a generated client-streaming method returns, from any generation of protoc-gen-go-grpc. Send,
// CloseSend, RecvMsg, Context, Header and Trailer are used: a fake needs them. RecvMsg must return nil only if the call has
// ended with OK, as grpc's does.
type ClientStreaming[Req, Res any] interface {
	Send(*Req) error
	CloseAndRecv() (*Res, error)
	grpc.ClientStream
}

// ResilientServerStreaming is [Resilient] for a method that takes one request and answers with a stream. open is a generated
// method, such as client.Watch. The type parameters are inferred from it.
//
// request returns the request of each attempt, the first included. from is the position to resume from. The zero Position is
// the beginning. So the request asks for what remains. If nothing remains, request returns [Complete]: nothing is sent, and
// the stream ends with io.EOF. Any other error counts like an error of Callbacks.Resume. request must return soon. If opens are
// hedged, two calls of it may run at the same time.
//
// The stream has nothing to send. Send returns an error with ReasonMessage, and so does Resumption.Send. CloseSend does
// nothing. Options and callbacks about sent messages are errors. Resume is not needed. If it is set, it runs after open.
func ResilientServerStreaming[Req, Res any, S ServerStreaming[Res]](
	ctx context.Context,
	open func(context.Context, *Req, ...grpc.CallOption) (S, error),
	request func(from checkpoint.Position) (*Req, error),
	callbacks Callbacks[Req, Res],
	opts ...ClientOption,
) (*ClientStream[Req, Res], error) {
	switch {
	case open == nil:
		return nil, wrongOptions(errors.New("open is nil"))
	case request == nil:
		return nil, wrongOptions(errors.New("request is nil"))
	case callbacks.Request != nil:
		return nil, wrongOptions(errors.New("Callbacks.Request is for ClientInterceptor: ResilientServerStreaming has its argument request"))
	}
	s, err := resilient(ctx, method{kind: serverStreaming, asks: true}, callbacks, opts)
	if err != nil {
		return nil, err
	}
	s.request = request
	s.open = func(ctx context.Context, request *Req, opts []grpc.CallOption) (Bidi[Req, Res], error) {
		opened, err := open(ctx, request, opts...)
		return oneRequest[Req, Res]{opened}, err
	}
	return s.launch() //nolint:contextcheck // the stream has ctx
}

// ResilientClientStreaming is [Resilient] for a method that takes a stream and answers once. open is a generated method, such
// as client.Upload. The type parameters are inferred from it.
//
// Use CloseAndRecv as on the generated stream. It returns the answer if the server has ended the call with OK. If an attempt
// breaks before that, also after the half-close, then with WithReplay the messages are sent again, and the half-close, and the
// server answers again. Without WithReplay, a break after a Send ends the stream with ReasonSendsInDoubt; see also
// [WithAtMostOnceSends]. Recv returns the answer, too, and then io.EOF.
//
// The server acknowledges nothing on the way. Its answer acknowledges everything that was sent. So WithReplay keeps all
// messages, and Send returns an error with ReasonWindowFull if its limits are reached. If the data can be read again, use
// [ClientStream.SendFrom] instead: it keeps nothing. To send less again after a break, let
// Resume ask the server with another call how much it has, and tell that to [Resumption.Acknowledge]. If the server has all and
// has answered already, Resume passes the answer to [Resumption.Deliver] and returns [Complete]. If it has all and its answer was lost,
// the next attempt sends no message, only the half-close: let the metadata of the call say what it is about.
//
// There are no positions. Checkpoint, Control, Acked, Sequence's acknowledgements and WithEndless are errors.
func ResilientClientStreaming[Req, Res any, S ClientStreaming[Req, Res]](
	ctx context.Context,
	open func(context.Context, ...grpc.CallOption) (S, error),
	callbacks Callbacks[Req, Res],
	opts ...ClientOption,
) (*ClientStream[Req, Res], error) {
	if open == nil {
		return nil, wrongOptions(errors.New("open is nil"))
	}
	s, err := resilient(ctx, method{kind: clientStreaming}, callbacks, opts)
	if err != nil {
		return nil, err
	}
	s.open = func(ctx context.Context, _ *Req, opts []grpc.CallOption) (Bidi[Req, Res], error) {
		opened, err := open(ctx, opts...)
		return &oneAnswer[Req, Res]{ClientStreaming: opened}, err
	}
	return s.launch() //nolint:contextcheck // the stream has ctx
}

func wrongOptions(cause error) error {
	return &Error{Op: "open", Reason: ReasonOptions, Cause: cause}
}

// kind is what a method takes and returns.
type kind uint8

const (
	bidirectional   kind = iota
	serverStreaming      // one request, a stream of responses
	clientStreaming      // a stream of requests, one response
)

// method is what the options have to fit.
type method struct {
	kind kind
	asks bool // its request tells the server where to start
}

// validateKind checks what there is against the kind of the method.
func (o *clientOptions) validateKind(has callbackSet, refuse refusal) {
	one := has.kind == serverStreaming
	refuse(one && (has.acked || has.sequence || has.replay), "a server-streaming method takes one request: "+
		"Callbacks.Acked, Sequence and Replay are for methods that take a stream")
	refuse(one && o.replay, "a server-streaming method takes one request, which is sent on each attempt: WithReplay is for methods that take a stream")
	refuse(!one && has.request, "Callbacks.Request is for server-streaming methods: tell the server in Resume where to start")
	answer := has.kind == clientStreaming
	refuse(answer && (has.acked || has.checkpoint || has.control), "a client-streaming method answers once, and the answer acknowledges all: "+
		"Callbacks.Acked, Checkpoint and Control are for methods that return a stream")
	refuse(answer && o.endless, "WithEndless is for streams without an end: a client-streaming method ends with its answer")
}

// oneRequest makes a Bidi of a stream whose request was sent, and its half-close, when it was opened.
type oneRequest[Req, Res any] struct{ ServerStreaming[Res] }

// Send is never called: nothing gets its turn.
func (oneRequest[Req, Res]) Send(*Req) error { return errOneRequest }

// CloseSend does nothing.
func (oneRequest[Req, Res]) CloseSend() error { return nil }

// oneAnswer makes a Bidi of a stream that answers once: it is over when RecvMsg has returned. Its fields are owned by whoever
// receives.
type oneAnswer[Req, Res any] struct {
	ClientStreaming[Req, Res]
	over bool
	end  error // io.EOF if it was answered
}

// Recv is RecvMsg into a message of its own.
func (s *oneAnswer[Req, Res]) Recv() (*Res, error) {
	m := new(Res)
	return m, s.RecvMsg(m)
}

// RecvMsg returns nil once at most, and then always the end.
func (s *oneAnswer[Req, Res]) RecvMsg(m any) error {
	if s.over {
		return s.end
	}
	err := s.ClientStreaming.RecvMsg(m)
	if s.over, s.end = true, err; err == nil {
		s.end = io.EOF
	}
	return err
}

// Trailer is nil before the end.
func (s *oneAnswer[Req, Res]) Trailer() metadata.MD {
	if !s.over {
		return nil
	}
	return s.ClientStreaming.Trailer()
}

var (
	errOneRequest = errors.New("the method takes one request, which was sent when the attempt was opened")
	errOneAnswer  = errors.New("the method answers once, after the half-close: Resume has nothing to receive")
)

// first opens a, with the request of a method that takes one. It returns what failed: a request that cannot be made fails as
// Resume does (invariant 16).
func (s *ClientStream[Req, Res]) first(a *attempt[Req, Res], from checkpoint.Position, opts []grpc.CallOption) (op string, err error) {
	var request *Req
	if s.request != nil {
		if request, err = s.request(from); err == nil && request == nil {
			err = errors.New("the request is nil")
		}
		if err != nil {
			return "resume", err
		}
	}
	ctx, err := s.options.withMetadata(a.ctx, a.epoch, from)
	if err != nil {
		return "open", err
	}
	opened, err := s.open(withLink(ctx, &a.link), request, opts)
	if err == nil {
		a.started(opened)
	}
	return "open", err
}

// takeAnswer is take for a method that answers once. The server has said OK with m, whatever else ends a, and OK acknowledges
// everything that was sent.
func (s *ClientStream[Req, Res]) takeAnswer(a *attempt[Req, Res], m *Res, queue bool) (mine, alive bool) {
	if told := s.callbacks.Err; told != nil {
		if err := told(m); err != nil {
			return s.takeNothing(a, &loss{op: "recv", err: err, origin: originOf(err, fromCallback)})
		}
	}
	s.outbox.AcknowledgeAll()
	answered := &loss{op: "recv", err: io.EOF, trailer: a.stream.Trailer()}
	a.answer.Store(answered) // before the message is accounted for: whoever loses a then has to know
	mine, _ = s.inbox.Arrived(a, &inbox.Arrival[Res]{Message: m, Size: sizeOf(m)}, queue)
	a.fail(answered)
	return mine, false
}

// completed takes in what Resume has passed to Deliver, after which nothing remains. It returns an error that one of the
// messages tells of, nil if none does.
func (s *ClientStream[Req, Res]) completed(r *Resumption[Req, Res]) *loss {
	a := newAttempt[Req, Res](s.ctx, r.attempt.epoch, r.attempt.codec)
	defer a.cancel()
	a.stream = r.attempt.stream
	for _, m := range r.deliver {
		if !s.keep(a, m) {
			break
		}
	}
	s.inbox.Detach(true)
	if a.answer.Load() != nil {
		return nil
	}
	return a.loss.Load()
}

// awaitEnd waits for the end of a stream that has its answer, before the application gets that: then trailers are known, and
// nothing is left that runs.
func (s *ClientStream[Req, Res]) awaitEnd() {
	if s.kind == clientStreaming {
		<-s.done
	}
}
