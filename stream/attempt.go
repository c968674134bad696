package stream

import (
	"context"
	"errors"
	"io"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/streamsafe/streamsafe/internal/rpcstatus"
)

// Bidi is what a generated bidi method returns, from any generation of protoc-gen-go-grpc.
type Bidi[Req, Res any] interface {
	Send(*Req) error
	Recv() (*Res, error)
	grpc.ClientStream
}

// attempt is one gRPC stream under a logical stream. Whatever comes out of it comes out through it, so what is stale
// is known by the attempt it belongs to (invariant 10).
type attempt[Req, Res any] struct {
	// set at construction, then read only
	epoch  uint64
	ctx    context.Context //nolint:containedctx // the life of the gRPC stream, which outlives every call
	cancel context.CancelFunc
	codec  *capture // nil unless messages are kept or measured

	// set when opened, then read only
	stream Bidi[Req, Res]

	lost    chan struct{}         // closed by fail, once
	loss    atomic.Pointer[loss]  // written by fail, once
	aborted atomic.Pointer[error] // written by Send: grpc has aborted the attempt for a message that is bad, with this error
	suspect chan struct{}         // buffered; written by whoever finds the attempt dead without knowing why, read by the lifecycle goroutine

	stopWatch func() // owned by the lifecycle goroutine
}

// loss is what an attempt ended with.
type loss struct {
	op      string
	err     error // io.EOF: the server ended the stream
	trailer metadata.MD
	ours    bool   // this package ended the attempt, and the stream may be resumed
	final   Reason // not ReasonUnknown: this package ended the attempt, and the stream with it
}

func newAttempt[Req, Res any](ctx context.Context, epoch uint64, codec *capture) *attempt[Req, Res] {
	ctx, cancel := context.WithCancel(ctx)
	return &attempt[Req, Res]{
		epoch: epoch, ctx: ctx, cancel: cancel, codec: codec,
		lost: make(chan struct{}), suspect: make(chan struct{}, 1),
	}
}

// fail ends the attempt. The first call counts; all others are no-ops.
func (a *attempt[Req, Res]) fail(l *loss) {
	if a.loss.CompareAndSwap(nil, l) {
		a.cancel()
		close(a.lost)
	}
}

// recvFailed ends the attempt with what RecvMsg has returned.
func (a *attempt[Req, Res]) recvFailed(err error) {
	a.fail(&loss{op: "recv", err: err, trailer: a.stream.Trailer()})
}

// suspected asks the lifecycle goroutine to find out why the attempt is dead.
func (a *attempt[Req, Res]) suspected() {
	select {
	case a.suspect <- struct{}{}:
	default:
	}
}

// diedOf reports whether err, which Send returned, means that the attempt is dead, rather than that the message was
// bad. It sees to it that somebody finds the cause.
func (a *attempt[Req, Res]) diedOf(err error) bool {
	if err == nil || (!errors.Is(err, io.EOF) && a.loss.Load() == nil && a.ctx.Err() == nil) {
		return false
	}
	a.suspected()
	return true
}

func (a *attempt[Req, Res]) send(m *Req) error { return a.stream.Send(m) }

// recv receives into a message of its own, or into the one given.
func (a *attempt[Req, Res]) recv(into *Res) (*Res, error) {
	if into == nil {
		return a.stream.Recv()
	}
	return into, a.stream.RecvMsg(into)
}

// endsWell reports whether the server said OK, or Resume that nothing remains.
func (l *loss) endsWell() bool {
	return errors.Is(l.err, Complete) || l.op == "recv" && errors.Is(l.err, io.EOF)
}

// hint is what the server said about trying again.
func (l *loss) hint() rpcstatus.Hint { return rpcstatus.HintOf(l.err, l.trailer) }

// endedBy returns the end of a lost attempt. Where grpc has aborted it for a bad message, Recv may have told of that first,
// as CANCELLED or as what Send says: that is not the server's word.
func (a *attempt[Req, Res]) endedBy() *loss {
	l, bad := a.loss.Load(), a.aborted.Load()
	if bad == nil || l.ours || l.endsWell() {
		return l
	}
	if code := rpcstatus.Of(l.err).Code(); code == codes.Canceled || code == rpcstatus.Of(*bad).Code() {
		return &loss{op: "send", err: *bad, ours: true}
	}
	return l
}
