package stream

import (
	"fmt"
	"time"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/internal/inbox"
)

// learn takes in what the server told Resume about the two halves. It returns the end of the attempt where that cannot
// be: then no message of it may be handed over.
func (s *ClientStream[Req, Res]) learn(r *Resumption[Req, Res]) *loss {
	if r.anchored {
		if l := s.anchor(r.anchor); l != nil {
			return l
		}
	}
	if r.ackedKnown && !s.outbox.AcknowledgeStart(r.acked) {
		return s.ackTooHigh("resume", r.acked)
	}
	return nil
}

// anchor takes in where the server said that the attempt begins. It returns the end of the attempt if that shows that the
// position is lost.
func (s *ClientStream[Req, Res]) anchor(p checkpoint.Position) *loss {
	switch anchored, have := s.inbox.Anchor(p); anchored {
	case inbox.Replaced:
		return &loss{op: "resume", err: &lineageError{have: have.Lineage, got: p.Lineage}, final: ReasonPositionLost}
	case inbox.Past:
		return &loss{op: "resume", final: ReasonPositionLost, err: fmt.Errorf(
			"%w: the stream begins at %d, past %d", ErrPositionLost, p.Seq, have.Seq)}
	case inbox.Last:
		return noneFollows("resume", p.Seq)
	case inbox.Fits:
		return nil
	default:
		return nil
	}
}

// attach lets messages flow on a.
func (s *ClientStream[Req, Res]) attach(a *attempt[Req, Res], r *Resumption[Req, Res]) {
	s.outbox.Opened(a)
	s.newest.Store(a)
	for _, m := range r.deliver {
		if !s.keep(a, m) { // what follows comes again
			break
		}
	}
	a.attached = time.Now()
	s.inbox.Attach(a)
	a.stopWatch = s.watch(a)
	s.ages(a)
	s.enter(Attached)
	s.events.publish(event{kind: eventAttached, attempt: a.epoch, position: r.position})
	if s.wasAttached() {
		s.counts.resumes.Add(1)
	} else {
		close(s.attached)
	}
}

// wasAttached reports whether an attempt has been attached.
func (s *ClientStream[Req, Res]) wasAttached() bool {
	select {
	case <-s.attached:
		return true
	default:
		return false
	}
}

// attend waits until a is lost, and returns why; or until stable fires, or a is to be replaced, and returns nil.
func (s *ClientStream[Req, Res]) attend(a *attempt[Req, Res], stable <-chan time.Time) *attemptError {
	return s.attendUntil(a, true, stable, nil)
}

// attendUntil waits until a is lost, and returns why; or until timer fires, done is closed, or, with rotates, a is to be replaced,
// and returns nil.
func (s *ClientStream[Req, Res]) attendUntil(
	a *attempt[Req, Res], rotates bool, timer <-chan time.Time, done <-chan struct{},
) *attemptError {
	for {
		switch {
		case a.loss.Load() != nil:
			return s.lose(a)
		case s.ctx.Err() != nil:
			a.fail(&loss{op: "recv", err: contextError(s.ctx)})
			continue
		case a.suspect.Swap(false):
			s.findCause(a)
			continue
		case rotates && a.startsRotation():
			return nil
		}
		select { // each case takes memory while it waits: an idle stream has two
		case <-a.news:
		case <-s.ctx.Done():
		case <-timer:
			return nil
		case <-done:
			return nil
		}
	}
}

// findCause receives from a dead attempt until that tells why it died, if the application is not receiving. What comes on
// the way is kept for the application.
func (s *ClientStream[Req, Res]) findCause(a *attempt[Req, Res]) {
	for alive := true; alive && s.inbox.Claim(a, true); { // or the application is, and will find out
		s.calling(func() { _, _, alive = s.receiveFrom(a, nil, true) })
	}
}

// lose takes a away from both halves and says what became of it. Nothing is on its way on a when it returns, unless
// the stream's context is done.
func (s *ClientStream[Req, Res]) lose(a *attempt[Req, Res]) *attemptError {
	a.cancel()
	a.stopWatch()
	l := s.unlessOvertaken(a, a.loss.Load())
	at := s.inbox.Detach(l.endsWell() && !s.isPlanned(l))
	out := s.outbox.Detach()
	if !at.Busy {
		s.calling(a.tellTargets)
	}
	progress := a.aborted.Load() == nil && s.died(at, out.Acked, s.isPlanned(l)) // else for a message that is bad
	failure := s.judge(s.unlessOvertaken(a, a.endedBy()), at, out)
	if progress {
		failure.ceiling = max(time.Since(a.attached), time.Second)
	}
	s.health.cause = failure.cause
	if failure.final {
		return failure
	}
	if !failure.planned {
		s.counts.outages.Add(1)
	}
	if at.Uncovered > 0 {
		s.events.publish(event{kind: eventRewound, count: at.Uncovered})
	}
	return s.detached(failure)
}

// detached notes a failure after which the stream goes on without an attempt, if it does.
func (s *ClientStream[Req, Res]) detached(failure *attemptError) *attemptError {
	if failure.final {
		return failure
	}
	s.lastErr.Store(&attemptError{cause: s.health.cause})
	s.enter(Detached)
	s.events.publish(event{kind: eventDetached, cause: failure.cause})
	return failure
}
