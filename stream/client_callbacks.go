package stream

import (
	"context"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/internal/outbox"
)

// Callbacks are what a stream asks the application. All are optional.
//
// Err, Acked, Checkpoint and Control are called once for each message received, in this order, in the order of arrival,
// in the goroutine that receives it; where one of them shows that the attempt has to end, the others are not called.
// Resume, Lost and Replay are called one at a time, but that hedged opens run one Resume each. None may call Send or Recv
// of the stream; all may call Close, State and Stats. They have to return soon after their context is done.
type Callbacks[Req, Res any] struct {
	// Resume starts an attempt where the stream stopped. It runs on every attempt, the first included, before any
	// message of the application flows. An error ends the attempt and is classified like one of the server; an error
	// that carries no status ends the stream with ReasonResume, unless Recv has failed: then that counts. [Complete] ends
	// the stream with io.EOF, and [ErrPositionLost] asks Lost.
	Resume func(ctx context.Context, r *Resumption[Req, Res]) error

	// Err reports the error that m tells of, nil where it tells of none: some protocols say in a message what others say
	// in a status (compacted, too old, overloaded, done). Such a message is not handed over, and the other callbacks do
	// not see it. It ends the attempt, and the error is classified like one of the server: by its status code, with
	// [ErrPositionLost] for Lost, and io.EOF or [Complete] for the end of the stream with io.EOF. One that carries no
	// status is the server's last word.
	Err func(m *Res) error

	// Checkpoint reports the position that m takes the stream to; ok is false where m is no resume point. The zero
	// Position counts as none.
	Checkpoint func(m *Res) (p checkpoint.Position, ok bool)

	// Control tells that m belongs to the protocol (an acknowledgement, a bookmark, a heartbeat): it is accounted for
	// and not handed to the application.
	Control func(m *Res) bool

	// Acked reports the highest sequence number among sent messages that m acknowledges. A number that was neither sent
	// nor told to Acknowledge ends the stream with ReasonProtocol; one that was acknowledged before is ignored (invariant
	// 7).
	Acked func(m *Res) (seq uint64, ok bool)

	// Sequence is the number of an outgoing message. It is above zero and rises from message to message; one that does not
	// is refused with ReasonMessage. The library does not transmit it. Nil: messages count 1, 2, 3 … as they are sent, on from
	// a number that Acknowledge tells before the first of them.
	Sequence func(m *Req) uint64

	// Replay is shown each message before it is sent again and may change it, or drop it with nil (an upload cuts off
	// what the server already has). acked is the highest acknowledged sequence number. The number of the message stays
	// what it was. m is the stream's own copy, and what is returned is kept in its place.
	Replay func(m *Req, acked uint64) *Req

	// Lost is asked when the server says that the position is gone, or when the lineage of the positions has changed.
	// An error ends the stream with ReasonResume. Nil: the stream fails with ReasonPositionLost.
	//
	// What arrived before may still wait for Recv. To tell the application of the loss in its place, let the Token of the
	// new position say that it has to be told (without a Seq), and Resume Deliver a message that does, whose position says
	// so no more.
	Lost func(ctx context.Context, at checkpoint.Position, cause error) (Recovery, error)
}

// Recovery is Lost's answer. The zero value gives up: the stream fails with ReasonPositionLost.
type Recovery struct {
	restart bool
	from    checkpoint.Position
}

// RestartFrom makes the next attempt begin at p, and what is known of sequence numbers is forgotten. The zero Position
// means from the beginning. The attempt waits for its turn as after any loss. Where there is a store, a p with a lower
// Seq needs another Lineage: a store does not go back within one, and takes no position until that is passed again.
func RestartFrom(p checkpoint.Position) Recovery { return Recovery{restart: true, from: p} }

// Resumption is an attempt that is being opened, in the hands of the Resume callback. It is valid until Resume
// returns, and used by one goroutine.
//
// What is told it (StartsAt, Acknowledge, Deliver) takes effect when Resume returns nil, and is forgotten otherwise; Acknowledge
// takes effect with [Complete], too.
type Resumption[Req, Res any] struct {
	attempt  *attempt[Req, Res]
	position checkpoint.Position
	cause    error

	anchor     checkpoint.Position
	anchored   bool
	acked      uint64
	ackedKnown bool
	deliver    []*Res
}

// Position is where the stream stopped: the last position that has arrived, and is or will be handed over, or the one the
// store had. It does not change any more (invariant 12). Zero: from the beginning.
func (r *Resumption[Req, Res]) Position() checkpoint.Position { return r.position }

// Attempt is the number of this attempt, its epoch, from 1.
func (r *Resumption[Req, Res]) Attempt() uint64 { return r.attempt.epoch }

// Cause is what the attempt before this one ended with, nil on the first.
func (r *Resumption[Req, Res]) Cause() error { return r.cause }

// Send sends m on the attempt. It is the callback's own: it is not counted, not replayed, not acknowledged. On an
// attempt that is dead already it returns nil, and the next Recv tells why, as a nil error says nothing of delivery.
//
// A server that answers each message may stop reading when nobody takes its answers, and then Send waits for ever: where
// there are many to send, Recv in between.
func (r *Resumption[Req, Res]) Send(m *Req) error {
	err := r.attempt.send(m)
	switch r.attempt.said(err) {
	case outbox.Dead, outbox.Lost:
		r.attempt.suspected()
		return nil
	case outbox.OK, outbox.Rejected, outbox.Failed:
	}
	return err
}

// Recv receives a message from the attempt. The stream's other callbacks do not see it, unless it is given to Deliver.
func (r *Resumption[Req, Res]) Recv() (*Res, error) {
	m, err := r.attempt.recv(nil)
	if err != nil {
		r.attempt.recvFailed(err)
		return nil, err
	}
	return m, nil
}

// StartsAt tells where the stream begins, where the server said so. A stream without a position takes it as its own,
// so that a break before the first message loses nothing (invariant 1); the zero Position is the beginning, of a history
// that is empty, say. Where the stream has a position, an anchor in another lineage, or past it, means that the position
// is lost.
func (r *Resumption[Req, Res]) StartsAt(p checkpoint.Position) { r.anchor, r.anchored = p, true }

// Acknowledge tells how far the server has got with the messages sent. Before the stream has sent any, it is where
// the count of sent messages starts: a new process continues what an old one began, with the message after
// [Stats.Acked].
func (r *Resumption[Req, Res]) Acknowledge(seq uint64) {
	r.acked, r.ackedKnown = max(seq, r.acked), true
}

// Deliver hands m, which Recv met, to the application: before all messages that follow, in the order of the calls,
// and through Err, Acked, Checkpoint and Control like every other message.
func (r *Resumption[Req, Res]) Deliver(m *Res) { r.deliver = append(r.deliver, m) }
