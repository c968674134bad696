package stream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	encproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/grpclog"

	"github.com/streamsafe/streamsafe/internal/methods"
)

// ClientInterceptor returns an interceptor that makes streams of generated clients resilient, without a change at their call
// sites. It is for grpc.WithStreamInterceptor or grpc.WithChainStreamInterceptor. Interceptors after it see each attempt.
// [ForMethod] says which methods, and how. All other streams pass untouched.
//
// The client gets a grpc.ClientStream that behaves as [ClientStream] does:
//
//   - A method that takes a stream returns when the first attempt is attached, as [Resilient] does. A server-streaming method
//     returns when its request was sent, and the first attempt is attached. So a call waits for the server as long as its
//     context allows. Use WithMaxOutage to limit that.
//   - Errors are an [*Error], with a gRPC status. io.EOF is bare.
//   - The stream ends when its context is done, or a call of SendMsg or RecvMsg has returned an error, or, if it answers once,
//     when it has answered. Errors of one message end it, too: a client that follows gRPC's contract does not call it again.
//   - Metadata and call options are those of the call, on each attempt. grpc.Header, grpc.Trailer and grpc.Peer have what the last
//     attempt got, and the function of grpc.OnFinish is called once, at the end.
//
// If options are wrong, the interceptor refuses the streams that they are for, with ReasonOptions: see [ValidateClient].
func ClientInterceptor(opts ...InterceptorOption) grpc.StreamClientInterceptor {
	o := newInterceptorOptions(opts)
	return func(
		ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, streamer grpc.Streamer,
		opts ...grpc.CallOption,
	) (grpc.ClientStream, error) {
		if o.wrong != nil {
			return nil, wrongOptions(o.wrong)
		}
		r, ok := o.methods.Get(method)
		if !ok {
			return streamer(ctx, desc, conn, method, opts...)
		}
		o.firstUse()
		return r.open(ctx, interceptedCall{desc: desc, conn: conn, method: method, streamer: streamer, options: opts})
	}
}

// InterceptorOption configures a [ClientInterceptor]. The zero value does nothing.
type InterceptorOption struct{ apply func(*interceptorOptions) }

// ForMethod makes the streams of one method ("/pkg.Service/Method") resilient, with callbacks and options as those of
// [Resilient], [ResilientServerStreaming] or [ResilientClientStreaming]. The method tells which of them. Callbacks.Request makes
// the requests of a server-streaming method.
//
// The pattern may also stand for all methods of a service ("/pkg.Service/*"), or for all methods ("*"), if they have the same
// types. The most specific pattern of a method counts. Two ForMethod with the same pattern are an error.
//
// Req and Res must be the types of the method's messages. If they are others, each stream of the method is refused with
// ReasonOptions before anything is opened, if the generated code of the method is linked in. Otherwise the first SendMsg or
// RecvMsg is refused with ReasonMessage.
//
// All streams of the method share callbacks and options. If callbacks keep the state of a stream, use [ForMethodFunc]. With
// WithStore they share the key, and only the newest stream owns it. The name of a stream is its method, unless WithName sets
// another one.
func ForMethod[Req, Res any](pattern string, callbacks Callbacks[Req, Res], opts ...ClientOption) InterceptorOption {
	return InterceptorOption{func(o *interceptorOptions) {
		o.add(pattern, &registered[Req, Res]{pattern: pattern, callbacks: &callbacks, options: opts})
	}}
}

// ForMethodFunc is [ForMethod] with callbacks that each stream has for itself: callbacks is called for each stream, with the
// context of the call. Use it if callbacks count messages, for example.
func ForMethodFunc[Req, Res any](
	pattern string, callbacks func(ctx context.Context) Callbacks[Req, Res], opts ...ClientOption,
) InterceptorOption {
	return InterceptorOption{func(o *interceptorOptions) {
		if callbacks == nil {
			o.refuse(fmt.Errorf("ForMethodFunc %q: the function is nil", pattern))
			return
		}
		o.add(pattern, &registered[Req, Res]{pattern: pattern, make: callbacks, options: opts})
	}}
}

// ValidateClient reports what is wrong with the options of a [ClientInterceptor]: a pattern that is none, or is given twice, and
// options and callbacks that contradict each other. An interceptor cannot return an error, so it refuses streams: if a pattern is
// wrong all, otherwise those of the method.
//
// It also reports patterns that are probably misspelt, and callbacks of other types than the method's. For that it knows the
// services whose generated code is linked in. An interceptor ignores a misspelt pattern, and logs a warning when it is first used.
func ValidateClient(opts ...InterceptorOption) error {
	o := newInterceptorOptions(opts)
	errs := append(o.misspelt(), o.wrong)
	for _, r := range o.all {
		errs = append(errs, r.validate())
	}
	if err := joined(errs); err != nil {
		return wrongOptions(err)
	}
	return nil
}

// interceptorOptions is what the options of one interceptor come to. It is read only once it is filled.
type interceptorOptions struct {
	methods  methods.Map[registration]
	patterns []string
	all      []registration
	wrong    error     // what makes the interceptor refuse all streams
	warn     sync.Once // for the first stream
}

// registration is what ForMethod was given.
type registration interface {
	// open opens a stream. For a server-streaming method it waits for the request before it opens anything.
	open(ctx context.Context, call interceptedCall) (grpc.ClientStream, error)
	// validate reports what is wrong, whichever methods it is for.
	validate() error
}

// interceptedCall is what an interceptor gets.
type interceptedCall struct {
	desc     *grpc.StreamDesc
	conn     *grpc.ClientConn
	method   string
	streamer grpc.Streamer
	options  []grpc.CallOption
}

func newInterceptorOptions(opts []InterceptorOption) *interceptorOptions {
	o := &interceptorOptions{}
	for _, opt := range opts {
		if opt.apply != nil {
			opt.apply(o)
		}
	}
	return o
}

func (o *interceptorOptions) add(pattern string, r registration) {
	before := o.methods.Len()
	err := o.methods.Set(pattern, r)
	if err == nil && o.methods.Len() == before {
		err = fmt.Errorf("two ForMethod have the pattern %q", pattern)
	}
	o.refuse(err)
	if err == nil {
		o.patterns = append(o.patterns, pattern)
		o.all = append(o.all, r)
	}
}

func (o *interceptorOptions) refuse(err error) { o.wrong = joined([]error{o.wrong, err}) }

func (o *interceptorOptions) misspelt() (errs []error) {
	for _, p := range o.patterns {
		errs = append(errs, methods.Misspelt(p))
	}
	return errs
}

// firstUse warns of what ValidateClient would have reported, and the interceptor ignores.
func (o *interceptorOptions) firstUse() {
	o.warn.Do(func() {
		if err := joined(o.misspelt()); err != nil {
			grpclog.Component("streamsafe").Warning("stream: ", err)
		}
	})
}

// registered is a registration with its types.
type registered[Req, Res any] struct {
	pattern   string
	callbacks *Callbacks[Req, Res]                          // of all streams; nil if each has its own
	make      func(ctx context.Context) Callbacks[Req, Res] // of each stream
	options   []ClientOption
}

var errUnary = errors.New("the method takes one request and answers once, and is no stream: see package unary")

// kindOf returns the kind of a method.
func kindOf(clientStreams, serverStreams bool) (kind, error) {
	switch {
	case clientStreams && serverStreams:
		return bidirectional, nil
	case serverStreams:
		return serverStreaming, nil
	case clientStreams:
		return clientStreaming, nil
	default:
		return 0, errUnary
	}
}

// validate implements registration. If it is not known which kind of method it is for, all it can say is that it fits none.
func (r *registered[Req, Res]) validate() error {
	kinds := []kind{bidirectional, serverStreaming, clientStreaming}
	if m, ok := methods.Describe(r.pattern); ok {
		k, err := kindOf(m.ClientStreams, m.ServerStreams)
		if err = joined([]error{err, r.fits(r.pattern, nil)}); err != nil {
			return err
		}
		kinds = []kind{k}
	}
	if r.callbacks == nil {
		return nil // each stream tells
	}
	var wrong error
	for _, k := range kinds {
		_, err := r.settings(k, r.callbacks, nil, r.pattern)
		if err == nil {
			return nil
		}
		if wrong == nil {
			wrong = fmt.Errorf("ForMethod %q: %w", r.pattern, err)
		}
	}
	return wrong
}

// fits reports whether the types are those of the method, as far as generated code tells. codec is that of the call: only what it
// can encode can be a type of the method.
func (r *registered[Req, Res]) fits(fullMethod string, codec encoding.CodecV2) error {
	m, ok := methods.Describe(fullMethod)
	if !ok {
		return nil
	}
	plain := codec != nil && codec.Name() == encproto.Name
	if methods.CanBe(new(Req), m.Request, plain) && methods.CanBe(new(Res), m.Response, plain) {
		return nil
	}
	return fmt.Errorf("ForMethod %q: the callbacks are for %T and %T, but %s takes %s and returns %s",
		r.pattern, new(Req), new(Res), strings.TrimPrefix(fullMethod, "/"), m.Request, m.Response)
}
