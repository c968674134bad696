package stream

import (
	"context"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/internal/outbox"
)

// Callbacks connect a stream to the protocol of the application. All are optional.
//
// Err, Acked, Checkpoint and Control are called once for each received message, in this order, in the goroutine that
// receives the message. If one of them shows that the attempt has to end, those after it are not called. Sequence is
// called by Send. Resume, Lost and Replay are called one at a time, except that hedged opens each run a Resume.
//
// A callback must not call Send or Recv of the stream. It may call Close, State and Stats. It must return soon after its
// context is done.
type Callbacks[Req, Res any] struct {
	// Resume tells the server where to start. It runs on each attempt, the first included, before messages of the
	// application flow. [Resumption.Position] is the position to start from.
	//
	// An error ends the attempt. An error with a gRPC status counts as if the server had sent it; see [Resumable]. An
	// error without a status ends the stream with ReasonResume. If Resumption.Recv failed and the error of Resume has no
	// status, the error of Resumption.Recv is used instead. [Complete] ends the stream with io.EOF. [ErrPositionLost]
	// says that the position is lost; see Lost.
	//
	// If Resume is nil, a new attempt sends nothing first.
	Resume func(ctx context.Context, r *Resumption[Req, Res]) error

	// Request makes the request of each attempt, the first included, of a server-streaming method through
	// [ClientInterceptor]. original is a copy of what the application has sent. Request may change and return it. from is
	// the position to resume from, as that of Resume. [Complete] ends the stream with io.EOF, and nothing is sent. Any
	// other error counts like an error of Resume. If Request is nil, each attempt sends the original request.
	//
	// [ResilientServerStreaming] has an argument for it. For methods that take a stream it is an error: use Resume.
	Request func(original *Req, from checkpoint.Position) (*Req, error)

	// Err returns the error that m reports, or nil if m reports none. Some protocols put into a message what others put
	// into a status: compacted, too old, overloaded, done.
	//
	// A message with an error is not handed over, and the other callbacks do not see it. It ends the attempt. An error
	// with a gRPC status counts as if the server had sent it; see [Resumable]. An error without a status ends the stream
	// with ReasonServer. [ErrPositionLost] says that the position is lost. io.EOF and [Complete] count as OK from the
	// server.
	Err func(m *Res) error

	// Checkpoint returns the position that the stream has reached with m, and true. It returns false if the stream
	// cannot resume after m. The zero Position counts as false.
	//
	// Checkpoint needs Resume, WithReplay, WithRestart, or WithoutResume without a store. Otherwise Resilient returns an
	// error, because nothing would use the position.
	Checkpoint func(m *Res) (p checkpoint.Position, ok bool)

	// Control reports whether m belongs to the protocol, as an acknowledgement or a heartbeat does. Such a message is
	// accounted for, but Recv does not return it. If it has a position, that is a bookmark: the stream has reached it.
	Control func(m *Res) bool

	// Acked returns the highest sequence number among sent messages that m acknowledges, and true. All lower numbers are
	// acknowledged, too. It returns false if m acknowledges nothing. A number at or below an earlier one is ignored. A
	// number that was never sent ends the stream with ReasonProtocol.
	Acked func(m *Res) (seq uint64, ok bool)

	// Sequence returns the sequence number of an outgoing message. Numbers must be above zero and must rise. Otherwise
	// Send returns an error with ReasonMessage. This package does not transmit the number: put it into the message, so
	// that the server can recognize a message that it has already received.
	//
	// If Sequence is nil, messages count 1, 2, 3 and so on. If Resume calls [Resumption.Acknowledge] before anything was
	// sent, they count on from that number.
	Sequence func(m *Req) uint64

	// Replay sees each message before it is sent again. It returns the message to send, or nil to drop it. So an upload
	// can cut off what the server already has. acked is the highest acknowledged sequence number.
	//
	// m is a copy that Replay may change. What it returns is sent now, and kept for later replays. The sequence number
	// of the message does not change. Replay needs WithReplay.
	Replay func(m *Req, acked uint64) *Req

	// Key says that sends are state, and not events. Subscriptions are the common case. It returns the key that m is about, and
	// whether m is the last message of that key, as an unsubscribe is. Send calls it.
	//
	// Of the messages with one key only the newest is kept. Each new attempt gets these messages after Resume, in the order in
	// which the keys were first sent, and before newer sends. No acknowledgement is needed, and nothing is in doubt when an
	// attempt is lost. While there is no attempt, Send does not wait: the message replaces the kept one.
	//
	// A message with a key has no sequence number. A message whose key is empty is an ordinary one. The server may get the newest
	// message of a key again, and need not get older ones. Memory is limited; see [WithKeyLimits]. Key and WithReplay exclude
	// each other.
	Key func(m *Req) (key string, last bool)

	// Lost decides what happens when the position is lost: the server no longer has what follows it (see
	// [WithPositionLost]), or positions have another Lineage. at is the lost position, and cause is the error that said so.
	// Return [RestartFrom] to continue from another position. The zero Recovery ends the stream with ReasonPositionLost,
	// and so does a nil Lost. An error ends the stream with ReasonResume.
	//
	// Messages that arrived before the loss may still wait for Recv when Lost runs. To tell the application of the loss
	// in the right place, see the example.
	Lost func(ctx context.Context, at checkpoint.Position, cause error) (Recovery, error)
}

// Recovery is the answer of Callbacks.Lost. The zero value ends the stream with ReasonPositionLost.
type Recovery struct {
	restart bool
	from    checkpoint.Position
}

// RestartFrom makes the next attempt start from p. The zero Position is the beginning. Messages after p are handed over,
// also those that the application had before. The stream waits before that attempt as after any other loss.
//
// With WithStore, use a new Lineage to go back. The store rejects a lower Seq in the same Lineage, and would keep the old
// position until the stream has passed it again.
func RestartFrom(p checkpoint.Position) Recovery { return Recovery{restart: true, from: p} }

// Resumption is the attempt that Callbacks.Resume starts. It is valid until Resume returns. One goroutine may use it.
//
// StartsAt, Acknowledge and Deliver take effect when Resume returns nil, and not if it returns an error. Acknowledge and
// Deliver also take effect if Resume returns [Complete].
type Resumption[Req, Res any] struct {
	attempt  *attempt[Req, Res]
	kind     kind
	position checkpoint.Position
	cause    error

	anchor     checkpoint.Position
	anchored   bool
	acked      uint64
	ackedKnown bool
	deliver    []*Res
}

// Position returns the position to resume from: the last one that has arrived. Everything up to it is handed over, or
// will be by Recv. On the first attempt it is the position of the store or of WithPosition. The zero Position is the
// beginning. It does not change while Resume runs.
func (r *Resumption[Req, Res]) Position() checkpoint.Position { return r.position }

// Attempt returns the number of this attempt. The first one is 1.
func (r *Resumption[Req, Res]) Attempt() uint64 { return r.attempt.epoch }

// Cause returns the error that the previous attempt ended with. It is nil on the first attempt.
func (r *Resumption[Req, Res]) Cause() error { return r.cause }

// Send sends m on this attempt only. m has no sequence number, and is neither kept nor sent again.
//
// A nil error does not say that the server has m. If the attempt is already dead, Send returns nil and the next Recv
// returns the cause.
//
// A server that answers each message may stop reading if nobody receives its answers. Then Send blocks. If Resume sends
// many messages, call Recv in between. If the method takes one request, Send returns an error.
func (r *Resumption[Req, Res]) Send(m *Req) error {
	if r.kind == serverStreaming {
		return errOneRequest
	}
	err := r.attempt.send(m)
	switch r.attempt.said(err) {
	case outbox.Dead, outbox.Lost:
		r.attempt.suspected()
		return nil
	case outbox.OK, outbox.Rejected, outbox.Failed:
	}
	return err
}

// Recv receives a message from this attempt. The application and the other callbacks do not see the message, unless
// Resume passes it to Deliver. If the method answers once, Recv returns an error.
func (r *Resumption[Req, Res]) Recv() (*Res, error) {
	if r.kind == clientStreaming {
		return nil, errOneAnswer
	}
	m, err := r.attempt.recv(nil)
	if err != nil {
		r.attempt.recvFailed(err)
		return nil, err
	}
	return m, nil
}

// StartsAt tells the stream the position that the server starts from. Call it if the server says so.
//
// If the stream has no position yet, p becomes its position. So a break before the first message loses nothing. The
// zero Position is the beginning, of an empty history for example. If the stream has a position, and p is past it or has
// another Lineage, the position is lost; see Callbacks.Lost.
func (r *Resumption[Req, Res]) StartsAt(p checkpoint.Position) { r.anchor, r.anchored = p, true }

// Acknowledge tells the stream that the server has all sent messages up to seq. They are not sent again. If the stream
// has sent messages, and seq is a number that was never sent, the stream ends with ReasonProtocol.
//
// Before the stream has sent anything, seq is where its count starts: the next message gets seq+1. So a new process can
// continue what an earlier one began. After Resilient has returned, [Stats].Acked is the last message that the server
// has: send what follows it.
func (r *Resumption[Req, Res]) Acknowledge(seq uint64) {
	r.acked, r.ackedKnown = max(seq, r.acked), true
}

// Deliver hands m to the application, before the messages that follow it on this attempt, and in the order of the calls.
// m passes Err, Acked, Checkpoint and Control like every received message.
func (r *Resumption[Req, Res]) Deliver(m *Res) { r.deliver = append(r.deliver, m) }
