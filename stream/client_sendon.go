package stream

import (
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/internal/outbox"
)

// ErrAttemptOver is the cause of an error of [ClientStream.SendOn]: the attempt has ended. Its status code is ABORTED.
var ErrAttemptOver error = attemptOverError{}

type attemptOverError struct{}

func (attemptOverError) Error() string { return "stream: the attempt is over" }

// GRPCStatus is ABORTED.
func (e attemptOverError) GRPCStatus() *status.Status { return status.New(codes.Aborted, e.Error()) }

// Attempt returns the number of the attempt that the last message of Recv came from. The first attempt is 1. Before the first
// message it is 0. Call it in the goroutine that calls Recv: in another one, the next message may have come meanwhile.
func (s *ClientStream[Req, Res]) Attempt() uint64 { return s.inbox.From() }

// SendOn sends m on one attempt, and on no other: an acknowledgement, a heartbeat, the answer to a nonce. Use it with
// [ClientStream.Attempt], or with the number that [Resumption.Attempt] returned. m has no sequence number, is not kept, and is
// not sent again. If the attempt is lost, nothing is in doubt because of m.
//
// If the attempt is over, SendOn returns an [*Error] with ReasonMessage whose cause is [ErrAttemptOver]. The server may have m then.
// If it does not matter to you, ignore that error: use errors.Is. Other errors are those of Send.
//
// SendOn may be called at the same time as Send, from any goroutine. It waits while another message is being sent. It does not
// wait for a replay: m may go before messages that are sent again.
func (s *ClientStream[Req, Res]) SendOn(attempt uint64, m *Req) error {
	if m == nil {
		return s.refusal(refused(errors.New("the message is nil")))
	}
	a := s.newest.Load()
	switch {
	case attempt == 0 || a == nil || attempt > a.epoch:
		return s.refusal(refused(fmt.Errorf("attempt %d is not attached", attempt)))
	case attempt < a.epoch:
		return s.refusal(refused(ErrAttemptOver))
	}
	t, verdict := s.outbox.BeginOn(a, false)
	if verdict == outbox.NotYet {
		if s.outbox.Watch() {
			s.watchSends()
		}
		t, verdict = s.outbox.BeginOn(a, true)
	}
	if verdict != outbox.Go {
		return s.refusal(s.notSent(verdict, 0))
	}
	if t.Watch {
		s.watchSends()
	}
	said, err := s.sendOn(t, m, nil)
	outcome, _ := s.outbox.Settle(t, said)
	s.actOn(a, outcome.Attempt, err)
	switch {
	case outcome.Attempt == outbox.Suspect:
		return s.refusal(refused(ErrAttemptOver))
	case outcome.Message == outbox.InDoubt:
		return s.refusal(&Error{Op: "send", Reason: ReasonMessage, Cause: fmt.Errorf("the message may have been sent: %w", withoutEOF(err))})
	case outcome.Message == outbox.TakenBack:
		return s.refusal(refused(err))
	default:
		return nil
	}
}
