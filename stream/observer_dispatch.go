package stream

// dispatch calls the method of o that is for events like e, if it has one.
func dispatch(o Observer, info Info, e event) { //nolint:gocyclo // one case for each kind of event, and nothing else
	switch e.kind {
	case eventOpened:
		call(o, func(o OpenedObserver) { o.OnOpened(info) })
	case eventAttached:
		call(o, func(o AttachedObserver) { o.OnAttached(info, e.position) })
	case eventDetached:
		call(o, func(o DetachedObserver) { o.OnDetached(info, e.cause) })
	case eventWaiting:
		call(o, func(o WaitingObserver) { o.OnWaiting(info, e.cause) })
	case eventReconnectScheduled:
		call(o, func(o ReconnectScheduledObserver) { o.OnReconnectScheduled(info, e.delay) })
	case eventReplaying:
		call(o, func(o ReplayingObserver) { o.OnReplaying(info, e.count) })
	case eventRewound:
		call(o, func(o RewoundObserver) { o.OnRewound(info, e.count) })
	case eventDuplicate:
		call(o, func(o DuplicateObserver) { o.OnDuplicate(info, e.count, e.position) })
	case eventHeldOverflow:
		call(o, func(o HeldOverflowObserver) { o.OnHeldOverflow(info, e.count, e.bytes) })
	case eventWindowFull:
		call(o, func(o WindowFullObserver) { o.OnWindowFull(info, e.count, e.bytes) })
	case eventCommitted:
		call(o, func(o CommittedObserver) { o.OnCommitted(info, e.position) })
	case eventCommitFailed:
		call(o, func(o CommitFailedObserver) { o.OnCommitFailed(info, e.position, e.cause) })
	case eventFenced:
		call(o, func(o FencedObserver) { o.OnFenced(info, e.cause) })
	case eventGap:
		call(o, func(o GapObserver) { o.OnGap(info, e.cause) })
	case eventLost:
		call(o, func(o LostObserver) { o.OnLost(info, e.position, e.cause) })
	case eventRotating:
		call(o, func(o RotatingObserver) { o.OnRotating(info, e.cause) })
	case eventRotated:
		call(o, func(o RotatedObserver) { o.OnRotated(info, e.count) })
	case eventRotationPutOff:
		call(o, func(o RotationPutOffObserver) { o.OnRotationPutOff(info, e.cause) })
	case eventClosed:
		call(o, func(o ClosedObserver) { o.OnClosed(info, e.cause) })
	}
}

// call calls f with o where o implements T.
func call[T any](o Observer, f func(T)) {
	if t, ok := o.(T); ok {
		f(t)
	}
}

// eventSet is a set of kinds of events.
type eventSet uint32

func (s eventSet) has(k eventKind) bool { return s&(1<<k) != 0 }

// eventsOf returns the events that o is told of.
func eventsOf(o Observer) (set eventSet) {
	add := func(k eventKind, is bool) {
		if is {
			set |= 1 << k
		}
	}
	add(eventOpened, is[OpenedObserver](o))
	add(eventAttached, is[AttachedObserver](o))
	add(eventDetached, is[DetachedObserver](o))
	add(eventWaiting, is[WaitingObserver](o))
	add(eventReconnectScheduled, is[ReconnectScheduledObserver](o))
	add(eventReplaying, is[ReplayingObserver](o))
	add(eventRewound, is[RewoundObserver](o))
	add(eventDuplicate, is[DuplicateObserver](o))
	add(eventHeldOverflow, is[HeldOverflowObserver](o))
	add(eventWindowFull, is[WindowFullObserver](o))
	add(eventCommitted, is[CommittedObserver](o))
	add(eventCommitFailed, is[CommitFailedObserver](o))
	add(eventFenced, is[FencedObserver](o))
	add(eventGap, is[GapObserver](o))
	add(eventLost, is[LostObserver](o))
	add(eventRotating, is[RotatingObserver](o))
	add(eventRotated, is[RotatedObserver](o))
	add(eventRotationPutOff, is[RotationPutOffObserver](o))
	add(eventClosed, is[ClosedObserver](o))
	return set
}

func is[T any](o Observer) bool {
	_, ok := o.(T)
	return ok
}

// observes reports whether o implements at least one of the interfaces for clients.
func observes(o Observer) bool {
	return eventsOf(o) != 0 || is[StreamObserver](o) || is[AttemptObserver](o)
}
