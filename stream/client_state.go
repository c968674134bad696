package stream

import (
	"fmt"
	"slices"
	"strings"

	"github.com/streamsafe/streamsafe/internal/verify"
)

// State is the state of a stream.
type State uint32

const (
	// Opening means that an attempt is being opened, its Resume callback included.
	Opening State = iota
	// Attached means that messages flow on an attempt.
	Attached
	// Detached means that the attempt was lost, and that the stream waits before it opens the next one.
	Detached
	// Closed means that the stream has ended. This state is final.
	Closed
	// Rotating means that the next attempt is being opened while the old one still works. Sends wait. See WithMaxAge.
	Rotating
)

// String returns the state's name in lower case.
func (s State) String() string {
	switch s {
	case Opening:
		return "opening"
	case Attached:
		return "attached"
	case Detached:
		return "detached"
	case Closed:
		return "closed"
	case Rotating:
		return "rotating"
	default:
		return fmt.Sprintf("state(%d)", uint32(s))
	}
}

// transition is an edge of the state machine and what makes a stream take it.
type transition struct {
	from, to State
	when     string
}

// transitions returns the whole machine. A change that is not here is a bug.
func transitions() []transition {
	return []transition{
		{Opening, Attached, "opened, Resume returned nil"},
		{Opening, Detached, "open or Resume failed"},
		{Attached, Detached, "attempt lost"},
		{Detached, Opening, "policies allow the next try"},
		{Attached, Rotating, "the attempt is to be replaced"},
		{Rotating, Attached, "the next attempt took over, or it was put off"},
		{Rotating, Detached, "attempt lost"},
		{Opening, Closed, "ended for good"},
		{Attached, Closed, "ended for good"},
		{Detached, Closed, "ended for good"},
		{Rotating, Closed, "ended for good"},
	}
}

// allowed reports whether the machine has an edge between the two states.
func allowed(from, to State) bool {
	return slices.ContainsFunc(transitions(), func(t transition) bool { return t.from == from && t.to == to })
}

// diagram renders the machine for ARCHITECTURE.md.
func diagram() string {
	var b strings.Builder
	b.WriteString("stateDiagram-v2\n    [*] --> opening\n")
	for _, t := range transitions() {
		fmt.Fprintf(&b, "    %s --> %s: %s\n", t.from, t.to, t.when)
	}
	b.WriteString("    closed --> [*]\n")
	return b.String()
}

// enter changes the state. It is called by the lifecycle goroutine only; State reads what it writes.
func (s *ClientStream[Req, Res]) enter(to State) {
	from := s.State()
	if from == Opening && to == Opening {
		return // a stream begins like that
	}
	verify.That(allowed(from, to), "transition %s -> %s", from, to)
	s.state.Store(uint32(to))
}
