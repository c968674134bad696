package tap

import (
	"context"
	"errors"
	"maps"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	grpctap "google.golang.org/grpc/tap"

	"github.com/streamsafe/streamsafe/internal/rpcstatus"
)

// Accountant admits RPCs like a [ServerInHandle] and learns how they end. Permits taken at admission are held until the
// handler has returned, even if the client has gone before; breakers and throttlers see the real outcome. So it has
// two parts, and a server needs both: Handle for grpc.InTapHandle, and the Accountant itself for grpc.StatsHandler. Its
// interceptors let permits come back earlier. ServerOptions has all of them.
//
// Give it to one server, before other stats handlers. Servers may share policies, but not an Accountant. It is safe for
// concurrent use.
type Accountant struct {
	rules *rules // set at construction, then read only

	mu sync.Mutex // guards writing to served
	// served are methods that have a handler, by full name. For these grpc is sure to report the end of each RPC.
	served atomic.Pointer[map[string]struct{}]
}

// A server with a handler for unknown methods serves any name that a client thinks of. So Accountant.served is bounded.
const (
	maxServed       = 4096
	maxServedLength = 256
)

// NewAccountant returns an accountant, or an error that tells what is wrong with the options: also a pattern that is
// probably misspelt, see [Validate].
func NewAccountant(opts ...Option) (*Accountant, error) {
	r, err := newRules(opts, true)
	if err := errors.Join(err, misspelt(opts)); err != nil {
		return nil, err
	}
	if r.counters == nil {
		r.counters = new(Counters)
	}
	a := &Accountant{rules: r}
	a.served.Store(&map[string]struct{}{})
	return a, nil
}

// ServerOptions returns the options that make a server use the accountant: the handle, the stats handler and the two
// interceptors. Give them to grpc before options with other interceptors, so that these count as a part of the handler. To
// use other handles too, give grpc InTapHandle(Chain(others, a.Handle)), StatsHandler(a) and the interceptors instead.
func (a *Accountant) ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.InTapHandle(a.Handle), grpc.StatsHandler(a),
		grpc.ChainUnaryInterceptor(a.UnaryInterceptor), grpc.ChainStreamInterceptor(a.StreamInterceptor),
	}
}

// UnaryInterceptor gives the permits of bulkheads and adaptive limiters back when the handler returns. Without it they come
// back when grpc tells of the end of the RPC. The answer is on its way by then, so a client that calls again at once may be
// refused at a limit that it alone uses. Breakers and throttlers learn the outcome at the end in either case.
func (a *Accountant) UnaryInterceptor(
	ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
) (any, error) {
	defer a.handlerReturned(ctx) // even if the handler panics
	return handler(ctx, req)
}

// StreamInterceptor is UnaryInterceptor for streams.
func (a *Accountant) StreamInterceptor(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	defer a.handlerReturned(stream.Context()) // even if the handler panics
	return handler(srv, stream)
}

func (a *Accountant) handlerReturned(ctx context.Context) {
	if adm, ok := ctx.Value(a).(*admission); ok {
		o, _ := a.outcomeOf(ctx, adm, status.FromContextError(ctx.Err()).Err())
		adm.handlerReturned(o)
	}
}

// Stats returns a snapshot of the accountant's counters.
func (a *Accountant) Stats() Stats { return a.rules.counters.Stats() }

// Handle is the handle for grpc.InTapHandle. It never waits. It allocates the context that it returns and what an
// adaptive limiter needs; for an RPC that is exempt nothing.
func (a *Accountant) Handle(ctx context.Context, info *grpctap.Info) (context.Context, error) {
	m, refused := a.rules.methodOf(ctx, info)
	if refused != nil || m.exempt {
		a.rules.tell(info, refused, m.exempt)
		if refused != nil {
			return ctx, refused.err
		}
		return ctx, nil
	}
	adm := newAdmission(ctx, a, info.FullMethodName)
	refused = a.rules.pass(ctx, info, m, adm)
	a.rules.tell(info, refused, false)
	if refused != nil {
		adm.giveBack(unrun, nil)
		return ctx, refused.err
	}
	a.rules.counters.running.Add(1)
	return adm, nil
}

// TagRPC implements stats.Handler.
func (a *Accountant) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context {
	adm, ok := ctx.Value(a).(*admission)
	if !ok || !adm.state.CompareAndSwap(uint32(admitted), uint32(tagged)) {
		return ctx
	}
	if _, ok := (*a.served.Load())[adm.method]; !ok {
		// Maybe nobody serves the method. Then grpc says nothing more, and cancels the context.
		adm.stop = context.AfterFunc(ctx, func() { adm.end(tagged, unrun, nil) })
	}
	return ctx
}

// HandleRPC implements stats.Handler.
func (a *Accountant) HandleRPC(ctx context.Context, s stats.RPCStats) {
	switch s := s.(type) {
	case *stats.Begin:
		if adm, ok := ctx.Value(a).(*admission); ok {
			a.begin(adm)
		}
	case *stats.End:
		if adm, ok := ctx.Value(a).(*admission); ok {
			a.finish(ctx, adm, s.Error)
		}
	}
}

// TagConn implements stats.Handler.
func (a *Accountant) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler.
func (a *Accountant) HandleConn(context.Context, stats.ConnStats) {}

func (a *Accountant) begin(adm *admission) {
	if !adm.state.CompareAndSwap(uint32(tagged), uint32(running)) || adm.stop == nil {
		return
	}
	adm.stop()
	a.mu.Lock()
	defer a.mu.Unlock()
	if served := *a.served.Load(); len(served) < maxServed && len(adm.method) <= maxServedLength {
		served = maps.Clone(served)
		served[adm.method] = struct{}{}
		a.served.Store(&served)
	}
}

// finish ends an admission with the outcome of the RPC, or without one if the function of WithServerFault panics.
func (a *Accountant) finish(ctx context.Context, adm *admission, err error) {
	defer adm.end(running, left, err) // it ends once
	o, err := a.outcomeOf(ctx, adm, err)
	adm.end(running, o, err)
}

// outcomeOf tells how an RPC ended. A client whose deadline has passed cancels, and may be faster than the server's own
// timer: that is a deadline too.
func (a *Accountant) outcomeOf(ctx context.Context, adm *admission, err error) (outcome, error) {
	if status.Code(err) == codes.Canceled {
		if !rpcstatus.AtDeadline(ctx, adm.since) {
			return left, err
		}
		err = status.FromContextError(context.DeadlineExceeded).Err()
	}
	if err != nil && a.rules.fault(err) {
		return fault, err
	}
	return served, err
}
