package stream

import (
	"sync"
	"time"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/internal/queue"
)

// Observer is told what happens to a stream. It implements one or more of the Observer interfaces of this package, such as
// [AttachedObserver]. WithObserver refuses an observer that implements none. A method with a misspelt name is never
// called, so let the compiler check:
//
//	var _ stream.AttachedObserver = myObserver{}
//
// For some events alone, [Hooks] is shorter. What no observer has a method for costs nothing.
//
// The calls for one stream come one at a time, in the order of the events, from a goroutine of their own. So a slow
// observer does not delay the stream. If it is more than 1,024 events behind, or if the events that wait for it have more
// than 1 MiB of positions and errors, further events are dropped. [Stats].EventsDropped counts them. OnClosed is never
// dropped.
//
// An observer may call Close, Commit, State, Stats and Unacked of the stream.
type Observer any

// Info is part of every event.
type Info struct {
	// Name is the name that WithName has given the stream.
	Name string
	// Stream is the id of the stream. See [Observed].
	Stream StreamID
	// Attempt is the number of the attempt that the event belongs to. The first is 1. Before the first attempt it is 0.
	Attempt uint64
	// Time is when the event happened.
	Time time.Time
}

// OpenedObserver is told that an attempt is about to be opened.
type OpenedObserver interface{ OnOpened(info Info) }

// AttachedObserver is told that an attempt is attached: messages flow. from is the position that it starts from.
type AttachedObserver interface {
	OnAttached(info Info, from checkpoint.Position)
}

// DetachedObserver is told that an attempt was lost or could not be opened, and why, if it may be resumed. Otherwise
// [ClosedObserver] is told.
type DetachedObserver interface{ OnDetached(info Info, cause error) }

// WaitingObserver is told what an attempt waits for while its connection is not ready: the last error of the connection,
// with the name of the target. It is told once for each change. Only connections with [DialOptions] report that.
type WaitingObserver interface{ OnWaiting(info Info, cause error) }

// ReconnectScheduledObserver is told how long the stream waits before it opens the next attempt. Only policies of
// [NewRetryPolicyBuilder] report that, and planned closes (see WithEndless). For other policies use their own listeners.
type ReconnectScheduledObserver interface {
	OnReconnectScheduled(info Info, delay time.Duration)
}

// ReplayingObserver is told that unacknowledged messages are about to be sent again, and how many.
type ReplayingObserver interface {
	OnReplaying(info Info, messages uint64)
}

// RewoundObserver is told that messages may come again that have arrived before, and how many: those after the last
// position.
type RewoundObserver interface {
	OnRewound(info Info, messages uint64)
}

// DuplicateObserver is told that messages came again and were dropped, and how many. at is the position of the newest.
type DuplicateObserver interface {
	OnDuplicate(info Info, messages uint64, at checkpoint.Position)
}

// HeldOverflowObserver is told that HoldUntilCheckpoint had to hold more than its limit: so many messages, of so many
// bytes.
type HeldOverflowObserver interface {
	OnHeldOverflow(info Info, messages uint64, bytes int)
}

// WindowFullObserver is told that a Send found the replay buffer full: so many messages are kept, of so many bytes.
type WindowFullObserver interface {
	OnWindowFull(info Info, messages uint64, bytes int)
}

// CommittedObserver is told that the position at was written to the store.
type CommittedObserver interface {
	OnCommitted(info Info, at checkpoint.Position)
}

// CommitFailedObserver is told that the position at could not be written to the store. A write in the background is
// tried again.
type CommitFailedObserver interface {
	OnCommitFailed(info Info, at checkpoint.Position, cause error)
}

// FencedObserver is told that another stream has acquired the key in the store.
type FencedObserver interface{ OnFenced(info Info, cause error) }

// RotatingObserver is told that the attempt is about to be replaced: the next one is opened while it still works. cause says
// why, and matches [Rotate]. [RotatedObserver], [RotationPutOffObserver], [DetachedObserver] or [ClosedObserver] tells how that
// ends.
type RotatingObserver interface{ OnRotating(info Info, cause error) }

// RotatedObserver is told that the attempt of info has taken over from another one, which is over and was no outage. The event
// of [AttachedObserver] follows.
type RotatedObserver interface{ OnRotated(info Info, from uint64) }

// RotationPutOffObserver is told that the attempt of info goes on, and why it could not be replaced.
type RotationPutOffObserver interface {
	OnRotationPutOff(info Info, cause error)
}

// GapObserver is told that a sequence number was missing; see WithGapDetection.
type GapObserver interface{ OnGap(info Info, cause error) }

// LostObserver is told that the position was lost, and that Callbacks.Lost has chosen to continue from another one.
type LostObserver interface {
	OnLost(info Info, from checkpoint.Position, cause error)
}

// ClosedObserver is told that the stream has ended. cause is io.EOF or an [*Error]. After it, only the last write to the
// store is reported.
type ClosedObserver interface{ OnClosed(info Info, cause error) }

// eventKind tells events apart.
type eventKind uint8

const (
	eventOpened eventKind = iota
	eventAttached
	eventDetached
	eventWaiting
	eventReconnectScheduled
	eventReplaying
	eventRewound
	eventDuplicate
	eventHeldOverflow
	eventWindowFull
	eventCommitted
	eventCommitFailed
	eventFenced
	eventGap
	eventLost
	eventRotating
	eventRotated
	eventRotationPutOff
	eventClosed
)

// event is one thing that happened; which fields count depends on the kind.
type event struct {
	kind     eventKind
	attempt  uint64
	at       time.Time
	position checkpoint.Position
	cause    error
	delay    time.Duration
	count    uint64
	bytes    int
	kept     int // its size, while it waits
}

// How far an observer may fall behind. A peer decides how large positions and errors are (invariant 40).
const (
	maxEvents     = 1024
	maxEventBytes = 1 << 20
)

// size is about how many bytes e keeps from being freed.
func (e *event) size() int {
	n := len(e.position.Token) + len(e.position.Lineage)
	if e.cause != nil {
		n += len(e.cause.Error())
	}
	return n
}

// events carries a stream's events to its observers. A nil *events has none.
type events struct {
	name string // set at construction, then read only

	// set before the lifecycle goroutine begins, then read only
	id        StreamID
	observers []Observer
	wanted    eventSet // by one of the observers

	mu         sync.Mutex // guards the fields below
	waiting    queue.Queue[event]
	bytes      int // that waiting keeps
	delivering bool
	dropped    uint64
	attempt    uint64 // of the newest event that had one
}

// start sets who is told.
func (ev *events) start(id StreamID, observers []Observer) {
	ev.id, ev.observers = id, observers
	for _, o := range observers {
		ev.wanted |= eventsOf(o)
	}
}

func (ev *events) info(attempt uint64, at time.Time) Info {
	return Info{Name: ev.name, Stream: ev.id, Attempt: attempt, Time: at}
}

// publish queues e, if an observer wants it. It never blocks.
func (ev *events) publish(e event) {
	if ev == nil || ev.wanted == 0 {
		return
	}
	wanted := ev.wanted.has(e.kind)
	if wanted {
		e.at, e.kept = time.Now(), e.size()
	}
	ev.mu.Lock()
	defer ev.mu.Unlock()
	if e.attempt == 0 {
		e.attempt = ev.attempt
	}
	ev.attempt = e.attempt
	if !wanted {
		return
	}
	full := ev.waiting.Len() >= maxEvents || ev.waiting.Len() > 0 && ev.bytes+e.kept > maxEventBytes
	if full && e.kind != eventClosed {
		ev.dropped++
		return
	}
	ev.bytes += e.kept
	ev.waiting.Push(e)
	if !ev.delivering {
		ev.delivering = true
		go ev.deliver() // ends when nothing waits; nobody waits for it
	}
}

// deliver calls the observers until no event waits. If one of them ends the goroutine, another goes on.
func (ev *events) deliver() {
	g := guard{gone: func() { go ev.deliver() }} // as publish has it
	defer g.check()
	for e, ok := ev.next(); ok; e, ok = ev.next() {
		info := ev.info(e.attempt, e.at)
		for _, o := range ev.observers {
			dispatch(o, info, e)
		}
	}
	g.returned = true
}

// next takes the oldest event. If none waits, the goroutine that delivers is over.
func (ev *events) next() (e event, ok bool) {
	ev.mu.Lock()
	defer ev.mu.Unlock()
	if ev.waiting.Len() == 0 {
		ev.waiting.Trim()
		ev.delivering = false
		return event{}, false
	}
	e = ev.waiting.PopFront()
	ev.bytes -= e.kept
	return e, true
}

// droppedEvents returns how many events no observer was told of.
func (ev *events) droppedEvents() uint64 {
	if ev == nil {
		return 0
	}
	ev.mu.Lock()
	defer ev.mu.Unlock()
	return ev.dropped
}
