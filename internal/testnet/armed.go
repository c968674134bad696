package testnet

import (
	"slices"
	"time"
)

// sequence is a line of faults of which only the first is armed. Network.mu guards it.
type sequence struct {
	fault Fault
	base  Traffic // of fault's direction, when it was armed
	on    *link   // that carries the message of a fault placed in total; nil: it has not begun
	next  func() (Fault, bool)

	armings int // faults by time that were armed
}

// arm adds a sequence of faults.
func (n *Network) arm(faults ...Fault) {
	n.armSequence(func() (Fault, bool) {
		if len(faults) == 0 {
			return Fault{}, false
		}
		f := faults[0]
		faults = faults[1:]
		return f, true
	})
}

func (n *Network) armSequence(next func() (Fault, bool)) *sequence {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := &sequence{next: next}
	if n.advanceLocked(s) {
		n.armed = append(n.armed, s)
	}
	return s
}

// advanceLocked arms the next fault of s. It reports false where none is left.
func (n *Network) advanceLocked(s *sequence) bool {
	f, ok := s.next()
	s.fault, s.base, s.on = f, n.taken[f.Direction], nil
	if ok && f.Time > 0 {
		s.armings++
		arming := s.armings
		time.AfterFunc(f.Time, func() { n.due(s, arming) }) // does nothing if the fault is no longer armed
	}
	return ok
}

// due makes a fault by time happen.
func (n *Network) due(s *sequence, arming int) {
	n.mu.Lock()
	if s.armings != arming || !slices.Contains(n.armed, s) {
		n.mu.Unlock()
		return
	}
	fault := s.fault
	var on []*link
	for _, l := range n.links {
		if (l.state == open || l.state == dark) && (fault.Connection == 0 || fault.Connection == l.number) {
			on = append(on, l)
		}
	}
	if len(on) == 0 { // the next connection, at its first byte
		s.fault.Time, s.fault.Message, s.fault.Bytes, s.fault.Total = 0, 0, 0, false
		n.mu.Unlock()
		return
	}
	n.doneLocked(s)
	n.mu.Unlock()
	slices.SortFunc(on, func(a, b *link) int { return a.number - b.number })
	for _, l := range on {
		if fault.Kind == Truncate {
			l.truncateNext()
			continue
		}
		l.apply(fault, Cut{Kind: fault.Kind, Connection: l.number})
	}
}

// doneLocked arms what follows the fault of s, which has been met.
func (n *Network) doneLocked(s *sequence) {
	if !n.advanceLocked(s) {
		n.armed = slices.DeleteFunc(n.armed, func(other *sequence) bool { return other == s })
	}
}

// match returns the first fault that p meets, and how many bytes of p are to pass before it. The fault is then armed no
// more. Where p meets none it is counted as taken in hand.
func (n *Network) match(f *flow, p piece) (at int, hit Fault, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if f.stateLocked() != open {
		return 0, Fault{}, false
	}
	total := &n.taken[f.direction]
	if p.message != nil && p.message.total == 0 {
		total.Messages++
		p.message.total = total.Messages
	}
	if f.link.truncate && len(p.data) > 1 {
		f.link.truncate = false
		return len(p.data) / 2, Fault{Kind: Truncate}, true
	}
	var first *sequence
	for _, s := range n.armed {
		if to, met := s.meets(f, p, total.Bytes); met && (first == nil || to < at) {
			at, first = to, s
		}
	}
	if first == nil {
		at = len(p.data)
	}
	total.Bytes += int64(at)
	f.taken += int64(at)
	if first == nil {
		return 0, Fault{}, false
	}
	hit = first.fault
	n.doneLocked(first)
	return at, hit, true
}

// meets tells whether the armed fault lies in p, and how many bytes of p come before it.
func (s *sequence) meets(f *flow, p piece, totalBytes int64) (int, bool) {
	fault := s.fault
	if fault.Time > 0 || fault.Direction != f.direction || fault.Connection != 0 && fault.Connection != f.link.number {
		return 0, false
	}
	if fault.Message == 0 {
		passed := f.taken
		if fault.Total {
			passed = totalBytes - s.base.Bytes
		}
		at := fault.Bytes - passed
		return int(at), at >= 0 && at <= int64(len(p.data))
	}
	if p.message == nil {
		return 0, false
	}
	number := p.message.number
	if fault.Total {
		number = s.numberInTotal(f, p)
	}
	if number != s.fault.Message {
		return 0, false
	}
	return fault.placeIn(p)
}

// numberInTotal returns the number of p's message since the fault was armed. Where the fault's own message was lost with
// its connection, this one takes its place.
func (s *sequence) numberInTotal(f *flow, p piece) int {
	number := p.message.total - s.base.Messages
	if number > s.fault.Message && (s.on == nil || s.on.state != open) {
		s.fault.Message, s.on = number, nil
	}
	if number == s.fault.Message {
		s.on = f.link
	}
	return number
}

// placeIn tells whether the place of f in its message lies in p, and how many bytes of p come before it.
func (f Fault) placeIn(p piece) (int, bool) {
	switch {
	case f.Where == Before && f.Kind != Truncate:
		return 0, p.offset == 0
	case p.message.size == 0: // the prefix has not passed yet
		return 0, false
	case f.Where == After && f.Kind != Truncate:
		return len(p.data), p.ends()
	}
	half := max(p.message.size/2, p.offset)
	if half > p.end() || half == 0 {
		return 0, false
	}
	return p.overhead + int(half-p.offset), true
}

// disarm takes a sequence away.
func (n *Network) disarm(s *sequence) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.armed = slices.DeleteFunc(n.armed, func(other *sequence) bool { return other == s })
}
