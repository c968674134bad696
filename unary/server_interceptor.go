package unary

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// ServerInterceptor returns an interceptor that runs handlers of unary methods under policies. It is for
// grpc.UnaryInterceptor or grpc.ChainUnaryInterceptor; those after it, and the handler, see each try.
//
// Policies work in the request's context: they stop waiting, and retrying, when the caller has gone or its deadline has
// passed, and nothing is begun for a caller that has gone. A handler that panics lets go of its permits, counts as a
// failure, is not retried, and panics. A call that the client retries (x-retry-attempt) is not retried here as well.
//
// Errors are those of [ClientInterceptor]. To refuse calls before they are read, see package tap.
func ServerInterceptor(opts ...Option) grpc.UnaryServerInterceptor {
	base := newOptions(opts)
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		settings, err := settingsFor(ctx, base, nil, info.FullMethod)
		if err != nil {
			return nil, status.Error(codes.Internal, err.Error())
		}
		if executor := settings.executor(); executor != nil {
			var leave func()
			ctx, leave = join(ctx, executor.Context())
			defer leave()
		}
		if settings.priority() {
			if ctx, err = receivePriority(ctx); err != nil {
				return nil, err
			}
		}
		if settings.plain() {
			return handler(ctx, req)
		}
		c := &serverCall{call: call{ctx: ctx, method: info.FullMethod, settings: settings}, req: req, handler: handler}
		c.side = c
		return c.finish() //nolint:contextcheck // the call holds ctx
	}
}

// serverCall is the server's side of a call.
type serverCall struct {
	call
	req     any               // set at construction, then read only
	handler grpc.UnaryHandler // set at construction, then read only
}

func (c *serverCall) finish() (any, error) {
	reply, err := c.run()
	switch {
	case err != nil:
		err = c.failed(err, true)
	case reply == nil:
		err = status.Errorf(codes.Internal, "unary: %s: neither a reply nor an error", c.method)
	}
	c.tell(err)
	if err != nil {
		return nil, err
	}
	return reply, nil
}

// attempt implements side.
func (c *serverCall) attempt(ctx context.Context, _ int) (any, made, error) {
	reply, err := c.handler(ctx, c.req)
	return reply, made{}, err
}

// blank implements side. What a handler would return is not known.
func (c *serverCall) blank() any { return nil }

// retriedBefore implements side.
func (c *serverCall) retriedBefore() int {
	return attemptOf(metadata.ValueFromIncomingContext(c.ctx, attemptKey))
}
