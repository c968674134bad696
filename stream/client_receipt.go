package stream

import (
	"context"
	"errors"
	"fmt"

	"github.com/streamsafe/streamsafe/internal/outbox"
)

// Receipt tells what becomes of one message that [ClientStream.SendTracked] has sent. Its methods may be called at any time, from any
// goroutine.
type Receipt struct {
	of     *outbox.Receipt // set before SendTracked returns, then read only
	stream sendsTracked
}

// sendsTracked is a ClientStream of any types.
type sendsTracked interface {
	refusal(err error) error
	notAckedBecause(r *outbox.Receipt) error
}

// Seq returns the sequence number of the message, as Unacked and Callbacks.Acked know it.
func (r *Receipt) Seq() uint64 { return r.of.Seq() }

// Done returns a channel that is closed when the message is acknowledged, or when it is certain that it never will be. Wait says which.
func (r *Receipt) Done() <-chan struct{} { return r.of.Done() }

// Wait waits for Done, and returns nil if the message is acknowledged. Otherwise it returns an [*Error] with Op "receipt":
//
//   - ReasonContext: ctx is done first. Wait may be called again. If Done is closed, Wait does not look at ctx.
//   - ReasonSendsInDoubt: the stream dropped the message in a replay. Callbacks.Replay returned nil for it, or an interceptor rejected
//     it in Send and again in the replay. The server may have it.
//   - ReasonUnacked: the server ended the stream with OK before it acknowledged the message.
//   - The reason for which the stream ended. With ReasonClosed, that was Close.
//
// What has become of a message does not change any more: after Done, Wait always returns the same.
func (r *Receipt) Wait(ctx context.Context) error {
	select {
	case <-r.of.Done():
	default:
		select {
		case <-r.of.Done():
		case <-ctx.Done():
			return r.overtaken(ctx)
		}
	}
	if r.of.Fate() == outbox.FateAcked {
		return nil
	}
	return r.stream.notAckedBecause(r.of)
}

// overtaken returns what Wait says if ctx is done.
func (r *Receipt) overtaken(ctx context.Context) error {
	select {
	case <-r.of.Done():
		return r.Wait(ctx)
	default:
		return r.stream.refusal(&Error{Op: "receipt", Reason: ReasonContext, Cause: fmt.Errorf("%w: %w", notYetAcked(r.of), contextError(ctx))})
	}
}

// SendTracked is Send for a message whose acknowledgement matters by itself: the receipt tells when the server has acknowledged m, or
// why it never will. Use it to confirm a message to somebody else, such as the queue that it came from. To wait for everything, use
// [ClientStream.Flush].
//
// SendTracked needs WithReplay. Otherwise it returns an error with ReasonOptions. Other errors are those of Send. The receipt is nil
// if there is an error, with one exception: with ReasonSendsInDoubt m counts as sent, and the receipt tells what becomes of it.
//
// Acknowledgements arrive by Recv. If nobody receives while a receipt is pending, the stream receives by itself, as for Flush. Receipts
// need no goroutine and no release. Messages are acknowledged in the order in which they were sent, so a program that waits for the
// oldest receipt first waits for nothing in vain.
//
// As with Send, two goroutines must not call it at the same time, nor one Send and the other SendTracked.
func (s *ClientStream[Req, Res]) SendTracked(m *Req) (*Receipt, error) {
	if err := s.mayTrack(); err != nil {
		return nil, s.refusal(&Error{Op: "send", Reason: ReasonOptions, Cause: err})
	}
	if m == nil {
		return nil, s.refusal(refused(errors.New("the message is nil")))
	}
	r := &Receipt{stream: s}
	how := &manner[Req, Res]{receipt: r}
	var err error
	if s.sends.none() {
		err = s.send(m, how, nil, nil)
	} else {
		err = s.sendUnderPolicies(m, how)
	}
	if e, ok := errors.AsType[*Error](err); err == nil || ok && e.Reason == ReasonSendsInDoubt && r.of != nil {
		return r, err
	}
	return nil, err
}

// mayTrack returns why there are no receipts, if that is so.
func (s *ClientStream[Req, Res]) mayTrack() error {
	switch {
	case s.kind == serverStreaming:
		return errors.New("SendTracked is for methods that take a stream: this one takes one request")
	case s.callbacks.Key != nil:
		return errors.New("SendTracked and Callbacks.Key exclude each other: a message with a key is not acknowledged")
	case !s.options.replay:
		return errors.New("SendTracked needs WithReplay: without it, a message may be lost before it is acknowledged")
	default:
		return nil
	}
}

// notAckedBecause says why a message will never be acknowledged.
func (s *ClientStream[Req, Res]) notAckedBecause(r *outbox.Receipt) error {
	if r.Fate() == outbox.FateDropped {
		return s.refusal(&Error{Op: "receipt", Reason: ReasonSendsInDoubt, Cause: fmt.Errorf("message %d was dropped in a replay: "+
			"Callbacks.Replay returned nil for it, or an interceptor rejected it twice", r.Seq())})
	}
	return s.unacked("receipt", notYetAcked(r), s.outbox.Err())
}

func notYetAcked(r *outbox.Receipt) error {
	return fmt.Errorf("message %d is not acknowledged", r.Seq())
}
