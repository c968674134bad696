package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/internal/inbox"
	"github.com/streamsafe/streamsafe/internal/outbox"
	"github.com/streamsafe/streamsafe/internal/rpcstatus"
)

// This file says what a lost attempt means for the stream.

// judge says whether the stream may go on after l. at is where the receiving half stands, and sent what has become of what
// was sent; both are zero for an attempt that was never attached.
func (s *ClientStream[Req, Res]) judge(l *loss, at inbox.Standing, sent outbox.Counts) *attemptError {
	e := s.verdict(l, at, sent)
	if e.final && !e.well {
		return s.orContext(e) // the application was asked, and may have called Close
	}
	return e
}

// verdict is the table of what the end of an attempt means. The first line that fits decides, in every phase alike
// (invariants 16 and 33).
//
//	what ended it                                       means
//	the stream's context                                the end, ReasonContext or ReasonClosed
//	Complete of Resume                                  the end with OK, if everything is acknowledged; else ReasonUnacked
//	OK of the server, before CloseSend, WithEndless     planned: resumed, and no failure
//	OK, or what the table resumes, if it was announced  planned: by a message, or the server says drained or aged
//	OK of the server                                    as Complete
//	the server: an attempt of another client has come   the end, ReasonSuperseded
//	this package, for good (a gap that stays, …)        the end, with its reason
//	what says that the position is lost                 Lost is asked; else the end, ReasonPositionLost
//	what the table of Resumable does not resume         the end: ReasonServer, or ReasonResume for a callback
//	anything else                                       resumed, if it is safe: checkSafe
func (s *ClientStream[Req, Res]) verdict(l *loss, at inbox.Standing, sent outbox.Counts) *attemptError {
	s.trailer.Store(&l.trailer)
	e := &attemptError{op: l.op, cause: l.err, hint: l.hint()}
	if l.told != nil {
		e.cause = l.told
	}
	if e.hint.Delay > 0 {
		s.notBefore.Store(int64(time.Since(s.born) + e.hint.Delay))
	}
	switch {
	case s.ctx.Err() != nil:
		return s.orContext(e)
	case s.isPlanned(l):
		if e.planned = true; l.endsWell() && l.planned {
			e.cause = errAnnounced
		} else if l.endsWell() {
			e.cause = errEndless
		}
		s.remember(l)
		return s.checkSafe(e, at, sent, false)
	case l.endsWell():
		return s.endedWell(e)
	case s.isSuperseded(l):
		return e.endsWith(ReasonSuperseded)
	case l.final == ReasonPositionLost, l.final == ReasonUnknown && s.saysLost(l):
		return s.recoverPosition(e, at, sent)
	case l.final != ReasonUnknown:
		return e.endsWith(l.final)
	case !s.mayResume(l):
		return s.refusedBy(e, l)
	}
	s.remember(l)
	return s.checkSafe(e, at, sent, false)
}

func (e *attemptError) endsWith(reason Reason) *attemptError {
	e.final, e.reason = true, reason
	return e
}

// errEndless is the cause of a planned close.
var errEndless = errors.New("the server ended the stream, which is endless, with OK")

// errAnnounced is the cause of a planned close with OK that the server has announced.
var errAnnounced = errors.New("the server ended the attempt with OK, as it had announced")

// isPlanned reports whether l is an end that the stream goes on after by itself: OK of an endless stream, or what the server
// has announced.
func (s *ClientStream[Req, Res]) isPlanned(l *loss) bool {
	if l.planned && !s.options.resumeOff && (l.endsWell() || !s.isLastWord(l)) {
		return true // and if the server was through, the next attempt says so
	}
	half := s.kind != serverStreaming && s.outbox.IsClosed() // the application has called CloseSend
	return s.options.endless && l.endsWell() && !errors.Is(l.err, Complete) && !half
}

// endedWell is the end of the stream with OK. That is no receipt for what was sent (invariant 32).
func (s *ClientStream[Req, Res]) endedWell(e *attemptError) *attemptError {
	if s.options.okAcknowledges || s.kind == clientStreaming {
		s.outbox.AcknowledgeAll()
	}
	if sent := s.outbox.Stats(); sent.Unacked > 0 || sent.Pulled {
		e.cause = fmt.Errorf("the server ended the stream with OK, and has acknowledged %d of %d messages sent", sent.Acked, sent.LastSeq)
		return e.endsWith(ReasonUnacked)
	}
	e.cause, e.well = io.EOF, true
	return e.endsWith(ReasonServer)
}

// remember notes what an attempt that is resumed says of the next ones.
func (s *ClientStream[Req, Res]) remember(l *loss) {
	h := *s.heard.Load()
	h.answered = h.answered || l.heard || l.origin == fromServer
	if l.heard {
		h.accepted, h.renewed = true, false
	}
	if l.origin == fromServer && rpcstatus.Of(l.err).Code() == codes.Unauthenticated {
		h.renewed = true
	}
	s.heard.Store(&h)
}

// mayResume is the table of Resumable, or what replaces it.
func (s *ClientStream[Req, Res]) mayResume(l *loss) (may bool) {
	if l.supersededBy() > 0 {
		return !s.isSuperseded(l)
	}
	if s.options.resumable != nil && l.origin != fromStream {
		s.calling(func() { may = s.options.resumable(l.err) })
		return may
	}
	h := s.heard.Load()
	return resumes(l.origin, l.err, l.hint(), facts{
		answered: h.answered || l.heard,
		renewed:  l.heard || h.accepted && !h.renewed,
		also:     s.options.alsoResumable,
	})
}

// saysLost is the rule by which the position is gone, or what replaces it. Who says that everything may be resumed says it of
// the server's OUT_OF_RANGE, too.
func (s *ClientStream[Req, Res]) saysLost(l *loss) (lost bool) {
	switch {
	case l.origin == fromStream:
		return false
	case errors.Is(l.err, ErrPositionLost):
		return true
	case s.options.lost != nil:
		s.calling(func() { lost = s.options.lost(l.err) })
		return lost
	case s.options.resumable != nil:
		return saysPositionLost(l.origin, l.err) && !s.mayResume(l)
	default:
		return saysPositionLost(l.origin, l.err) && !slices.Contains(s.options.alsoResumable, codes.OutOfRange)
	}
}

// isLastWord reports whether an attempt that could not be opened is not to be tried again as it is (invariant 16).
func (s *ClientStream[Req, Res]) isLastWord(l *loss) bool {
	return l.final != ReasonUnknown || s.saysLost(l) || !s.mayResume(l)
}

// refusedBy is the end of the stream by an error that is not to be resumed; e has what policies made of it.
func (s *ClientStream[Req, Res]) refusedBy(e *attemptError, l *loss) *attemptError {
	code := rpcstatus.Of(l.err).Code()
	if deadline, ok := s.caller.Deadline(); ok && code == codes.DeadlineExceeded && time.Until(deadline) < time.Second {
		// The server's clock was faster: it is the caller's own deadline.
		e.cause = fmt.Errorf("%w: %w", context.DeadlineExceeded, e.cause)
		return e.endsWith(ReasonContext)
	}
	if e.op == "resume" && !carriesStatus(l.err) {
		return e.endsWith(ReasonResume)
	}
	return e.endsWith(ReasonServer)
}

// checkSafe applies the safe defaults: nothing is silently restarted, lost or doubled. A position that is lost is no
// poison.
func (s *ClientStream[Req, Res]) checkSafe(e *attemptError, at inbox.Standing, sent outbox.Counts, lost bool) *attemptError {
	o := &s.options
	switch {
	case o.resumeOff:
		return e.endsWith(ReasonResumeOff)
	case s.doubts(sent, e.planned):
		return e.endsWith(ReasonSendsInDoubt)
	case at.Accepted > 0 && s.callbacks.Checkpoint == nil && !o.restart:
		return e.endsWith(ReasonNoCheckpoint)
	case o.poisonLimit > 0 && s.health.fruitless >= o.poisonLimit && !lost:
		return e.endsWith(ReasonPoison)
	default:
		return e
	}
}

// doubts reports whether the options do not say what becomes of what was sent. If the attempt ends as planned, that is no
// question if everything is acknowledged.
func (s *ClientStream[Req, Res]) doubts(sent outbox.Counts, planned bool) bool {
	known := planned && s.callbacks.Acked != nil && !sent.Outstanding
	return sent.Sent > sent.FromSource && !s.options.replay && !s.options.atMostOnce && !known
}

// died counts the attempts in a row that were lost where the stream stands now: at a position and so many messages past
// it, or, without positions, at so many messages; and with so many acknowledged. A planned close does not count. It reports
// whether the attempt has brought something new.
func (s *ClientStream[Req, Res]) died(at inbox.Standing, acked uint64, planned bool) (progress bool) {
	h, reached := &s.health, at.Accepted
	if s.callbacks.Checkpoint != nil {
		reached = at.Uncovered
	}
	if at.Position != h.position || acked != h.acked || reached > h.reached {
		h.position, h.acked, h.reached, h.fruitless = at.Position, acked, reached, 0
		progress = true
	}
	if !planned {
		h.fruitless++
	}
	return progress
}

// recoverPosition asks the application what to do about a position that is gone. That is about what is received: what
// was sent is as much in doubt as after any other loss.
func (s *ClientStream[Req, Res]) recoverPosition(e *attemptError, at inbox.Standing, sent outbox.Counts) *attemptError {
	if s.callbacks.Lost == nil || s.options.resumeOff {
		return e.endsWith(ReasonPositionLost)
	}
	if s.checkSafe(e, inbox.Standing{Position: at.Position}, sent, true).final {
		return e
	}
	var recovery Recovery
	var err error
	s.calling(func() { recovery, err = s.callbacks.Lost(s.ctx, at.Position, e.cause) })
	switch {
	case err != nil:
		e.cause = err
		return e.endsWith(ReasonResume)
	case !recovery.restart:
		return e.endsWith(ReasonPositionLost)
	}
	s.inbox.Begins(recovery.from)
	s.health.fruitless = 0
	s.events.publish(event{kind: eventLost, position: recovery.from, cause: e.cause})
	return e
}

// judgeOpen says whether the stream may go on after the open policies have given up. waited is what the connection waited for
// then, if it did: a policy's own error does not hide that (invariant 38).
func (s *ClientStream[Req, Res]) judgeOpen(err, waited error, from checkpoint.Position) *attemptError {
	at := inbox.Standing{Position: from}
	if failure, ok := errors.AsType[*openError](err); ok {
		l := *failure.loss
		if _, bare := err.(*openError); !bare { //nolint:errorlint // it is asked whether a policy has wrapped it
			l.told = err
		}
		if s.health.cause == nil || !isCut(l.err) {
			s.health.cause = l.err
		}
		return s.judge(&l, at, outbox.Counts{})
	}
	l := &loss{op: "open", err: err, told: s.options.open.withRetryInfo(err), origin: fromCallback}
	if rpcstatus.IsDenial(err) || isTimeout(err) {
		l.origin = fromStream
	} else if carriesStatus(err) {
		l.origin = originOf(err, fromCallback)
	}
	switch {
	case errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded): // of the execution
		l.err, l.told, l.origin = cutBy(err), nil, fromStream
	case isTimeout(err) && waited != nil:
		l.told = fmt.Errorf("%w: %w", err, waited)
		s.health.cause = l.told
	case isTimeout(err):
		s.health.cause = err
	case l.origin == fromCallback:
		l.final = ReasonPolicy
	}
	return s.judge(l, at, outbox.Counts{})
}

// carriesStatus reports whether err tells of a status, the server's or the transport's.
func carriesStatus(err error) bool {
	_, told := status.FromError(err)
	return told
}

func isCut(err error) bool {
	_, cut := errors.AsType[*cutError](err)
	return cut
}

// gaveUp is the end of the stream where the policies of an outage did not get it over that.
func (s *ClientStream[Req, Res]) gaveUp(ctx context.Context, err error) *attemptError {
	failure, ok := errors.AsType[*attemptError](err)
	switch {
	case s.ctx.Err() != nil:
		return s.orContext(nil)
	case errors.Is(context.Cause(ctx), errMaxOutage):
		return s.outageTooLong()
	case err == nil:
		return (&attemptError{op: "open", cause: errNotAStream}).endsWith(ReasonPolicy)
	case ok && failure.final:
		return (&attemptError{op: failure.op, cause: replaced(err, failure)}).endsWith(failure.reason)
	case ok:
		return (&attemptError{op: failure.op, cause: err}).endsWith(ReasonPolicy)
	default:
		return (&attemptError{op: "open", cause: s.options.stream.withRetryInfo(err)}).endsWith(ReasonPolicy)
	}
}

// replaced returns what a policy has made of a failure, a fallback say: its cause where it has left that alone.
func replaced(err error, failure *attemptError) error {
	if err == error(failure) { //nolint:errorlint // what wraps it is a replacement
		return failure.cause
	}
	return err
}

// outageTooLong is the end of the stream by WithMaxOutage.
func (s *ClientStream[Req, Res]) outageTooLong() *attemptError {
	err := fmt.Errorf("%w (%v)", errMaxOutage, s.options.limits.maxOutage)
	if s.health.cause != nil {
		err = fmt.Errorf("%w: %w", err, s.health.cause)
	}
	return (&attemptError{op: "open", cause: err}).endsWith(ReasonMaxOutage)
}

// denied is the end of a stream that a policy held for its life did not let in.
func (s *ClientStream[Req, Res]) denied(ctx context.Context, err error) *attemptError {
	if errors.Is(context.Cause(ctx), errMaxOutage) {
		return s.outageTooLong()
	}
	return s.orContext((&attemptError{op: "open", cause: err}).endsWith(ReasonPolicy))
}

// orContext returns the end of the stream by its own context, where that is done, and e otherwise.
func (s *ClientStream[Req, Res]) orContext(e *attemptError) *attemptError {
	if s.ctx.Err() == nil {
		return e
	}
	op := "recv"
	if !s.wasAttached() {
		op = "open"
	}
	cause := context.Cause(s.ctx)
	// Only what this stream was cancelled with itself counts: the application's context may carry another stream's end.
	end, ok := cause.(*attemptError) //nolint:errorlint // see above
	switch {
	case !ok || cause == context.Cause(s.caller): //nolint:errorlint // see above
		done := contextError(s.ctx)
		if state := s.State(); state != Attached && state != Rotating {
			done.last = s.health.cause
		}
		return (&attemptError{op: op, cause: done}).endsWith(ReasonContext)
	case end.reason == ReasonClosed:
		return (&attemptError{op: op, cause: ErrClosed}).endsWith(ReasonClosed)
	default:
		return end
	}
}

// fenced ends the stream: another owner has its key.
func (s *ClientStream[Req, Res]) fenced(err error) {
	s.cancel((&attemptError{op: "commit", cause: err}).endsWith(ReasonFenced))
}

// ackTooHigh is the end of the stream by an acknowledgement of what was never sent.
func (s *ClientStream[Req, Res]) ackTooHigh(op string, seq uint64) *loss {
	return &loss{op: op, final: ReasonProtocol, err: fmt.Errorf(
		"message %d is acknowledged, and %d is the last one sent (of an earlier process's, tell Resumption.Acknowledge)",
		seq, s.outbox.Stats().LastSeq)}
}
