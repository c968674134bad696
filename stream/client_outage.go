package stream

import (
	"context"
	"errors"
	"time"

	"github.com/failsafe-go/failsafe-go"

	"github.com/streamsafe/streamsafe/internal/inbox"
	"github.com/streamsafe/streamsafe/internal/outbox"
)

// errMaxOutage cancels the execution of an outage that has lasted too long.
var errMaxOutage = errors.New("outage lasted too long")

// bridge gets the stream over an outage, which is one execution of the stream policies. It returns an attempt that is
// attached and has proved stable, or the end of the stream, or a planned close: that is over, too, and no failure. broken is
// what began the outage, nil when the stream opens or goes on after a planned close.
func (s *ClientStream[Req, Res]) bridge(broken *attemptError) (*attempt[Req, Res], *attemptError) {
	ctx, cancel := context.WithCancelCause(s.ctx)
	defer cancel(nil)
	delays := &schedule{tell: s.tellDelay, floor: s.floor}
	ctx = withSchedule(ctx, delays)
	began := time.Now()
	if limit := s.options.limits.maxOutage; limit > 0 {
		timer := time.AfterFunc(limit, func() {
			if s.State() != Attached {
				cancel(errMaxOutage)
			}
		})
		defer timer.Stop()
	}
	var end *attemptError         // one that the executor was not to see: a final one, or a planned close
	var seen *attemptError        // one of these that the executor may try again, nevertheless
	var stable *attempt[Req, Res] // the outage is over, whatever a policy makes of it
	_, err := s.outage.WithContext(ctx).GetWithExecution(func(exec failsafe.Execution[any]) (any, error) {
		if seen != nil || stable != nil { // a policy that tries again nevertheless: that is over
			end = seen
			cancel(nil)
			return nil, nil //nolint:nilerr // see above
		}
		a, failure := s.try(exec, broken, began)
		if failure != nil {
			delays.noteEnd(failure)
		}
		if failure != nil && (failure.final || failure.planned) {
			seen = failure
		}
		switch {
		case failure == nil:
			stable = a
			return a, nil
		case failure.planned, failure.final && (s.options.stream.isExecutor() || s.wellEnded(failure)):
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
		return nil, s.detached(s.judge(l, inbox.Standing{Position: o.resumption.position}, outbox.Counts{}))
	}
	s.attach(a, o.resumption)
	stop := context.AfterFunc(exec.Context(), func() {
		a.fail(&loss{op: "recv", err: cutBy(context.Cause(exec.Context())), origin: fromStream})
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

// tellDelay tells the observers how long the stream waits.
func (s *ClientStream[Req, Res]) tellDelay(d time.Duration) {
	s.events.publish(event{kind: eventReconnectScheduled, delay: d})
}

// floor is how long the server still wants to be left alone.
func (s *ClientStream[Req, Res]) floor() time.Duration {
	return time.Duration(s.notBefore.Load()) - time.Since(s.born)
}

// pause waits before the attempt after a planned close.
func (s *ClientStream[Req, Res]) pause(closed *attemptError) {
	delay := s.nextPause(closed.ceiling > 0)
	s.tellDelay(delay)
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.ctx.Done():
	}
}
