package stream

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/streamsafe/streamsafe/internal/backoff"
)

// This file replaces an attempt that lives: make before break.
//
//  1. The attempt is due: it has reached its age, or a message has said Rotate. The lifecycle goroutine is told.
//  2. New sends wait. What was sent can be acknowledged, for a grace time; somebody receives meanwhile (invariant 35).
//  3. The inbox freezes after a message with a position. What the next attempt resumes from does not move then (invariant 12).
//  4. The next attempt is opened, Resume included, while the old one lives.
//  5. The fence: the old attempt is cancelled, and both halves wait until nobody is in a call on it. The next one is attached.
//
// If the next attempt cannot be opened, the old one goes on, as if nothing had happened, and the rotation is tried again later.
// If the old one is lost in 1 to 3, that is an ordinary loss; a planned one if it had announced its end. From 4 on a server may
// end the old one because of the next, with whatever status. So the next attempt takes over all the same; and if it cannot be
// opened, the end of the old one is resumed, and not the last word.

// The times of a rotation.
const (
	rotationGrace = 5 * time.Second        // for acknowledgements, and a message with a position
	rotationOpen  = 5 * time.Second        // for the opening of the next attempt: sends wait
	rotationRest  = 250 * time.Millisecond // for what was sent without a receipt to be read
	firstRetry    = time.Second            // the wait after a rotation that was put off, at the least; it doubles
	mostRetry     = time.Minute            // up to this
)

// ages starts the time after which a is due.
func (s *ClientStream[Req, Res]) ages(a *attempt[Req, Res]) {
	if s.options.age.most > 0 {
		age := s.options.age.draw()
		a.dueAfter(age, &agedError{age: age})
	}
	stop := a.stopWatch
	a.stopWatch = func() {
		stop()
		if a.ageing != nil {
			a.ageing.Stop()
		}
	}
}

// dueAfter makes a due after d.
func (a *attempt[Req, Res]) dueAfter(d time.Duration, cause error) {
	if a.ageing != nil {
		a.ageing.Stop()
	}
	a.ageing = time.AfterFunc(d, func() { a.isDue(cause) })
}

// isDue asks the lifecycle goroutine to replace a. If that was asked before, it is one rotation.
func (a *attempt[Req, Res]) isDue(cause error) {
	a.due.CompareAndSwap(nil, &cause)
	a.tell()
}

// startsRotation reports whether a is due, and takes the cause.
func (a *attempt[Req, Res]) startsRotation() bool {
	cause := a.due.Swap(nil)
	if cause != nil {
		a.rotation = *cause
	}
	return cause != nil
}

// announces notes that the server has announced, in a message, that it will end a.
func (a *attempt[Req, Res]) announces(cause error) {
	a.announced.Store(true)
	a.isDue(cause)
}

// unlessOvertaken returns l, with which a has ended, as a planned end if the server has ended a after the next attempt of this
// stream had begun.
func (s *ClientStream[Req, Res]) unlessOvertaken(a *attempt[Req, Res], l *loss) *loss {
	if !a.overtaken || a.answer.Load() != nil || l.origin != fromServer && !l.endsWell() || s.isSuperseded(l) {
		return l
	}
	resumed := *l
	resumed.planned, resumed.origin, resumed.err = true, fromStream, fmt.Errorf("ended after the next attempt had begun: %w", withoutEOF(l.err))
	return &resumed
}

// serve attends to a, which is stable, and to those that take over from it, until one is lost.
func (s *ClientStream[Req, Res]) serve(a *attempt[Req, Res]) *attemptError {
	for {
		if a.rotation == nil {
			if end := s.attend(a, nil); end != nil {
				return end
			}
		}
		end := endedGoroutine()
		contained(func() { a, end = s.rotate(a) }) // as in live
		if end != nil {
			return end
		}
	}
}

// rotation is one try to replace an attempt.
type rotation[Req, Res any] struct {
	s     *ClientStream[Req, Res]
	old   *attempt[Req, Res]
	cause error
}

// rotate replaces a, which is due. It returns the attempt that is attached then: the next one, or a if the rotation was put
// off; or how the stream goes on, or ends, if a was lost and nothing has taken over.
func (s *ClientStream[Req, Res]) rotate(a *attempt[Req, Res]) (*attempt[Req, Res], *attemptError) {
	r := &rotation[Req, Res]{s: s, old: a, cause: a.rotation}
	a.rotation = nil
	if why := s.neverRotates(); why != nil {
		r.tellPutOff(why)
		return a, nil
	}
	wait := s.nextPause(time.Since(a.attached) >= max(s.options.stableFor, time.Second))
	s.tellDelay(wait)
	if !a.announced.Load() { // sends need not wait for this
		if end := s.stay(a, wait, nil); end != nil {
			return nil, end
		}
		wait = 0
	}
	s.enter(Rotating)
	s.events.publish(event{kind: eventRotating, attempt: a.epoch, cause: r.cause})
	s.outbox.Pause()
	if end := r.settle(wait); end != nil {
		return nil, end
	}
	if why := s.inDoubt(); why != nil {
		r.goesOn(why)
		r.comesAgain(0)
		return a, nil
	}
	if s.kind == clientStreaming {
		return r.replace()
	}
	if at, _ := s.inbox.Freeze(true); at.Accepted > 0 && s.callbacks.Checkpoint == nil && !s.options.restart {
		r.goesOn(errors.New("there is no position to resume from: see Callbacks.Checkpoint, or WithRestart"))
		return a, nil // and that does not change
	}
	return r.replace()
}

// neverRotates returns why an attempt is not to be replaced, if that does not change; nil otherwise.
func (s *ClientStream[Req, Res]) neverRotates() error {
	switch {
	case s.options.resumeOff:
		return errors.New("WithoutResume does not allow another attempt")
	case s.callbacks.Acked == nil:
		return s.inDoubt()
	default:
		return nil
	}
}

// inDoubt returns an error if the end of the attempt would end the stream because of what was sent.
func (s *ClientStream[Req, Res]) inDoubt() error {
	if sent := s.outbox.Stats(); s.doubts(sent, true) {
		return fmt.Errorf("it is not known whether the server has all %d messages that were sent: see WithReplay, or "+
			"WithAtMostOnceSends", sent.Sent-sent.FromSource)
	}
	return nil
}

// stay attends to a for so long, or until done is closed.
func (s *ClientStream[Req, Res]) stay(a *attempt[Req, Res], d time.Duration, done <-chan struct{}) *attemptError {
	timer := time.NewTimer(d)
	defer timer.Stop()
	return s.attendUntil(a, false, timer.C, done)
}

// settle waits until what was sent is acknowledged, and freezes the inbox: for the grace time at the most, and for least at the
// least.
func (r *rotation[Req, Res]) settle(least time.Duration) *attemptError {
	s, began := r.s, time.Now()
	acks := s.callbacks.Acked != nil
	if !acks && s.outbox.SentOnAttempt() {
		least = max(least, rotationRest)
	}
	if s.outbox.Watch() {
		s.watchSends() // or nobody might receive
	}
	end := r.await(s.options.grace, s.outbox.Wake, func(over func() bool) { s.outbox.AwaitQuiet(acks, over) })
	if left := min(least, s.options.grace) - time.Since(began); end == nil && left > 0 {
		end = s.stay(r.old, left, nil)
	}
	if end != nil {
		return end
	}
	if s.kind == clientStreaming { // an answer is not to be set aside: it is the end
		return nil
	}
	if _, frozen := s.inbox.Freeze(s.callbacks.Checkpoint == nil); frozen {
		return nil
	}
	return r.await(s.options.grace-time.Since(began), s.inbox.Wake, s.inbox.AwaitFrozen)
}

// await attends to the old attempt while wait waits, for so long at the most.
func (r *rotation[Req, Res]) await(limit time.Duration, wake func(), wait func(over func() bool)) *attemptError {
	var over atomic.Bool
	done := make(chan struct{})
	go func() { // ends when wait has what it waits for, or over is set; the last line but one waits for it
		defer close(done)
		wait(over.Load)
	}()
	end := r.s.stay(r.old, limit, done)
	over.Store(true)
	wake()
	<-done
	return end
}

// replace opens the next attempt and lets it take over from the old one.
func (r *rotation[Req, Res]) replace() (*attempt[Req, Res], *attemptError) {
	s, a := r.s, r.old
	a.overtaken = true // before the server can know
	next, failed := r.open()
	if failed == nil {
		if failed = s.learn(next.resumption); failed != nil {
			next.attempt.fail(failed)
		}
	}
	switch {
	case s.ctx.Err() != nil:
		if next != nil {
			next.attempt.cancel()
		}
		a.fail(&loss{op: "recv", err: contextError(s.ctx)})
		return nil, s.lose(a)
	case failed != nil:
		r.goesOn(failed.err)
		r.comesAgain(failed.hint().Delay)
		return a, nil
	default:
		return r.takeOver(next)
	}
}

// open opens the next attempt.
func (r *rotation[Req, Res]) open() (*opened[Req, Res], *loss) {
	s := r.s
	ctx, cancel := context.WithTimeoutCause(s.ctx, rotationOpen, &limitError{what: "not opened", limit: rotationOpen})
	defer cancel()
	ctx = withSchedule(ctx, &schedule{tell: s.tellDelay, floor: s.floor})
	o := s.raceOpens(ctx, s.inbox.Position(), r.cause)
	if o.winner != nil {
		return o.winner, o.winner.attempt.loss.Load() // it may be dead already
	}
	switch verdict := o.result.(type) {
	case *loss:
		return nil, verdict
	case *openError:
		return nil, verdict.loss
	}
	if failure, ok := errors.AsType[*openError](o.err); ok {
		return nil, failure.loss
	}
	if o.err == nil {
		o.err = errNotAStream
	}
	return nil, &loss{op: "open", err: o.err}
}

// takeOver drops the old attempt (invariant 23) and attaches the next one. Only after the fence nothing is on its way on the
// old one.
func (r *rotation[Req, Res]) takeOver(next *opened[Req, Res]) (*attempt[Req, Res], *attemptError) {
	s, a := r.s, r.old
	a.fail(&loss{op: "recv", err: r.cause, origin: fromStream}) // if it is not lost already
	a.stopWatch()
	at := s.inbox.Detach(false)
	out := s.outbox.Detach()
	if s.ctx.Err() != nil || a.answer.Load() != nil {
		next.attempt.cancel()
		return nil, s.lose(a)
	}
	s.calling(a.tellTargets)
	s.died(at, out.Acked, true)
	s.health.cause = r.cause
	if at.Uncovered > 0 {
		s.events.publish(event{kind: eventRewound, count: at.Uncovered})
	}
	s.counts.rotations.Add(1)
	s.events.publish(event{kind: eventRotated, attempt: next.attempt.epoch, count: a.epoch})
	s.attach(next.attempt, next.resumption)
	s.replay(next.attempt)
	return next.attempt, nil
}

// goesOn lets the old attempt go on. It may be dead: then whoever attends to it finds out.
func (r *rotation[Req, Res]) goesOn(why error) {
	s, a := r.s, r.old
	if in := s.inbox.Thaw(); in != nil {
		if _, report := s.inbox.Arrived(a, in, true); report != nil {
			s.settle(a, report)
		}
	}
	s.calling(func() {
		for s.outbox.Unpause(a, a.loss.Load() == nil) {
			s.halfClose(a)
		}
	})
	s.enter(Attached)
	r.tellPutOff(why)
}

// comesAgain makes the old attempt due again after a wait, and not before the server wants it.
func (r *rotation[Req, Res]) comesAgain(hint time.Duration) {
	a := r.old
	a.due.Store(nil) // of the meantime
	half := min(firstRetry<<min(a.putOffs, 10), mostRetry) / 2
	a.putOffs++
	a.dueAfter(max(half+backoff.UpTo(half), hint), r.cause)
}

// tellPutOff tells the observers that the old attempt goes on.
func (r *rotation[Req, Res]) tellPutOff(why error) {
	r.s.events.publish(event{kind: eventRotationPutOff, attempt: r.old.epoch, cause: why})
}

// nextPause returns the wait before an attempt that no policy sees: with full jitter, up to a backoff that grows with each such
// wait since the last progress (invariant 20).
func (s *ClientStream[Req, Res]) nextPause(progress bool) time.Duration {
	h := &s.health
	if progress {
		h.closes = 0
	}
	delay := max(backoff.UpTo(min(firstBackoff<<min(h.closes, 10), mostBackoff)), s.floor())
	h.closes++
	return delay
}
