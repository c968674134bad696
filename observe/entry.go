package observe

import (
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/observe/internal/tally"
	"github.com/streamsafe/streamsafe/stream"
)

// entry is what the page knows of one stream.
type entry struct {
	// set at construction, then read only
	page   *Page
	id     string
	name   string
	method string
	began  time.Time

	mu      sync.Mutex             // guards the fields below
	client  *stream.Observed       // nil for servers, and after the end
	server  *stream.ServerObserved // nil for clients, and after the end
	final   *row                   // after the end
	since   time.Time              // when it began, or the last outage
	up      time.Time              // when the newest attempt was attached; zero: there is none
	had     uint64                 // messages received when the attempt before was lost
	attempt uint64                 // of a server's stream
	broken  string                 // what the last attempt ended with
	events  []Event                // the newest last
	sampled time.Time              // when messages were counted last
	count   uint64                 // of messages then
	rates   []float32              // messages a second, the newest last
}

// Event is something that happened to a stream.
type Event struct {
	// Time is when it happened, the last time if there are several.
	Time time.Time `json:"time"`
	// Attempt is the number of the attempt.
	Attempt uint64 `json:"attempt"`
	// What happened, in one word or two.
	What string `json:"what"`
	// Text is the error, at most 240 bytes of it. It may be empty.
	Text string `json:"text,omitempty"`
	// Times is how often the same happened in a row.
	Times int `json:"times"`
}

// note keeps an event. The same again is counted.
func (e *entry) note(at time.Time, attempt uint64, what string, cause error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.noteLocked(at, attempt, what, cause)
}

func (e *entry) noteLocked(at time.Time, attempt uint64, what string, cause error) {
	text := textOf(cause)
	if n := len(e.events); n > 0 {
		if last := &e.events[n-1]; last.What == what && last.Text == text {
			last.Time, last.Attempt = at, attempt
			last.Times++
			return
		}
		if n == maxEvents {
			copy(e.events, e.events[1:])
			e.events = e.events[:n-1]
		}
	}
	e.events = append(e.events, Event{Time: at, Attempt: attempt, What: what, Text: text, Times: 1})
}

// textOf returns what err says, cut to a size. A peer may have written it.
func textOf(err error) string {
	if err == nil {
		return ""
	}
	return cut(err.Error())
}

func cut(text string) string {
	if len(text) <= maxText {
		return strings.ToValidUTF8(text, "?")
	}
	n := maxText - len("…")
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return strings.ToValidUTF8(strings.Clone(text[:n]), "?") + "…" // a clone: the whole is not kept
}

// ends notes the end, and lets go of the stream.
func (e *entry) ends(at time.Time, attempt uint64, what string, cause error) {
	r := e.row(at)
	r.finish(false)
	r.errs = [2]error{} // a peer decides how large they are: texts are kept, cut
	for i, p := range r.positions {
		r.positions[i] = checkpoint.Position{Seq: p.Seq}
	}
	e.mu.Lock()
	r.State, r.Ended, r.Since, r.Rate = "closed", true, at, 0
	if cause != nil {
		r.LastError = textOf(cause)
	}
	e.since, e.final, e.client, e.server, e.rates = at, r, nil, nil, nil
	e.noteLocked(at, attempt, what, cause)
	e.mu.Unlock()
	e.page.end(e)
}

// clientEntry is the observer of a stream of a client.
type clientEntry struct{ *entry }

// OnAttached implements stream.AttachedObserver.
func (e clientEntry) OnAttached(i stream.Info, _ checkpoint.Position) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.up = i.Time
	e.noteLocked(i.Time, i.Attempt, "attached", nil)
}

// OnDetached implements stream.DetachedObserver. An attempt that has not worked is no end of an outage, and is left out.
func (e clientEntry) OnDetached(i stream.Info, cause error) {
	e.mu.Lock()
	client := e.client
	e.mu.Unlock()
	received := uint64(0)
	if client != nil {
		received = client.Stats().Received
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	worked := tally.Works(e.up, i.Time, e.had, received)
	if worked {
		e.since = i.Time
	}
	if n := len(e.events); n > 0 && !worked && e.events[n-1].What == "attached" {
		e.events = e.events[:n-1]
	}
	e.up, e.had, e.broken = time.Time{}, received, textOf(cause)
	e.noteLocked(i.Time, i.Attempt, "lost", cause)
}

// OnWaiting implements stream.WaitingObserver.
func (e clientEntry) OnWaiting(i stream.Info, cause error) { e.note(i.Time, i.Attempt, "waits", cause) }

// OnReplaying implements stream.ReplayingObserver.
func (e clientEntry) OnReplaying(i stream.Info, _ uint64) {
	e.note(i.Time, i.Attempt, "replays", nil)
}

// OnHeldOverflow implements stream.HeldOverflowObserver.
func (e clientEntry) OnHeldOverflow(i stream.Info, _ uint64, _ int) {
	e.note(i.Time, i.Attempt, "holds too much", nil)
}

// OnWindowFull implements stream.WindowFullObserver.
func (e clientEntry) OnWindowFull(i stream.Info, _ uint64, _ int) {
	e.note(i.Time, i.Attempt, "replay buffer full", nil)
}

// OnCommitFailed implements stream.CommitFailedObserver.
func (e clientEntry) OnCommitFailed(i stream.Info, _ checkpoint.Position, cause error) {
	e.note(i.Time, i.Attempt, "commit failed", cause)
}

// OnFenced implements stream.FencedObserver.
func (e clientEntry) OnFenced(i stream.Info, cause error) {
	e.note(i.Time, i.Attempt, "fenced", cause)
}

// OnGap implements stream.GapObserver.
func (e clientEntry) OnGap(i stream.Info, cause error) { e.note(i.Time, i.Attempt, "gap", cause) }

// OnLost implements stream.LostObserver.
func (e clientEntry) OnLost(i stream.Info, _ checkpoint.Position, cause error) {
	e.note(i.Time, i.Attempt, "position lost", cause)
}

// OnRotated implements stream.RotatedObserver.
func (e clientEntry) OnRotated(i stream.Info, _ uint64) { e.note(i.Time, i.Attempt, "rotated", nil) }

// OnRotationPutOff implements stream.RotationPutOffObserver.
func (e clientEntry) OnRotationPutOff(i stream.Info, cause error) {
	e.note(i.Time, i.Attempt, "rotation put off", cause)
}

// OnClosed implements stream.ClosedObserver.
func (e clientEntry) OnClosed(i stream.Info, cause error) {
	e.ends(i.Time, i.Attempt, "closed", cause)
}

// serverEntry is the observer of a stream of a server.
type serverEntry struct{ *entry }

// OnServerEnded implements stream.ServerEndedObserver.
func (e serverEntry) OnServerEnded(i stream.ServerInfo, summary stream.ServerSummary) {
	e.ends(i.Time, i.Attempt.Epoch, summary.End.String(), summary.Err)
}
