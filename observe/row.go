package observe

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream"
)

// row is a stream as the page shows it. Its fields are those of the JSON.
type row struct {
	Stream      string    `json:"stream"` // the name
	ID          string    `json:"id"`     // the beginning of the id; empty on servers whose client sends none
	Side        string    `json:"side"`   // "client" or "server"
	Method      string    `json:"method"`
	State       string    `json:"state"`
	Since       time.Time `json:"since"` // of the state; of an outage its beginning
	Began       time.Time `json:"began"`
	Ended       bool      `json:"ended"`
	Attempt     uint64    `json:"attempt"`
	Outages     uint64    `json:"outages"`
	Delivered   string    `json:"delivered"` // positions
	Processed   string    `json:"processed"`
	Committed   string    `json:"committed"`
	Sent        uint64    `json:"sent"`
	Unacked     int       `json:"unacked"`
	UnackedSize int       `json:"unacked_bytes"`
	Received    uint64    `json:"received"`
	Waiting     int       `json:"waiting"` // messages that have arrived and that nobody has received
	Held        int       `json:"held"`
	Rate        float64   `json:"rate"`  // messages a second, both ways
	Rates       []float32 `json:"rates"` // the newest last
	LastError   string    `json:"last_error"`
	CommitError string    `json:"commit_error"`
	Events      []Event   `json:"events,omitempty"` // of the stream that was asked for

	entry     *entry
	positions [3]checkpoint.Position
	errs      [2]error
}

// row returns what there is to know now. What costs time and is not needed to choose rows comes with finish.
func (e *entry) row(now time.Time) *row {
	e.mu.Lock()
	client, server, final := e.client, e.server, e.final
	e.mu.Unlock()
	if final != nil {
		again := *final
		again.entry = e
		return &again
	}
	r := &row{entry: e, ID: e.id, Stream: e.name, Method: e.method, Began: e.began}
	var messages uint64
	if client != nil { // without mu: it takes locks of the stream
		s := client.Stats()
		r.Side, r.State, r.Method = "client", s.State.String(), client.Method()
		r.Attempt, r.Outages = s.Attempts, s.Outages
		r.Sent, r.Unacked, r.UnackedSize = s.Sent, s.Unacked+s.Keys, s.UnackedSize+s.KeysSize
		r.Received, r.Waiting, r.Held = s.Received, s.Waiting, s.Held
		r.positions = [...]checkpoint.Position{s.Delivered, s.Processed, s.Committed}
		r.errs = [...]error{s.LastError, s.CommitError}
	} else if server != nil {
		r.Side, r.State = "server", "attached"
		if early := server.EndedEarly(); early != nil {
			r.State = early.End.String()
		}
		r.Received, r.Sent = server.Messages()
	}
	messages = r.Received + r.Sent
	e.mu.Lock()
	defer e.mu.Unlock()
	r.Since = e.since
	if !e.up.IsZero() {
		r.Since = e.up
	}
	if server != nil {
		r.Attempt = e.attempt
	}
	r.LastError = e.broken
	r.Rate = e.sample(messages, now)
	return r
}

// sample takes in how many messages there were until now, and returns how many came a second. The caller holds mu.
func (e *entry) sample(messages uint64, now time.Time) float64 {
	const least, most = 900 * time.Millisecond, 10 * time.Second
	took := now.Sub(e.sampled)
	switch {
	case e.sampled.IsZero() || took > most || messages < e.count: // nobody has looked for a while
		e.rates = nil
		e.sampled, e.count = now, messages
	case took >= least:
		if len(e.rates) == maxRates {
			copy(e.rates, e.rates[1:])
			e.rates = e.rates[:maxRates-1]
		}
		e.rates = append(e.rates, float32(float64(messages-e.count)/took.Seconds()))
		e.sampled, e.count = now, messages
	}
	if n := len(e.rates); n > 0 {
		return float64(e.rates[n-1])
	}
	return 0
}

// finish adds what only rows that are shown need.
func (r *row) finish(events bool) {
	if !r.Ended {
		r.texts()
	}
	r.entry.mu.Lock()
	defer r.entry.mu.Unlock()
	r.Rates = slices.Clone(r.entry.rates)
	if events {
		r.Events = slices.Clone(r.entry.events)
		slices.Reverse(r.Events)
	}
}

// texts makes texts of what the stream has.
func (r *row) texts() {
	for i, at := range []*string{&r.Delivered, &r.Processed, &r.Committed} {
		if !r.positions[i].IsZero() {
			*at = positionText(r.positions[i])
		}
	}
	if r.errs[0] != nil {
		r.LastError = textOf(r.errs[0])
	}
	r.CommitError = textOf(r.errs[1])
	r.Stream, r.Method = cut(r.Stream), cut(r.Method)
}

// positionText returns a position in a few characters. A Token is the server's, and may be long.
func positionText(p checkpoint.Position) string {
	var parts []string
	if p.Lineage != "" {
		parts = append(parts, cut(p.Lineage))
	}
	if p.Seq != 0 || len(p.Token) == 0 {
		parts = append(parts, strconv.FormatUint(p.Seq, 10))
	}
	if n := len(p.Token); n > 8 {
		parts = append(parts, fmt.Sprintf("%s… (%d bytes)", hex.EncodeToString([]byte(p.Token[:8])), n))
	} else if n > 0 {
		parts = append(parts, hex.EncodeToString([]byte(p.Token)))
	}
	return strings.Join(parts, " ")
}

// calm reports whether messages flow, or may.
func (r *row) calm() bool {
	return r.State == stream.Attached.String() || r.State == stream.Rotating.String()
}

// severity orders streams: those that somebody should look at come first, and those that have ended last.
func (r *row) severity() int {
	switch {
	case r.Ended:
		return 3
	case r.calm() && r.errs[1] == nil:
		return 2
	case r.calm():
		return 1
	default:
		return 0
	}
}

// has reports whether a word is somewhere in the row.
func (r *row) has(word string) bool {
	for _, text := range [...]string{r.Stream, r.ID, r.Side, r.Method, r.State, r.LastError} {
		if strings.Contains(strings.ToLower(text), word) {
			return true
		}
	}
	return slices.ContainsFunc(r.errs[:], func(err error) bool {
		return err != nil && strings.Contains(strings.ToLower(err.Error()), word)
	})
}
