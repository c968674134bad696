package tap

import (
	"sync"
	"time"
)

// Observer is told what happens to RPCs. It implements one or more of the …Observer interfaces of this package, or
// is [Hooks].
//
// The calls come one at a time, in the order of the events, from a goroutine of their own: the tap does not wait for an
// observer. If one falls more than 1,024 events behind, events are dropped; [Counters] miss none.
type Observer any

// Info is what every event carries.
type Info struct {
	// Method is the full name of the method: "/pkg.Service/Method".
	Method string
	// Time is when it happened.
	Time time.Time
}

// AdmittedObserver is told that an RPC has passed. It is not told of those that are exempt.
type AdmittedObserver interface{ OnAdmitted(info Info) }

// RefusedObserver is told that an RPC was refused, why, and what the client is told.
type RefusedObserver interface {
	OnRefused(info Info, reason Reason, err error)
}

// EndedObserver is told by an Accountant that an RPC has ended, what with, and how long it took from its admission on.
type EndedObserver interface {
	OnEnded(info Info, took time.Duration, err error)
}

type eventKind uint8

const (
	eventAdmitted eventKind = iota
	eventRefused
	eventEnded
)

// event is one thing that happened; which fields count depends on the kind.
type event struct {
	kind   eventKind
	method string
	at     time.Time
	reason Reason
	took   time.Duration
	err    error
}

// maxEvents is how far an observer may fall behind.
const maxEvents = 1024

// events carries events to observers. A nil *events has none.
type events struct {
	observers []Observer           // set at construction, then read only
	wanted    [eventEnded + 1]bool // by one of the observers, by kind of event; set at construction, then read only

	mu         sync.Mutex // guards the fields below
	waiting    []event
	delivering bool
}

func newEvents(observers []Observer) *events {
	if len(observers) == 0 {
		return nil
	}
	ev := &events{observers: observers}
	for _, o := range observers {
		for kind, wants := range wanted(o) {
			ev.wanted[kind] = ev.wanted[kind] || wants
		}
	}
	return ev
}

// publish queues e, if an observer wants it. It never blocks.
func (ev *events) publish(e event) {
	if ev == nil || !ev.wanted[e.kind] {
		return
	}
	e.at = time.Now()
	ev.mu.Lock()
	defer ev.mu.Unlock()
	if len(ev.waiting) >= maxEvents {
		return
	}
	ev.waiting = append(ev.waiting, e)
	if !ev.delivering {
		ev.delivering = true
		go ev.deliver() // ends when nothing waits; nobody waits for it
	}
}

// deliver calls the observers until no event waits.
func (ev *events) deliver() {
	var batch []event
	for {
		ev.mu.Lock()
		if len(ev.waiting) == 0 {
			ev.delivering = false
			ev.mu.Unlock()
			return
		}
		clear(batch)
		batch, ev.waiting = ev.waiting, batch[:0]
		ev.mu.Unlock()
		for _, e := range batch {
			for _, o := range ev.observers {
				dispatch(o, e)
			}
		}
	}
}

// dispatch calls the method of o that is for events like e, if it has one.
func dispatch(o Observer, e event) {
	info := Info{Method: e.method, Time: e.at}
	switch e.kind {
	case eventAdmitted:
		if o, ok := o.(AdmittedObserver); ok {
			o.OnAdmitted(info)
		}
	case eventRefused:
		if o, ok := o.(RefusedObserver); ok {
			o.OnRefused(info, e.reason, e.err)
		}
	case eventEnded:
		if o, ok := o.(EndedObserver); ok {
			o.OnEnded(info, e.took, e.err)
		}
	}
}

// observes reports whether o implements at least one of the interfaces.
func observes(o Observer) bool {
	return wanted(o) != [eventEnded + 1]bool{}
}

// wanted returns which events o is told of.
func wanted(o Observer) (kinds [eventEnded + 1]bool) {
	_, kinds[eventAdmitted] = o.(AdmittedObserver)
	_, kinds[eventRefused] = o.(RefusedObserver)
	_, kinds[eventEnded] = o.(EndedObserver)
	return kinds
}
