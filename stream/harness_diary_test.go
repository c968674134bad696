package stream_test

import (
	"sync"
	"time"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream"
)

// note is what a diary has of one event.
type note struct {
	name  string
	info  stream.Info
	at    checkpoint.Position
	cause error
	delay time.Duration
	count uint64
	bytes int
}

// diary is an observer that keeps everything.
type diary struct {
	mu    sync.Mutex // guards the fields below
	notes []note
}

func (d *diary) add(e note) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.notes = append(d.notes, e)
}

func (d *diary) OnOpened(i stream.Info) { d.add(note{name: "opened", info: i}) }

func (d *diary) OnAttached(i stream.Info, from checkpoint.Position) {
	d.add(note{name: "attached", info: i, at: from})
}

func (d *diary) OnDetached(i stream.Info, cause error) {
	d.add(note{name: "detached", info: i, cause: cause})
}

func (d *diary) OnWaiting(i stream.Info, cause error) {
	d.add(note{name: "waiting", info: i, cause: cause})
}

func (d *diary) OnReconnectScheduled(i stream.Info, delay time.Duration) {
	d.add(note{name: "scheduled", info: i, delay: delay})
}

func (d *diary) OnReplaying(i stream.Info, n uint64) {
	d.add(note{name: "replaying", info: i, count: n})
}

func (d *diary) OnRewound(i stream.Info, n uint64) {
	d.add(note{name: "rewound", info: i, count: n})
}

func (d *diary) OnDuplicate(i stream.Info, n uint64, at checkpoint.Position) {
	d.add(note{name: "duplicate", info: i, count: n, at: at})
}

func (d *diary) OnHeldOverflow(i stream.Info, n uint64, bytes int) {
	d.add(note{name: "overflow", info: i, count: n, bytes: bytes})
}

func (d *diary) OnWindowFull(i stream.Info, n uint64, bytes int) {
	d.add(note{name: "full", info: i, count: n, bytes: bytes})
}

func (d *diary) OnCommitted(i stream.Info, at checkpoint.Position) {
	d.add(note{name: "committed", info: i, at: at})
}

func (d *diary) OnCommitFailed(i stream.Info, at checkpoint.Position, cause error) {
	d.add(note{name: "commit failed", info: i, at: at, cause: cause})
}

func (d *diary) OnFenced(i stream.Info, cause error) {
	d.add(note{name: "fenced", info: i, cause: cause})
}

func (d *diary) OnGap(i stream.Info, cause error) {
	d.add(note{name: "gap", info: i, cause: cause})
}

func (d *diary) OnLost(i stream.Info, from checkpoint.Position, cause error) {
	d.add(note{name: "lost", info: i, at: from, cause: cause})
}

func (d *diary) OnRotating(i stream.Info, cause error) {
	d.add(note{name: "rotating", info: i, cause: cause})
}

func (d *diary) OnRotated(i stream.Info, from uint64) {
	d.add(note{name: "rotated", info: i, count: from})
}

func (d *diary) OnRotationPutOff(i stream.Info, cause error) {
	d.add(note{name: "put off", info: i, cause: cause})
}

func (d *diary) OnClosed(i stream.Info, cause error) {
	d.add(note{name: "closed", info: i, cause: cause})
}

// names returns the names of all events, in order.
func (d *diary) names() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	names := make([]string, 0, len(d.notes))
	for _, e := range d.notes {
		names = append(names, e.name)
	}
	return names
}

// of returns the events with a name, in order.
func (d *diary) of(name string) []note {
	d.mu.Lock()
	defer d.mu.Unlock()
	var found []note
	for _, e := range d.notes {
		if e.name == name {
			found = append(found, e)
		}
	}
	return found
}

// delays returns the delays before reconnects, in order.
func (d *diary) delays() []time.Duration {
	scheduled := d.of("scheduled")
	delays := make([]time.Duration, 0, len(scheduled))
	for _, e := range scheduled {
		delays = append(delays, e.delay)
	}
	return delays
}
