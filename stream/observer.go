package stream

import (
	"sync"
	"time"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/internal/queue"
)

// Observer is told what happens to a stream. It implements one or more of the …Observer interfaces of this package;
// WithObserver refuses one that implements none. A misspelt method is never called, so let the compiler check:
//
//	var _ stream.AttachedObserver = myObserver{}
//
// The calls for one stream come one at a time, in the order of the events, from a goroutine of their own: an observer
// that is slow delays nothing but itself. Where it falls more than 1,024 events behind, events are dropped and counted
// in [Stats.EventsDropped]. An observer may call every method of the stream that other goroutines may call.
type Observer any

// Info is what every event carries.
type Info struct {
	// Name is what WithName gave the stream.
	Name string
	// Attempt is the number of the attempt that the event belongs to, from 1; zero before the first.
	Attempt uint64
	// Time is when it happened.
	Time time.Time
}

// OpenedObserver is told that an attempt is about to be opened.
type OpenedObserver interface{ OnOpened(info Info) }

// AttachedObserver is told that messages flow; from is where the attempt starts.
type AttachedObserver interface {
	OnAttached(info Info, from checkpoint.Position)
}

// DetachedObserver is told that an attempt was lost or could not be opened, and why.
type DetachedObserver interface{ OnDetached(info Info, cause error) }

// ReconnectScheduledObserver is told how long the stream waits before the next attempt. Only policies made by
// [NewRetryPolicyBuilder] tell; others have listeners of their own.
type ReconnectScheduledObserver interface {
	OnReconnectScheduled(info Info, delay time.Duration)
}

// ReplayingObserver is told that messages are being sent again.
type ReplayingObserver interface {
	OnReplaying(info Info, messages uint64)
}

// RewoundObserver is told that messages which were handed over may come again.
type RewoundObserver interface {
	OnRewound(info Info, messages uint64)
}

// DuplicateObserver is told that messages came again and were dropped, up to the one at the position.
type DuplicateObserver interface {
	OnDuplicate(info Info, messages uint64, at checkpoint.Position)
}

// HeldOverflowObserver is told that more came without a position than may be held.
type HeldOverflowObserver interface {
	OnHeldOverflow(info Info, messages uint64, bytes int)
}

// WindowFullObserver is told that a Send found the replay buffer full.
type WindowFullObserver interface {
	OnWindowFull(info Info, messages uint64, bytes int)
}

// CommittedObserver is told that a position was written to the store.
type CommittedObserver interface {
	OnCommitted(info Info, at checkpoint.Position)
}

// CommitFailedObserver is told that a position could not be written to the store. It is tried again.
type CommitFailedObserver interface {
	OnCommitFailed(info Info, at checkpoint.Position, cause error)
}

// FencedObserver is told that another owner has acquired the stream's key.
type FencedObserver interface{ OnFenced(info Info, cause error) }

// GapObserver is told that a sequence number was missing.
type GapObserver interface{ OnGap(info Info, cause error) }

// LostObserver is told that the position was gone, and where the stream starts over.
type LostObserver interface {
	OnLost(info Info, from checkpoint.Position, cause error)
}

// ClosedObserver is told that the stream has ended, and how: io.EOF, or an [*Error].
type ClosedObserver interface{ OnClosed(info Info, cause error) }

// eventKind tells events apart.
type eventKind uint8

const (
	eventOpened eventKind = iota
	eventAttached
	eventDetached
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
}

// maxEvents is how far an observer may fall behind.
const maxEvents = 1024

// events carries a stream's events to its observers. A nil *events has none.
type events struct {
	name      string     // set at construction, then read only
	observers []Observer // set at construction, then read only

	mu         sync.Mutex // guards the fields below
	waiting    queue.Queue[event]
	delivering bool
	dropped    uint64
	attempt    uint64 // of the newest event that had one
}

// publish queues e. It never blocks.
func (ev *events) publish(e event) {
	if ev == nil {
		return
	}
	e.at = time.Now()
	ev.mu.Lock()
	defer ev.mu.Unlock()
	if e.attempt == 0 {
		e.attempt = ev.attempt
	}
	ev.attempt = e.attempt
	if ev.waiting.Len() >= maxEvents && e.kind != eventClosed {
		ev.dropped++
		return
	}
	ev.waiting.Push(e)
	if !ev.delivering {
		ev.delivering = true
		go ev.deliver() // ends when nothing waits; nobody waits for it
	}
}

// deliver calls the observers until no event waits. If one of them ends the goroutine, another goes on.
func (ev *events) deliver() {
	guarded(func() {
		for e, ok := ev.next(); ok; e, ok = ev.next() {
			info := Info{Name: ev.name, Attempt: e.attempt, Time: e.at}
			for _, o := range ev.observers {
				dispatch(o, info, e)
			}
		}
	}, func() { go ev.deliver() }) // as publish has it
}

// next takes the oldest event. If none waits, the goroutine that delivers is over.
func (ev *events) next() (e event, ok bool) {
	ev.mu.Lock()
	defer ev.mu.Unlock()
	if ev.waiting.Len() == 0 {
		ev.delivering = false
		return event{}, false
	}
	return ev.waiting.PopFront(), true
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
