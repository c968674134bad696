package streamtest

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/streamsafe/streamsafe/internal/testnet"
)

// passage is what one connection has carried.
type passage = testnet.Passage

// place is a fault at a message of a connection.
type place struct {
	kind       Kind
	connection int
	direction  Direction
	message    int
	of         int // messages in that direction, in the undisturbed run; zero: unknown
	where      Where
	phase      string // what the client does there; empty: what it always does
	index      int    // among all places
}

// name is the name of the place's sub-test. It has no character that means something to go test -run.
func (p place) name() string {
	return fmt.Sprintf("%v %s%s", p.kind, p.at(), p.on())
}

// at is the place as in "after response 17".
func (p place) at() string {
	return fmt.Sprintf("%s %s %d", whereText(p.where), messageText(p.direction), p.message)
}

func (p place) on() string {
	if p.connection == 1 {
		return ""
	}
	return fmt.Sprintf(" of connection %d", p.connection)
}

// fault is the fault, for the engine.
func (c *cutter) fault(p place) testnet.Fault {
	f := testnet.Fault{
		Kind: p.kind, Direction: p.direction, Message: p.message, Where: p.where, Connection: p.connection, For: c.options.lasts,
	}
	if p.where == After { // the peer has the message, and nobody has heard of it
		f.Pause = c.options.pause
	}
	return f
}

// describe says where faults happen: "cut (RST) after response 17 of 40, again (FIN) before request 1 of connection 2, in Resume".
func describe(places []place) string {
	first := places[0]
	var s strings.Builder
	fmt.Fprintf(&s, "%s %s", kindText(first.kind), first.at())
	if first.of > 0 {
		fmt.Fprintf(&s, " of %d", first.of)
	}
	s.WriteString(first.on())
	for _, p := range places[1:] {
		s.WriteString(", again")
		if p.phase != "" {
			s.WriteString(" in " + p.phase)
		}
		fmt.Fprintf(&s, " (%v) %s%s", p.kind, p.at(), p.on())
	}
	return s.String()
}

func kindText(k Kind) string {
	switch k {
	case FIN, RST, Truncate:
		return fmt.Sprintf("cut (%v)", k)
	case BlackHole, BlackHoleToServer, BlackHoleToClient, StallToServer, StallToClient, Refusal:
	}
	return k.String()
}

// repeat is the command that repeats a sub-test.
func repeat(name string) string {
	parts := strings.Split(name, "/")
	for i, part := range parts {
		parts[i] = "^" + regexp.QuoteMeta(part) + "$"
	}
	return "repeat it: go test -run '" + strings.Join(parts, "/") + "' ."
}

// messages is how many messages the undisturbed run had.
func (c *cutter) messages() int {
	n := 0
	for _, p := range c.base {
		n += p.Begun[ToServer] + p.Begun[ToClient]
	}
	return n
}

// places are all places for a first fault, with each kind that fits: one kind after the other.
func (c *cutter) places() []place {
	var all []place
	for _, k := range c.options.kinds {
		for i, passed := range c.base {
			for _, p := range placesOf(passed, i+1, 0) {
				p.kind, p.of = k, passed.Begun[p.direction]
				if p.fits() {
					p.index = len(all)
					all = append(all, p)
				}
			}
		}
	}
	return all
}

// placesOf are the places of a connection, without a kind. most is how many messages count, each way; zero: all.
func placesOf(passed passage, connection, most int) []place {
	var all []place
	for _, d := range []Direction{ToServer, ToClient} {
		n := passed.Begun[d]
		if most > 0 {
			n = min(n, most)
		}
		for m := range n {
			for _, w := range []Where{Before, Inside, After} {
				all = append(all, place{connection: connection, direction: d, message: m + 1, where: w})
			}
		}
	}
	return all
}

// fits tells whether the kind makes sense at the place.
func (p place) fits() bool {
	switch p.kind {
	case StallToServer, BlackHoleToServer:
		return p.direction == ToServer
	case StallToClient, BlackHoleToClient:
		return p.direction == ToClient
	case Truncate:
		return p.where == Inside
	case FIN, RST, BlackHole, Refusal:
	}
	return true
}

const (
	resumes  = 3 // messages each way with which a connection begins, and that every second cut looks at in turn
	inTurn   = 2 // second cuts after a first one
	inResume = "Resume"
	inReplay = "replay"
)

// again are the places of second cuts, on the connection after that of p. Each first cut has two of those in the first messages, in
// turn. After the message in the middle and the last one, each way, all of the next connection are cut.
func (c *cutter) again(p place, first result) []place {
	kinds := c.cutKinds()
	next := p.connection + 1
	if len(first.passages) < next || len(first.cuts) == 0 {
		return nil // there was no other connection
	}
	passed := first.passages[next-1]
	middle := p.message == (p.of+1)/2 || p.message == p.of
	whole := middle && p.where == After && p.kind == kinds[0]
	most := resumes
	if whole {
		most = 0
	}
	all := placesOf(passed, next, most)
	if !whole && len(all) > inTurn {
		turned := make([]place, 0, inTurn)
		for i := range inTurn {
			turned = append(turned, all[(p.index*inTurn+i*7)%len(all)])
		}
		all = turned
	}
	for i := range all {
		all[i].kind = kinds[(p.index+i)%len(kinds)]
		if all[i].kind == Truncate {
			all[i].where = Inside
		}
		all[i].phase = c.phase(all[i], first.passages[p.connection-1], passed)
	}
	slices.SortFunc(all, func(a, b place) int { return strings.Compare(a.name(), b.name()) })
	return slices.CompactFunc(all, func(a, b place) bool { return a.name() == b.name() })
}

// cutKinds are the kinds after which the next connection is cut, too.
func (c *cutter) cutKinds() []Kind {
	var kinds []Kind
	for _, k := range c.options.kinds {
		if k == FIN || k == RST {
			kinds = append(kinds, k)
		}
	}
	if kinds == nil {
		return c.options.kinds[:1]
	}
	return kinds
}

// phase says what the client does at a place of the second connection, as far as the bytes tell: a request that was sent before is
// one of the replay, and what the undisturbed run never had is Resume.
func (c *cutter) phase(p place, before, after passage) string {
	requests, responses := c.base[0].Sums[ToServer], c.base[0].Sums[ToClient]
	resumesFirst := len(after.Sums[ToServer]) > 0 && !slices.Contains(requests, after.Sums[ToServer][0])
	if p.message > len(after.Sums[p.direction]) {
		return ""
	}
	sum := after.Sums[p.direction][p.message-1]
	if p.direction == ToClient {
		if resumesFirst && !slices.Contains(responses, sum) && p.message == 1 {
			return inResume
		}
		return ""
	}
	switch number := slices.Index(requests, sum) + 1; {
	case number == 0 && resumesFirst:
		return inResume
	case number > 0 && number <= before.Begun[ToServer]:
		return inReplay
	}
	return ""
}
