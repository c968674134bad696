package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/streamsafe/streamsafe/checkpoint"
)

// This file has the streams that an interceptor returns. They keep the contract of grpc.ClientStream.

// settings returns the options of one call, checked.
func (r *registered[Req, Res]) settings(k kind, cb *Callbacks[Req, Res], call []grpc.CallOption, name string) (clientOptions, error) {
	call, finished := splitFinish(call)
	opts := append([]ClientOption{WithName(name)}, r.options...)
	has := cb.set(method{kind: k, asks: k == serverStreaming && cb.Request != nil})
	o, err := optionsOf(has, append(opts, WithCallOptions(call...)))
	o.finished = finished
	return o, err
}

// splitFinish takes the functions of grpc.OnFinish out of call options: a stream finishes once, and not with each attempt.
func splitFinish(call []grpc.CallOption) (others []grpc.CallOption, finished []func(error)) {
	for _, opt := range call {
		if f, ok := opt.(grpc.OnFinishCallOption); ok {
			finished = append(finished, f.OnFinish)
		} else {
			others = append(others, opt)
		}
	}
	return others, finished
}

// open implements registration.
func (r *registered[Req, Res]) open(ctx context.Context, call interceptedCall) (grpc.ClientStream, error) { //nolint:ireturn // as an interceptor does
	k, err := kindOf(call.desc.ClientStreams, call.desc.ServerStreams)
	if err == nil {
		err = r.fits(call.method, codecOf(call.options))
	}
	if err != nil {
		return nil, wrongOptions(err)
	}
	callbacks := r.callbacks
	if callbacks == nil {
		own := r.make(ctx)
		callbacks = &own
	}
	o, err := r.settings(k, callbacks, call.options, call.method)
	if err != nil {
		return nil, wrongOptions(fmt.Errorf("ForMethod %q: %w", r.pattern, err))
	}
	s := newClientStream(ctx, k, *callbacks, o)
	s.method.is(call.method)
	s.open = func(ctx context.Context, request *Req, opts []grpc.CallOption) (Bidi[Req, Res], error) {
		return attemptOf[Req, Res](ctx, call, k, request, opts)
	}
	if k == serverStreaming {
		return &lateStream[Req, Res]{stream: s, ready: make(chan struct{})}, nil
	}
	//nolint:contextcheck // the stream has ctx
	if _, err := s.launch(); err != nil && !errors.Is(err, io.EOF) { // that is Recv's to tell
		return nil, err
	}
	return contractStream[Req, Res]{s}, nil
}

// attemptOf opens one attempt of a call, as generated code does.
func attemptOf[Req, Res any](
	ctx context.Context, call interceptedCall, k kind, request *Req, opts []grpc.CallOption,
) (Bidi[Req, Res], error) {
	opened, err := call.streamer(ctx, call.desc, call.conn, call.method, opts...)
	if err != nil {
		return nil, err
	}
	s := &grpc.GenericClientStream[Req, Res]{ClientStream: opened}
	switch k {
	case serverStreaming:
		if err := s.SendMsg(request); err != nil && !errors.Is(err, io.EOF) { // that is RecvMsg's to tell
			return nil, err
		}
		return oneRequest[Req, Res]{s}, s.CloseSend()
	case clientStreaming:
		return &oneAnswer[Req, Res]{ClientStreaming: s}, nil
	case bidirectional:
		return s, nil
	default:
		return s, nil
	}
}

// contractStream is a stream that is over when a call has failed, as callers of grpc.ClientStream may take for granted: after an
// error they do not call it again, and do not have to end its context.
type contractStream[Req, Res any] struct{ *ClientStream[Req, Res] }

// SendMsg implements grpc.ClientStream.
func (s contractStream[Req, Res]) SendMsg(m any) error {
	err := s.ClientStream.SendMsg(m)
	if err != nil && !errors.Is(err, io.EOF) {
		s.abort(err)
	}
	return err
}

// RecvMsg implements grpc.ClientStream.
func (s contractStream[Req, Res]) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if err != nil {
		s.abort(err)
	}
	return err
}

// abort ends the stream with the error of one call, unless it has ended.
func (s contractStream[Req, Res]) abort(err error) {
	if e, ok := errors.AsType[*Error](err); ok && e.Cause != nil {
		s.cancel((&attemptError{op: e.Op, cause: e.Cause}).endsWith(e.Reason))
	}
}

// lateStream is the stream of a server-streaming call, which begins when its request is there.
type lateStream[Req, Res any] struct {
	stream  *ClientStream[Req, Res] // set at construction, then read only
	begun   atomic.Bool             // SendMsg or CloseSend was called
	ready   chan struct{}           // closed by whoever was the first, when the stream was launched or refused
	refused error                   // written before ready is closed
}

// SendMsg implements grpc.ClientStream. It takes the request, and opens the stream.
func (s *lateStream[Req, Res]) SendMsg(m any) error {
	if !s.begun.CompareAndSwap(false, true) {
		return contractStream[Req, Res]{s.stream}.SendMsg(m) // which refuses it
	}
	defer close(s.ready)
	s.refused = s.stream.refusal(s.prepare(m))
	if s.refused != nil {
		s.stream.cancel(nil)
		return s.refused
	}
	if _, err := s.stream.launch(); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// prepare makes the function that makes the requests.
func (s *lateStream[Req, Res]) prepare(m any) error {
	original, ok := m.(*Req)
	if !ok || original == nil {
		return refused(fmt.Errorf("the message is a %T, not a %T", m, original))
	}
	again, err := s.stream.copies(original)
	if err != nil {
		return refused(err)
	}
	s.stream.request = func(from checkpoint.Position) (*Req, error) {
		request, err := again()
		if make := s.stream.callbacks.Request; make != nil && err == nil {
			return make(request, from)
		}
		return request, err
	}
	return nil
}

// copies returns a function that returns copies of m: the application may change m after it has sent it, and Callbacks.Request may
// change a copy (invariant 29).
func (s *ClientStream[Req, Res]) copies(m *Req) (func() (*Req, error), error) {
	if from, ok := any(m).(proto.Message); ok {
		kept := proto.Clone(from)
		return func() (*Req, error) {
			again, _ := any(proto.Clone(kept)).(*Req)
			return again, nil
		}, nil
	}
	if s.codec.current() == nil {
		return nil, errors.New("no codec is registered for the content subtype of the call options")
	}
	data, err := s.codec.Marshal(m)
	if err != nil {
		return nil, err
	}
	kept := data.Materialize()
	data.Free()
	return func() (*Req, error) {
		again := new(Req)
		if err := s.codec.Unmarshal(mem.BufferSlice{mem.SliceBuffer(kept)}, again); err != nil {
			return nil, fmt.Errorf("decoding the request: %w", err)
		}
		return again, nil
	}, nil
}

// CloseSend implements grpc.ClientStream. Generated code calls it after the request.
func (s *lateStream[Req, Res]) CloseSend() error {
	if s.begun.CompareAndSwap(false, true) {
		s.refused = s.stream.refusal(refused(errors.New("CloseSend without a request")))
		s.stream.cancel(nil)
		close(s.ready)
	}
	return nil
}

// await waits for the request.
func (s *lateStream[Req, Res]) await() error {
	select {
	case <-s.ready:
		return s.refused
	default:
	}
	select {
	case <-s.ready:
		return s.refused
	case <-s.stream.ctx.Done():
		return &Error{Op: "recv", Reason: ReasonContext, Cause: contextError(s.stream.ctx)}
	}
}

// RecvMsg implements grpc.ClientStream.
func (s *lateStream[Req, Res]) RecvMsg(m any) error {
	if err := s.await(); err != nil {
		return err
	}
	return contractStream[Req, Res]{s.stream}.RecvMsg(m)
}

// Header implements grpc.ClientStream.
func (s *lateStream[Req, Res]) Header() (metadata.MD, error) {
	if s.await() != nil {
		return nil, nil //nolint:nilerr // RecvMsg tells
	}
	return s.stream.Header()
}

// Trailer implements grpc.ClientStream.
func (s *lateStream[Req, Res]) Trailer() metadata.MD { return s.stream.Trailer() }

// Context implements grpc.ClientStream.
func (s *lateStream[Req, Res]) Context() context.Context { return s.stream.Context() }
