package tap

import (
	"context"

	grpctap "google.golang.org/grpc/tap"
)

// ServerInHandle returns a handle for grpc.InTapHandle that refuses RPCs before grpc makes a stream of them. It asks each
// policy for a permit, never waits, and allocates nothing for an RPC that it lets pass. A refusal carries a status: see
// [Reason]. An RPC whose deadline has passed is refused without asking.
//
// It does not learn how RPCs end. For policies that have to know, use an [Accountant]. Wrong options: see [Validate].
func ServerInHandle(opts ...Option) grpctap.ServerInHandle {
	r, _ := newRules(opts, false)
	return r.handle
}

func (r *rules) handle(ctx context.Context, info *grpctap.Info) (context.Context, error) {
	m, refused := r.methodOf(ctx, info)
	if refused == nil && !m.exempt {
		refused = r.pass(ctx, info, m, nil)
	}
	r.tell(info, refused, m.exempt)
	if refused != nil {
		return ctx, refused.err
	}
	return ctx, nil
}

// Chain returns a handle that runs handles in turn, until one refuses: grpc takes only one. The context that a handle
// returns goes to the next. When one refuses, the permits that Accountants before it have taken are given back; to call
// an Accountant's handle from another handle, without Chain, would leak them. A policy's bare error gets its status.
func Chain(handles ...grpctap.ServerInHandle) grpctap.ServerInHandle {
	return func(ctx context.Context, info *grpctap.Info) (context.Context, error) {
		for _, handle := range handles {
			if handle == nil {
				continue
			}
			next, err := handle(ctx, info)
			if err != nil {
				giveBack(ctx)
				return ctx, withStatus(err)
			}
			ctx = next //nolint:fatcontext // each handle adds what it likes, once
		}
		if adm, ok := ctx.Value(admissionKey{}).(*admission); ok && ctx != context.Context(adm) {
			return doorContext{ctx}, nil
		}
		return ctx, nil
	}
}

// doorContext is for a chain in which a handle has derived a context from an Accountant's: its Err need not be that of the
// admission. See there.
type doorContext struct{ context.Context } //nolint:containedctx // it is a context

// Err tells whether the context is done, and that the RPC will not run.
func (c doorContext) Err() error {
	err := c.Context.Err()
	if err != nil {
		giveBack(c.Context)
	}
	return err
}
