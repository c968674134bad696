package stream

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/internal/inbox"
	"github.com/streamsafe/streamsafe/internal/outbox"
)

// Resilient opens a stream that survives broken connections. open is a generated method for a bidirectional stream, such
// as client.Chat. The type parameters are inferred from it.
//
// Resilient returns when the first attempt is attached: it is open, and Resume has returned nil. If the stream ends before
// that, it returns an [*Error], or io.EOF if Resume returned [Complete]. If options contradict each other or the callbacks,
// it opens nothing and returns an [*Error] with ReasonOptions.
//
// Without WithMaxOutage or policies that give up, Resilient waits for the first attempt as long as ctx allows. ctx is the
// context of the whole stream. Use WithMaxOutage to limit each outage, the first open included.
//
// The stream uses a goroutine and a connection until it ends: the server ends it, it fails for good, ctx is done, or Close
// is called. So defer Close.
func Resilient[Req, Res any, S Bidi[Req, Res]](
	ctx context.Context,
	open func(context.Context, ...grpc.CallOption) (S, error),
	callbacks Callbacks[Req, Res],
	opts ...ClientOption,
) (*ClientStream[Req, Res], error) {
	if open == nil {
		return nil, wrongOptions(errors.New("open is nil"))
	}
	s, err := resilient(ctx, method{kind: bidirectional}, callbacks, opts)
	if err != nil {
		return nil, err
	}
	s.open = func(ctx context.Context, _ *Req, opts []grpc.CallOption) (Bidi[Req, Res], error) {
		return open(ctx, opts...)
	}
	return s.launch() //nolint:contextcheck // the stream has ctx
}

// ClientStream is a stream that survives broken connections. It implements grpc.BidiStreamingClient,
// grpc.ServerStreamingClient and grpc.ClientStreamingClient.
//
// As with grpc's own streams, one goroutine may call Send or SendTracked while another calls Recv. Two goroutines must not send, or
// receive, at the same time. Close, Commit, Flush, Unacked, SendOn, State, Stats and Context may be called at any time, from any
// goroutine.
type ClientStream[Req, Res any] struct {
	// set at construction, then read only
	ctx       context.Context //nolint:containedctx // the life of the stream, which outlives every call
	cancel    context.CancelCauseFunc
	caller    context.Context //nolint:containedctx // what the application gave: its end is the application's own
	options   clientOptions
	callbacks Callbacks[Req, Res]
	kind      kind
	request   func(from checkpoint.Position) (*Req, error) // of a method that takes one; nil for others
	open      func(context.Context, *Req, []grpc.CallOption) (Bidi[Req, Res], error)
	life      failsafe.Executor[any] // of policies held for life; nil where there is none
	outage    failsafe.Executor[any]
	opening   failsafe.Executor[any]
	sends     messagePolicies
	recvs     messagePolicies
	committer *committer // nil without a store
	events    *events    // nil without an observer
	inbox     *inbox.Inbox[*attempt[Req, Res], Res]
	outbox    *outbox.Outbox[*attempt[Req, Res]]
	codec     *callCodec
	born      time.Time
	counts    counts
	method    methodKnown

	state     atomic.Uint32                     // written by enter, read by State
	newest    atomic.Pointer[attempt[Req, Res]] // written by the lifecycle goroutine, read by Header and Trailer
	lastErr   atomic.Pointer[attemptError]      // written by the lifecycle goroutine and by opens, read by Stats
	trailer   atomic.Pointer[metadata.MD]       // of the last attempt that ended; written by the lifecycle goroutine
	heard     atomic.Pointer[heard]             // written by the lifecycle goroutine, read by opens that race
	inside    atomic.Int32                      // callbacks of the lifecycle goroutine that are running
	notBefore atomic.Int64                      // when the server wants to be tried again, a time.Duration after born; written by the lifecycle goroutine
	attached  chan struct{}                     // closed by the lifecycle goroutine when the first attempt is attached
	done      chan struct{}                     // closed by the lifecycle goroutine when it ends
	final     error                             // how the stream ended; written before done is closed
	sendCut   *cutter[Req, Res]                 // used by whoever calls Send; nil without an executor for sends
	recvCut   *cutter[Req, Res]                 // used by whoever calls Recv; nil without one for receives
	health    health                            // owned by the lifecycle goroutine
}

// health is what the lifecycle goroutine remembers of earlier attempts.
type health struct {
	position  checkpoint.Position // where the stream stood when the last attempt was lost
	reached   uint64              // the most messages past it, or in all, that an attempt has brought
	acked     uint64              // how far the server had the messages sent
	fruitless int                 // attempts in a row that were lost there
	cause     error               // what the last attempt ended with
	closes    int                 // planned closes in a row that brought nothing new
}

// heard is what the stream has heard of gRPC servers so far.
type heard struct {
	answered bool // one has answered
	accepted bool // one has accepted an attempt
	renewed  bool // it has refused the credentials since, and others were tried
}

// resilient returns a stream that is still to be opened and launched, if the options fit.
func resilient[Req, Res any](
	ctx context.Context, of method, callbacks Callbacks[Req, Res], opts []ClientOption,
) (*ClientStream[Req, Res], error) {
	o, err := optionsOf(callbacks.set(of), opts)
	if err != nil {
		return nil, wrongOptions(err)
	}
	return newClientStream(ctx, of.kind, callbacks, o), nil
}

func newClientStream[Req, Res any](
	ctx context.Context, of kind, callbacks Callbacks[Req, Res], o clientOptions,
) *ClientStream[Req, Res] {
	s := &ClientStream[Req, Res]{
		caller: ctx, options: o, kind: of, callbacks: callbacks,
		attached: make(chan struct{}), done: make(chan struct{}), born: time.Now(), codec: newCallCodec(o.call),
	}
	s.heard.Store(new(heard))
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	s.life, s.outage = o.streamExecutors()
	s.opening = o.openExecutor()
	s.sends, s.recvs = o.sends.messages(s.ctx), o.recvs.messages(s.ctx) //nolint:contextcheck // the stream has ctx
	if s.sends.executor != nil {
		s.sendCut = new(cutter[Req, Res])
	}
	if s.recvs.executor != nil {
		s.recvCut = new(cutter[Req, Res])
	}
	if len(o.observers) > 0 {
		s.events = &events{name: o.name}
	}
	in := inbox.Config{
		Hold: o.holds, HoldLimit: o.holdLimit, DeliverOverflow: o.overflow == OverflowDeliver, NoGaps: o.gapDetection, Manual: o.manual,
	}
	if o.store != nil {
		s.committer = &committer{
			storeOptions: *o.store, ctx: s.ctx, fenced: s.fenced, events: s.events, slot: make(chan struct{}, 1),
		}
		in.Counted, in.Moved = s.committer.processed, s.committer.moved
	}
	s.inbox = inbox.New[*attempt[Req, Res], Res](in)
	if s.committer != nil {
		s.committer.source = s.inbox.Committable
	}
	limits := o.replayLimits.withDefaults()
	s.outbox = outbox.New[*attempt[Req, Res]](outbox.Config{
		Replay: o.replay, Messages: limits.Messages, Bytes: limits.Bytes, Explicit: callbacks.Sequence != nil,
		FailWhenFull: limits.FailWhenFull || of == clientStreaming, // nothing would make room
		Keys:         orDefault(o.keyLimits.Keys, 16<<10), KeyBytes: orDefault(o.keyLimits.Bytes, 16<<20),
	})
	if of == serverStreaming {
		s.outbox.CloseSend() // nothing is to be sent
	}
	return s
}

// launch starts the lifecycle goroutine and waits for the first attempt.
func (s *ClientStream[Req, Res]) launch() (*ClientStream[Req, Res], error) {
	s.observed()
	go s.run() // the lifecycle goroutine; ends with the stream; Close waits for it
	select {
	case <-s.attached:
		return s, nil
	case <-s.done:
	}
	select {
	case <-s.attached: // and ended since: what has arrived is still to be had
		return s, nil
	default:
		return nil, s.final
	}
}
