package stream

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/streamsafe/streamsafe/internal/outbox"
	"github.com/streamsafe/streamsafe/internal/rpcstatus"
)

// Bidi is what a generated bidi method returns, from any generation of protoc-gen-go-grpc. All its methods but Header and
// SendMsg are used: a fake needs them.
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

	link link // with DialOptions

	// set when opened, then read only
	stream  Bidi[Req, Res]
	targets targets

	loss    atomic.Pointer[loss] // written by fail, once
	aborted atomic.Pointer[loss] // written by whoever sends: grpc has aborted the attempt for a message that is bad
	answer  atomic.Pointer[loss] // written by whoever receives: the one answer has come, and OK with it

	announced atomic.Bool           // written by whoever receives: the server has announced the end of the attempt
	suspect   atomic.Bool           // written by whoever finds the attempt dead without knowing why; cleared by the lifecycle goroutine
	due       atomic.Pointer[error] // why the attempt is to be replaced; written by isDue, cleared by the lifecycle goroutine
	news      chan struct{}         // buffered; written after loss, suspect or due, read by the lifecycle goroutine, which looks at them

	spoke     bool      // a message has come; owned by whoever receives
	stopWatch func()    // owned by the lifecycle goroutine
	attached  time.Time // owned by the lifecycle goroutine

	// Planned rotation. Owned by the lifecycle goroutine.
	rotation  error       // why the attempt is to be replaced; nil if it is not
	ageing    *time.Timer // makes it due; nil if nothing will
	putOffs   int         // rotations that were put off
	overtaken bool        // the next attempt was begun while this one lived: the server may end it because of that
}

// loss is what an attempt ended with.
type loss struct {
	op      string
	err     error // io.EOF: the server ended the stream
	told    error // what policies have made of err, where they have
	trailer metadata.MD
	origin  origin // who made err
	heard   bool   // a gRPC server had accepted the attempt
	planned bool   // the server had announced it, or says so
	final   Reason // not ReasonUnknown: this package ended the attempt, and the stream with it
	waited  error  // what the connection waited for when the open was cut short; nil if it did not wait, or nobody knows

	completes func() *loss // takes in what Resume has delivered before it said Complete, and returns what else ends the stream
}

func newAttempt[Req, Res any](ctx context.Context, epoch uint64, codec *capture) *attempt[Req, Res] {
	ctx, cancel := context.WithCancel(ctx)
	return &attempt[Req, Res]{
		epoch: epoch, ctx: ctx, cancel: cancel, codec: codec,
		news: make(chan struct{}, 1), stopWatch: func() {},
	}
}

// fail ends the attempt. The first call counts; all others are no-ops.
func (a *attempt[Req, Res]) fail(l *loss) {
	if a.loss.CompareAndSwap(nil, l) {
		a.cancel()
		a.tell()
	}
}

// recvFailed ends the attempt with what RecvMsg has returned.
func (a *attempt[Req, Res]) recvFailed(err error) {
	l := &loss{op: "recv", err: err, origin: a.originOf(err), trailer: a.stream.Trailer(), heard: a.accepted(err)}
	l.planned = a.announced.Load() || l.plannedByServer()
	a.fail(l)
}

// originOf returns who made err, which RecvMsg has returned. If a context that open made has a deadline, which is at hand,
// either end may have been the first to see it.
func (a *attempt[Req, Res]) originOf(err error) origin {
	deadline, has := a.stream.Context().Deadline()
	own, hasOwn := a.ctx.Deadline()
	if has && (!hasOwn || deadline.Before(own)) && isContextEnd(rpcstatus.Of(err).Code()) && isNear(deadline) {
		return fromClient
	}
	return originOf(err, fromClient)
}

// isNear reports whether a deadline has passed, or the clock of the other end may say so.
func isNear(deadline time.Time) bool { return time.Until(deadline) < time.Second }

// accepted reports whether a gRPC server has accepted the attempt that ends with err. It asks for the header only if that
// makes a difference.
func (a *attempt[Req, Res]) accepted(err error) bool {
	st := rpcstatus.Of(err)
	if a.spoke || st.Code() != codes.Unauthenticated && !isWrongAddress(st) && !isCredentials(st) {
		return a.spoke
	}
	md, headerErr := a.stream.Header() // it does not wait: RecvMsg has failed
	return headerErr == nil && md != nil
}

// suspected asks the lifecycle goroutine to find out why the attempt is dead.
func (a *attempt[Req, Res]) suspected() {
	a.suspect.Store(true)
	a.tell()
}

// tell makes the lifecycle goroutine look at what is new.
func (a *attempt[Req, Res]) tell() {
	select {
	case a.news <- struct{}{}:
	default: // it will look
	}
}

// said tells apart what Send may have returned, and who said it: the facts of outbox's table.
//
// grpc encodes and measures a message before it looks at the stream, and reports a dead one as io.EOF. An interceptor may
// report a failure of its own, and what grpc said before that.
func (a *attempt[Req, Res]) said(err error) outbox.Said {
	switch {
	case err == nil:
		return outbox.OK
	case errors.Is(err, io.EOF):
		return outbox.Dead
	case neverSent(err):
		return outbox.Rejected
	case a.isOver() && slices.Contains([]codes.Code{codes.Unavailable, codes.Canceled, codes.DeadlineExceeded}, rpcstatus.Of(err).Code()):
		return outbox.Lost
	default:
		return outbox.Failed
	}
}

// isOver reports whether the attempt is known to have ended.
func (a *attempt[Req, Res]) isOver() bool {
	return a.loss.Load() != nil || a.ctx.Err() != nil || a.stream.Context().Err() != nil
}

// abortedBy notes that grpc has aborted the attempt for a message. The first time counts: after that grpc may say anything of
// the next message.
func (a *attempt[Req, Res]) abortedBy(l *loss) { a.aborted.CompareAndSwap(nil, l) }

// neverSent reports whether err is grpc's own refusal of a message, which was not sent, and for which grpc has ended the
// attempt. It leaves no other mark than its words: an interceptor's error may have the same code, after the message was
// sent.
func neverSent(err error) bool {
	text := err.Error()
	return strings.Contains(text, "trying to send message larger than max") || strings.Contains(text, "grpc: error while ")
}

// started takes over a stream that was opened. To ask for its context makes grpc leave retries to this package: its own,
// after a GOAWAY say, would go on in the middle of a Send, and fail as if the message were bad.
func (a *attempt[Req, Res]) started(stream Bidi[Req, Res]) {
	_ = stream.Context()
	a.stream = stream
}

func (a *attempt[Req, Res]) send(m *Req) error { return a.stream.Send(m) }

// recv receives into a message of its own, or into the one given.
func (a *attempt[Req, Res]) recv(into *Res) (*Res, error) {
	var err error
	if into == nil {
		into, err = a.stream.Recv()
	} else {
		err = a.stream.RecvMsg(into)
	}
	a.spoke = a.spoke || err == nil
	return into, err
}

// endsWell reports whether the server said OK, or Resume that nothing remains.
func (l *loss) endsWell() bool {
	return errors.Is(l.err, Complete) || l.op == "recv" && errors.Is(l.err, io.EOF)
}

// hint is what the server said about trying again.
func (l *loss) hint() rpcstatus.Hint { return rpcstatus.HintOf(l.err, l.trailer) }

// endedBy returns the end of a lost attempt. What ended it after its one answer does not count. Where grpc has aborted it for a
// bad message, Recv may have told of that first, as CANCELLED or as what Send says: that is not the server's word.
func (a *attempt[Req, Res]) endedBy() *loss {
	if answered := a.answer.Load(); answered != nil {
		return answered
	}
	l, bad := a.loss.Load(), a.aborted.Load()
	if bad == nil || l.origin == fromStream || l.endsWell() {
		return l
	}
	if code := rpcstatus.Of(l.err).Code(); code == codes.Canceled || code == rpcstatus.Of(bad.err).Code() {
		return bad
	}
	return l
}
