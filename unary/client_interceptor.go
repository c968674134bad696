package unary

import (
	"context"
	"errors"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// ClientInterceptor returns an interceptor that runs unary calls under policies. It is for grpc.WithUnaryInterceptor or
// grpc.WithChainUnaryInterceptor; those after it see each attempt.
//
// Errors: an attempt's own is returned as it is; what a policy made of the call is an [*Error]. If options are wrong
// every call fails with INTERNAL: see [Validate].
func ClientInterceptor(opts ...Option) grpc.UnaryClientInterceptor {
	base := newOptions(opts)
	return func(
		ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker,
		opts ...grpc.CallOption,
	) error {
		settings, err := settingsFor(ctx, base, callOptions(opts), method)
		if err != nil {
			return status.Error(codes.Internal, err.Error())
		}
		if executor := settings.executor(); executor != nil {
			var leave func()
			ctx, leave = join(ctx, executor.Context())
			defer leave()
		}
		if settings.priority() {
			ctx = sendPriority(ctx)
		}
		if settings.plain() {
			return invoker(ctx, method, req, reply, cc, opts...)
		}
		c := &clientCall{
			call: call{ctx: ctx, method: method, settings: settings},
			req:  req, reply: reply, conn: cc, invoker: invoker, options: opts,
		}
		c.side = c
		if chain := settings.chain; chain != nil && !chain.inTurn {
			c.flight = &flight{like: newReply(reply)}
		}
		return c.finish() //nolint:contextcheck // the call holds ctx
	}
}

// clientCall is the client's side of a call.
type clientCall struct {
	call
	req, reply any                // the caller's; set at construction, then read only
	conn       *grpc.ClientConn   // set at construction, then read only
	invoker    grpc.UnaryInvoker  // set at construction, then read only
	options    []grpc.CallOption  // set at construction, then read only
	space      [3]grpc.CallOption // for the options of the first attempt

	flight   *flight                       // nil if attempts do not overlap
	done     atomic.Pointer[clientAttempt] // the attempt that was done last
	firstTry clientAttempt
}

// clientAttempt is one attempt, with targets of its own. Nobody else writes to them.
type clientAttempt struct {
	reply   any
	header  metadata.MD
	trailer metadata.MD
	peer    *peer.Peer     // nil if the caller does not ask
	before  *clientAttempt // the one that was done before it; read only once it is done
}

// finish runs the call, and hands what the winner got to the caller, once. It returns when no attempt runs any more:
// from then on the caller may do with its messages what it likes. The attempts of hedges that lost are cancelled before.
func (c *clientCall) finish() error {
	if c.flight != nil {
		defer c.flight.close()
	}
	reply, err := c.run()
	c.handOver(reply, err)
	if err != nil {
		err = c.failed(err, false)
	} else if unfit := copyReply(c.reply, reply); unfit != nil {
		err = &Error{
			Method: c.method, Attempts: int(c.attempts.Load()), Cause: unfit, status: status.New(codes.Internal, unfit.Error()),
		}
	}
	c.tell(err)
	return err
}

// attempt implements side.
func (c *clientCall) attempt(ctx context.Context, number int) (any, made, error) {
	if c.flight != nil {
		if !c.flight.takeOff() {
			return nil, made{}, status.FromContextError(context.Canceled).Err()
		}
		defer c.flight.land()
	}
	a := &c.firstTry
	if number > 1 {
		a = &clientAttempt{}
		ctx = withOutgoing(ctx, attemptKey, c.retriedBefore()+number-1)
	}
	a.reply = c.reply
	if number > 1 || c.flight != nil {
		if a.reply = c.blank(); a.reply == nil {
			return nil, made{}, status.Errorf(codes.Internal, "unary: the reply is a %T and not a pointer", c.reply)
		}
	}
	err := c.invoker(ctx, c.method, c.req, a.reply, c.conn, c.attemptOptions(a, number)...)
	for {
		a.before = c.done.Load()
		if c.done.CompareAndSwap(a.before, a) {
			break
		}
	}
	return a.reply, made{a.trailer, a}, err
}

// retriedBefore implements side.
func (c *clientCall) retriedBefore() int {
	md, _ := metadata.FromOutgoingContext(c.ctx)
	return attemptOf(md.Get(attemptKey))
}

// blank implements side. A hedge may need one when the caller has its reply back: so it is not looked at.
func (c *clientCall) blank() any {
	if c.flight != nil {
		return newReply(c.flight.like)
	}
	return newReply(c.reply)
}

// attemptOptions returns the caller's options with the targets for headers, trailers and the peer replaced by the
// attempt's.
func (c *clientCall) attemptOptions(a *clientAttempt, number int) []grpc.CallOption {
	var opts []grpc.CallOption
	if number == 1 {
		opts = c.space[:0]
	}
	for _, opt := range c.options {
		switch opt.(type) {
		case grpc.HeaderCallOption:
			opt = grpc.Header(&a.header)
		case grpc.PeerCallOption:
			a.peer = &peer.Peer{}
			opt = grpc.Peer(a.peer)
		case grpc.TrailerCallOption:
			continue
		}
		opts = append(opts, opt)
	}
	return append(opts, grpc.Trailer(&a.trailer))
}

// handOver copies headers, trailers and the peer to the caller's targets: those of the attempt that the reply or the error
// came from, or if there is no such attempt those of the last that is done.
func (c *clientCall) handOver(reply any, err error) {
	a := c.winner(reply, err)
	if a == nil {
		return
	}
	for _, opt := range c.options {
		switch target := opt.(type) {
		case grpc.HeaderCallOption:
			*target.HeaderAddr = a.header
		case grpc.TrailerCallOption:
			*target.TrailerAddr = a.trailer
		case grpc.PeerCallOption:
			*target.PeerAddr = *a.peer
		}
	}
}

func (c *clientCall) winner(reply any, err error) *clientAttempt {
	last := c.done.Load()
	if err != nil {
		if failed, ok := errors.AsType[*tryError](err); ok && failed.by != nil {
			return failed.by
		}
		return last
	}
	for a := last; a != nil; a = a.before {
		if same(a.reply, reply) {
			return a
		}
	}
	return last
}
