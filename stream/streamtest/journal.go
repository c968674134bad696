package streamtest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Journal is what one end has sent and the other has got, in one direction. A scenario has one for each direction, and checks it at
// the end of Run:
//
//	requests.Sent(m.GetText()) // who sends, once for each message, before it sends
//	requests.Got(m.GetText())  // who receives, when the message counts
//	return requests.Check()    // in order, nothing lost, nothing twice
//
// Make a new one for each place, in Serve. The zero value is ready, and its methods may be called from any goroutine.
//
// A journal is bounded: of what was got it keeps at most twice as many values as were sent, and 1,000. It counts the others.
type Journal[T comparable] struct {
	mu          sync.Mutex // guards the fields below
	sent, got   []T
	dropped     int // got, but not kept
	maxInFlight int
}

// spare is how many values a journal keeps that nobody has sent.
const spare = 1000

// Sent notes messages that are about to be sent. Note a message once, not each time it is sent again.
func (j *Journal[T]) Sent(values ...T) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.sent = append(j.sent, values...)
	j.maxInFlight = max(j.maxInFlight, len(j.sent)-len(j.got))
}

// Got notes a message that has arrived. Note it when it counts: when the application has it, behind everything that drops
// duplicates.
func (j *Journal[T]) Got(value T) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.got) >= 2*len(j.sent)+spare {
		j.dropped++
		return
	}
	j.got = append(j.got, value)
}

// All returns what has arrived, in its order.
func (j *Journal[T]) All() []T {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.got)
}

// MaxInFlight returns the largest number of messages that were sent and had not arrived.
func (j *Journal[T]) MaxInFlight() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.maxInFlight
}

// Check returns an error unless what has arrived is what was sent: in order, nothing lost, nothing twice, nothing that was never
// sent. The error names the values.
func (j *Journal[T]) Check() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.dropped > 0 {
		return fmt.Errorf("%d messages were sent, and %d have arrived", len(j.sent), len(j.got)+j.dropped)
	}
	return Same(j.sent, j.got)
}

// CheckNothingLost is Check for a stream that delivers at least once: messages may come twice, also behind later ones.
func (j *Journal[T]) CheckNothingLost() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	firsts := make([]T, 0, len(j.sent))
	seen := make(map[T]bool)
	for _, v := range j.got {
		if !seen[v] {
			seen[v] = true
			firsts = append(firsts, v)
		}
	}
	sent := make([]T, 0, len(j.sent))
	clear(seen)
	for _, v := range j.sent {
		if !seen[v] {
			seen[v] = true
			sent = append(sent, v)
		}
	}
	return Same(sent, firsts)
}

// Same returns an error unless got is want: the same values in the same order. The error names what was lost, what came twice, what
// was not expected, and where the order differs.
func Same[T comparable](want, got []T) error {
	if slices.Equal(want, got) {
		return nil
	}
	var lost, twice, unknown []T
	left, expected := make(map[T]int), make(map[T]bool)
	for _, v := range want {
		left[v]++
		expected[v] = true
	}
	for _, v := range got {
		left[v]--
		switch {
		case !expected[v]:
			unknown = append(unknown, v)
		case left[v] < 0:
			twice = append(twice, v)
		}
	}
	for _, v := range want {
		if left[v] > 0 {
			left[v]--
			lost = append(lost, v)
		}
	}
	var texts []string
	for _, part := range []struct {
		name   string
		values []T
	}{{"lost", lost}, {"twice", twice}, {"never sent", unknown}} {
		if len(part.values) > 0 {
			texts = append(texts, part.name+" "+list(part.values))
		}
	}
	if len(texts) == 0 {
		for i := range want {
			if want[i] != got[i] {
				texts = append(texts, fmt.Sprintf("in another order: message %d is %s in place of %s", i+1, short(got[i]), short(want[i])))
				break
			}
		}
	}
	return errors.New(strings.Join(texts, "; "))
}

// list names some values, and how many there are.
func list[T any](values []T) string {
	const most = 5
	var texts []string
	for _, v := range values[:min(most, len(values))] {
		texts = append(texts, short(v))
	}
	if more := len(values) - most; more > 0 {
		texts = append(texts, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(texts, ", ")
}

// short is a value in at most about 60 bytes.
func short(v any) string {
	text := fmt.Sprintf("%v", v)
	if s, ok := v.(string); ok {
		text = fmt.Sprintf("%q", s)
	}
	if len(text) > 60 {
		text = text[:57] + "…"
	}
	return text
}
