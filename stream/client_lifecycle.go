package stream

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/failsafe-go/failsafe-go"
)

// errMaxOutage cancels the execution of an outage that has lasted too long.
var errMaxOutage = errors.New("outage lasted too long")

// errGoroutineEnded is how a stream ends where a callback calls runtime.Goexit, as t.FailNow does.
var errGoroutineEnded = errors.New("a callback has ended the goroutine")

// run is the lifecycle goroutine. It owns the states: it opens attempts, attaches them, waits for their loss, and ends
// the stream.
func (s *ClientStream[Req, Res]) run() {
	defer func() {
		if s.final == nil { // a listener of a policy has ended the goroutine
			s.end((&attemptError{op: "open", cause: errGoroutineEnded}).endsWith(ReasonResume))
		}
		close(s.done)
	}()
	stopLeaving := context.AfterFunc(s.ctx, func() {
		s.inbox.leave()
		s.outbox.leave()
	})
	defer stopLeaving()
	if s.life == nil {
		s.lifetime()
	} else if denied := s.admit(); denied != nil {
		s.end(denied)
	}
}

// lifetime is the stream from its first open to its last commit.
func (s *ClientStream[Req, Res]) lifetime() {
	end := (&attemptError{op: "open", cause: errGoroutineEnded}).endsWith(ReasonResume)
	var commits sync.WaitGroup
	defer func() { // in any case, or the application would wait for ever
		if a := s.newest.Load(); a != nil {
			a.cancel()
			a.stopWatch()
		}
		s.end(end)
		commits.Wait()
	}()
	end = s.live(&commits)
}

// admit lets the stream live while it holds the permits of bulkheads and adaptive limiters. It returns the end of the
// stream where they kept it out.
func (s *ClientStream[Req, Res]) admit() *attemptError {
	ctx, release := context.WithCancelCause(s.ctx)
	defer release(nil)
	stopWaiting := func() bool { return true }
	if limit := s.options.limits.maxOutage; limit > 0 {
		stopWaiting = time.AfterFunc(limit, func() { release(errMaxOutage) }).Stop
	}
	admitted := false
	err := s.life.WithContext(ctx).Run(func() error {
		admitted = true
		stopWaiting()
		contained(s.lifetime) // or a callback that ends the goroutine keeps the permits
		release(nil)          // an adaptive limiter is not to take the life of a stream for a response time
		return nil
	})
	if admitted {
		return nil
	}
	return s.denied(ctx, err)
}

// live goes from outage to outage until the stream ends. Writes to the store count in commits.
func (s *ClientStream[Req, Res]) live(commits *sync.WaitGroup) *attemptError {
	if end := s.acquire(); end != nil {
		return end
	}
	if s.committer != nil {
		commits.Go(func() { s.committer.run(s.ctx) }) // ends with the stream; run waits for it
	}
	var broken *attemptError
	for {
		a, end := s.bridge(broken)
		if end != nil {
			return end
		}
		if broken = s.attend(a, nil); broken.final {
			return broken
		}
	}
}

// acquire makes the stream the owner of its key, and starts from the position there.
func (s *ClientStream[Req, Res]) acquire() *attemptError {
	if s.committer == nil {
		return nil
	}
	position, err := s.committer.acquire(s.ctx)
	if err != nil {
		return s.orContext(&attemptError{op: "open", cause: err, final: true, reason: ReasonStore})
	}
	s.inbox.startsFrom(position)
	return nil
}

// bridge gets the stream over an outage, which is one execution of the stream policies. It returns an attempt that is
// attached and has proved stable, or the end of the stream. broken is what began the outage, nil when the stream opens.
func (s *ClientStream[Req, Res]) bridge(broken *attemptError) (*attempt[Req, Res], *attemptError) {
	ctx, cancel := context.WithCancelCause(s.ctx)
	defer cancel(nil)
	ctx = withSchedule(ctx, &schedule{
		tell:  func(d time.Duration) { s.events.publish(event{kind: eventReconnectScheduled, delay: d}) },
		floor: func() time.Duration { return time.Duration(s.notBefore.Load()) - time.Since(s.inbox.start) },
	})
	began := time.Now()
	if limit := s.options.limits.maxOutage; limit > 0 {
		timer := time.AfterFunc(limit, func() {
			if s.State() != Attached {
				cancel(errMaxOutage)
			}
		})
		defer timer.Stop()
	}
	var end *attemptError         // a final one that the executor was not to see
	var seen *attemptError        // a final one that the executor has seen
	var stable *attempt[Req, Res] // the outage is over, whatever a policy makes of it
	_, err := s.outage.WithContext(ctx).GetWithExecution(func(exec failsafe.Execution[any]) (any, error) {
		if seen != nil || stable != nil { // a policy that tries again nevertheless: that is over
			end = seen
			cancel(nil)
			return nil, nil //nolint:nilerr // see above
		}
		a, failure := s.try(exec, broken, began)
		if failure != nil && failure.final {
			seen = failure
		}
		switch {
		case failure == nil:
			stable = a
			return a, nil
		case failure.final && (s.options.stream.executor != nil || s.wellEnded(failure)):
			end = failure
			return end, nil
		default:
			return nil, failure
		}
	})
	if end != nil {
		return nil, end
	}
	if stable != nil {
		return stable, nil
	}
	return nil, s.gaveUp(ctx, err)
}

// try is one try of an outage: the loss that began it where this is the first, otherwise an attempt. It returns the
// attempt once that is stable.
func (s *ClientStream[Req, Res]) try(
	exec failsafe.Execution[any], broken *attemptError, began time.Time,
) (*attempt[Req, Res], *attemptError) {
	if broken != nil && exec.IsFirstAttempt() {
		return nil, broken
	}
	if s.overdue(began) {
		return nil, s.outageTooLong()
	}
	s.enter(Opening)
	o, failure := s.openAttempt(exec.Context())
	if failure != nil {
		return nil, s.detached(failure)
	}
	a := o.attempt
	if l := s.learn(o.resumption); l != nil {
		a.fail(l)
		s.health.cause = l.err
		return nil, s.detached(s.judge(l, standing{position: o.resumption.position}, 0))
	}
	s.attach(a, o.resumption)
	stop := context.AfterFunc(exec.Context(), func() {
		a.fail(&loss{op: "recv", err: cutBy(context.Cause(exec.Context())), ours: true})
	})
	defer stop()
	s.replay(a)
	stable := time.NewTimer(max(0, s.options.stableFor))
	defer stable.Stop()
	switch failure := s.attend(a, stable.C); {
	case failure == nil:
		return a, nil
	case !failure.final && s.overdue(began):
		return nil, s.outageTooLong()
	default:
		return nil, failure
	}
}

// wellEnded reports whether an end that came before an attempt was stable is no failure in the eyes of policies, a
// breaker's say: the server said OK, or the application left. Where its deadline has passed while the stream was opening,
// that may be the server's doing.
func (s *ClientStream[Req, Res]) wellEnded(end *attemptError) bool {
	left := s.ctx.Err() != nil && (s.State() == Attached || errors.Is(s.ctx.Err(), context.Canceled))
	return end.well || left
}

// overdue reports whether an outage that began then has lasted too long.
func (s *ClientStream[Req, Res]) overdue(began time.Time) bool {
	limit := s.options.limits.maxOutage
	return limit > 0 && time.Since(began) >= limit
}

// learn takes in what the server told Resume about the two halves. It returns the end of the attempt where that cannot
// be: then no message of it may be handed over.
func (s *ClientStream[Req, Res]) learn(r *Resumption[Req, Res]) *loss {
	if r.anchored {
		if l := s.inbox.anchor(r.anchor); l != nil {
			return l
		}
	}
	if r.ackedKnown && !s.outbox.acknowledgeStart(r.acked) {
		return s.ackTooHigh("resume", r.acked)
	}
	return nil
}

// attach lets messages flow on a.
func (s *ClientStream[Req, Res]) attach(a *attempt[Req, Res], r *Resumption[Req, Res]) {
	s.newest.Store(a)
	for _, m := range r.deliver {
		s.keep(a, m)
		if s.inbox.hasRefused(a) { // what follows comes again
			break
		}
	}
	s.inbox.attach(a)
	a.stopWatch = s.watch(a)
	s.enter(Attached)
	s.events.publish(event{kind: eventAttached, attempt: a.epoch, position: r.position})
	select {
	case <-s.attached:
		s.counts.resumes.Add(1)
	default:
		close(s.attached)
	}
}

// attend waits until a is lost, and returns why; or until stable fires, and returns nil.
func (s *ClientStream[Req, Res]) attend(a *attempt[Req, Res], stable <-chan time.Time) *attemptError {
	for {
		select {
		case <-a.lost:
			return s.lose(a)
		case <-a.suspect:
			s.findCause(a)
		case <-s.ctx.Done():
			a.fail(&loss{op: "recv", err: contextError(s.ctx)})
		case <-stable:
			return nil
		}
	}
}

// findCause receives from a dead attempt until that tells why it died, where the application is not receiving. What
// comes on the way is kept for the application.
func (s *ClientStream[Req, Res]) findCause(a *attempt[Req, Res]) {
	for s.inbox.claim(a) { // or the application is, and will find out
		var m *Res
		var err error
		s.calling(func() { m, err = a.recv(nil) })
		if err != nil {
			a.recvFailed(err)
			s.inbox.refuse(a, false)
			return
		}
		s.keep(a, m)
	}
}

// keep takes m in where the lifecycle goroutine has received it: Recv finds it later.
func (s *ClientStream[Req, Res]) keep(a *attempt[Req, Res], m *Res) {
	s.calling(func() { s.take(a, m, true) })
}

// calling calls f, which calls the application, in the lifecycle goroutine. Close does not wait for it.
func (s *ClientStream[Req, Res]) calling(f func()) {
	s.inside.Add(1)
	defer s.inside.Add(-1) // f may end the goroutine
	f()
}

// lose takes a away from both halves and says what became of it. Nothing is on its way on a when it returns, unless
// the stream's context is done.
func (s *ClientStream[Req, Res]) lose(a *attempt[Req, Res]) *attemptError {
	a.cancel()
	a.stopWatch()
	at := s.inbox.detach(a.loss.Load().endsWell())
	sent, acked := s.outbox.detach()
	if a.aborted.Load() == nil { // else for a message that is bad
		s.died(at, acked)
	}
	failure := s.judge(a.endedBy(), at, sent)
	s.health.cause = failure.cause
	if failure.final {
		return failure
	}
	s.counts.outages.Add(1)
	if at.uncovered > 0 {
		s.events.publish(event{kind: eventRewound, count: at.uncovered})
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

// end ends the stream: nothing more is sent or received, what is processed is committed, and both halves are told. Where
// the application ended it, they do not wait for the store.
func (s *ClientStream[Req, Res]) end(end *attemptError) {
	s.final = end.ended(s.counts.attempts.Load())
	s.cancel(nil)
	abrupt := isAbrupt(s.final)
	if !abrupt && end.reason != ReasonStore {
		_ = s.flushed() // kept in lastErr, and published; Close tries again
	}
	s.enter(Closed)
	s.events.publish(event{kind: eventClosed, cause: s.final})
	s.inbox.end(s.final, abrupt)
	if end.reason == ReasonServer {
		s.outbox.end(io.EOF) // the server's verdict is Recv's to tell
	} else {
		s.outbox.end(s.final)
	}
	if abrupt && end.reason != ReasonFenced {
		_ = s.flushed()
	}
}

// isAbrupt reports whether the stream ended in a way after which Recv returns err at once, whatever is still to be had:
// the application has left, or another owner has its key.
func isAbrupt(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && (e.Reason == ReasonClosed || e.Reason == ReasonContext || e.Reason == ReasonFenced)
}
