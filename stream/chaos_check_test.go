package stream_test

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/stream"
)

// verdict is what the checks say about a run that is over. Each line begins with the name of the guarantee that is broken.
func (r *chaosRun) verdict() []string {
	c := &checker{sc: r.sc, j: r.journal, db: r.db}
	c.found = append(c.found, r.journal.found...)
	c.found = append(c.found, r.db.mistakes...)
	for _, p := range r.journal.chapters {
		c.received(p)
		c.counts(p)
		c.truthfulEnd(p)
		c.notSentIsNotThere(p)
		c.fenced(p)
		if r.sc.promise == replayed {
			c.keptOrThere(p)
		} else {
			c.atMostOnce(p)
		}
	}
	for _, b := range []*restrained{r.sends, r.recvs} {
		if err := b.kept(); err != nil {
			c.finds("permits are given back", "%v, after %v", err, b.restraint)
		}
	}
	if r.sc.promise == replayed {
		c.exactlyOnce()
	} else {
		c.noRepeats()
	}
	return c.found
}

// checker holds journals against the guarantees.
type checker struct {
	sc    *schedule
	j     *ledger
	db    *database
	found []string
}

func (c *checker) finds(guarantee, format string, args ...any) {
	c.found = append(c.found, guarantee+": "+fmt.Sprintf(format, args...))
}

// received sees that the application got everything that has a number once, in order and without a hole, and what has
// none before that. A new history may begin in between.
func (c *checker) received(p *chapter) {
	at := parcel{line: lineOf(p.began), seq: p.began.Seq}
	var parts []byte // since the last number
	for i, m := range p.got {
		next := c.sc.following(at.seq)
		if m.line != at.line && m.kind == data { // its first number follows
			if m.line < at.line || at.line != 0 && !c.sc.recovers {
				c.finds("a lost position is told", "message %d of process %d is of lineage %d, after %d", i+1, p.life, m.line, at.line)
			}
			next = c.sc.following(0)
		}
		switch {
		case m.kind == fragment:
			c.fragment(p, i, m, at)
			parts = append(parts, m.part)
			continue
		case m.line == at.line && m.seq <= at.seq:
			c.finds("nothing is doubled", "message %d of process %d is number %d, after %d", i+1, p.life, m.seq, at.seq)
		case m.seq != next:
			c.finds("ordered, nothing lost", "message %d of process %d is number %d, in place of %d", i+1, p.life, m.seq, next)
		}
		for part := byte(1); int(part) <= c.sc.units; part++ {
			if !slices.Contains(parts, part) {
				c.finds("ordered, nothing lost", "number %d in process %d came without its part %d", m.seq, p.life, part)
			}
		}
		at, parts = m, nil
	}
}

// fragment checks a message without a number. Only holding promises that it comes once.
func (c *checker) fragment(p *chapter, i int, m, at parcel) {
	if !c.sc.holds {
		return
	}
	before, want := byte(0), c.sc.following(at.seq)
	if m.line != at.line {
		want = c.sc.following(0)
	}
	if i > 0 && p.got[i-1].kind == fragment {
		before = p.got[i-1].part
	}
	if m.seq != want || m.part != before+1 {
		c.finds("nothing is doubled", "message %d of process %d is %d.%d, in place of %d.%d, though held until its number",
			i+1, p.life, m.seq, m.part, want, before+1)
	}
}

// counts holds the stream's own counts against the journal.
func (c *checker) counts(p *chapter) {
	if !p.opened {
		return
	}
	if int(p.stats.Deliveries) != len(p.got) {
		c.finds("truthful counts", "process %d got %d messages, and Stats has %d", p.life, len(p.got), p.stats.Deliveries)
	}
	accepted, doubtful := len(p.accepted()), 0
	for _, n := range p.sends {
		if !n.over || n.err != nil && (n.counted || !n.notSent()) {
			doubtful++
		}
	}
	if sent := int(p.stats.Sent); sent < accepted || sent > accepted+doubtful {
		c.finds("truthful counts", "process %d sent %d messages (%d more in doubt), and Stats has %d", p.life, accepted, doubtful, sent)
	}
	if acked := int(p.stats.Acked); c.sc.promise == replayed && acked > len(c.db.stored) && !c.overAcked() {
		c.finds("truthful counts", "process %d counts %d as acknowledged, and the server has %d", p.life, acked, len(c.db.stored))
	}
}

func (c *checker) overAcked() bool {
	return slices.ContainsFunc(c.sc.conduct, func(c conduct) bool { return c.overAcks })
}

// truthfulEnd sees that a stream ended with what has happened.
func (c *checker) truthfulEnd(p *chapter) {
	v := c.db.visitOf(p.life, p.stats.Attempts)
	e, failed := errors.AsType[*stream.Error](p.end)
	if failed {
		v = c.db.visitOf(p.life, e.Attempts)
	}
	switch {
	case p.left:
		return
	case p.end == nil:
		c.finds("bounded", "process %d did not end", p.life)
	case errors.Is(p.end, io.EOF):
		c.cleanEnd(p, v)
	case !failed:
		c.finds("truthful end", "process %d ended with a %T: %v", p.life, p.end, p.end)
	case !c.explains(e, p, v):
		c.finds("truthful end", "process %d ended with %v, and nothing in the schedule explains that", p.life, p.end)
	}
}

// cleanEnd checks io.EOF: the last handler has said OK, all that it sent has arrived, and so has all that was sent to it.
func (c *checker) cleanEnd(p *chapter, v *visit) {
	if v == nil || !v.over || v.err != nil {
		c.finds("truthful end", "process %d ended with io.EOF, and the handler of its last attempt did not say OK", p.life)
		return
	}
	last := parcel{line: lineOf(p.began), seq: p.began.Seq}
	for _, m := range p.got {
		if last.before(m) {
			last = m
		}
	}
	if last.before(v.highest) {
		c.finds("ordered, nothing lost", "process %d ended with io.EOF after %d.%d of lineage %d, and the last handler sent %d.%d of %d",
			p.life, last.seq, last.part, last.line, v.highest.seq, v.highest.part, v.highest.line)
	}
	if c.sc.promise != replayed {
		return
	}
	if p.stats.Unacked > 0 {
		c.finds("no loss looks like success", "process %d ended with io.EOF while %d messages were unacknowledged", p.life, p.stats.Unacked)
	}
	for _, item := range p.accepted() {
		if !slices.Contains(c.db.stored, item) {
			c.finds("no loss looks like success", "process %d ended with io.EOF, and message %d, which Send accepted, is not at the server",
				p.life, item)
		}
	}
}

// explains reports whether what has happened makes an end right.
func (c *checker) explains(e *stream.Error, p *chapter, v *visit) bool {
	anyConduct := func(f func(conduct) bool) bool { return slices.ContainsFunc(c.sc.conduct, f) }
	switch e.Reason {
	case stream.ReasonClosed:
		return c.j.closed
	case stream.ReasonContext:
		return c.j.cancelled
	case stream.ReasonServer:
		return v != nil && v.over && v.err != nil && status.Code(v.err) == status.Code(e)
	case stream.ReasonSendsInDoubt:
		return c.sc.promise == inDoubt && len(p.sends) > 0
	case stream.ReasonPositionLost:
		return c.db.line > 1 && !c.sc.recovers
	case stream.ReasonGap:
		left := 0
		anyConduct(func(c conduct) bool { left += min(c.leaves, 1); return false })
		return c.sc.gaps && (len(c.sc.missing) > 0 || left > 1)
	case stream.ReasonProtocol:
		return c.overAcked()
	case stream.ReasonResume: // an interceptor has refused a message in the replay
		for _, f := range c.sc.fates {
			if c.sc.promise == replayed && f.pass > 0 && e.Op == "replay" && !slices.Contains(transient, status.Code(sendErrors[f.err])) {
				return true
			}
		}
		return false
	case stream.ReasonUnacked:
		return c.sc.promise == replayed && p.stats.Unacked > 0 && v != nil && v.over && v.err == nil
	case stream.ReasonUnknown, stream.ReasonPolicy, stream.ReasonResumeOff, stream.ReasonMaxOutage, stream.ReasonNoCheckpoint,
		stream.ReasonPoison, stream.ReasonHeldOverflow, stream.ReasonFenced, stream.ReasonStore, stream.ReasonWindowFull,
		stream.ReasonMessage, stream.ReasonSuperseded, stream.ReasonDenied, stream.ReasonOptions: // no schedule asks for them
		return false
	default:
		return false
	}
}

// transient are the codes of errors that are resumed, whoever says them.
var transient = []codes.Code{codes.Unavailable}

// notSentIsNotThere sees that no handler saw a message of which Send said that it was not sent.
func (c *checker) notSentIsNotThere(p *chapter) {
	for _, n := range p.sends {
		if !n.notSent() {
			continue
		}
		for _, v := range c.db.visits {
			if v.life == p.life && v.saw(n.item) {
				c.finds("what was not sent is not there", "message %d of process %d, for which Send returned %v, was seen in attempt %d",
					n.item, p.life, n.err, v.attempt)
			}
		}
	}
}

func (v *visit) saw(item uint64) bool {
	return slices.ContainsFunc(v.seen, func(s sighting) bool { return s.item == item })
}

// fenced sees that no handler saw a message of which the Send began after a later attempt had begun.
func (c *checker) fenced(p *chapter) {
	for _, n := range p.sends {
		for _, v := range c.db.visits {
			if v.life != p.life || !v.saw(n.item) {
				continue
			}
			for attempt, began := range p.attempt {
				if attempt > v.attempt && began < n.began && c.tookOver(p, attempt) {
					c.finds("fenced", "message %d of process %d was seen in attempt %d, and was sent after attempt %d had begun",
						n.item, p.life, v.attempt, attempt)
				}
			}
		}
	}
}

// tookOver reports whether an attempt is known to have taken the place of those before it. If none was opened in a rotation, the
// old one goes on.
func (c *checker) tookOver(p *chapter, attempt uint64) bool {
	v := c.db.visitOf(p.life, attempt)
	return p.stats.Rotations == 0 && c.sc.age == 0 && !slices.ContainsFunc(c.sc.conduct, func(c conduct) bool { return c.bye > 0 }) ||
		v != nil && len(v.seen) > 0
}

// exactlyOnce sees that the server has a prefix of what was sent, each under its number, once.
func (c *checker) exactlyOnce() {
	for i, item := range c.db.stored {
		switch {
		case i >= len(c.j.line):
			c.finds("a number is one message", "the server has message %d as number %d, which was given to none", item, i+1)
		case c.j.line[i] != item:
			c.finds("a number is one message", "the server has message %d as number %d, which is that of message %d", item, i+1, c.j.line[i])
		case slices.Contains(c.db.stored[:i], item):
			c.finds("nothing is doubled", "the server has message %d twice", item)
		}
	}
}

// keptOrThere sees that what Send accepted is at the server, or can be read from the stream after its end.
func (c *checker) keptOrThere(p *chapter) {
	if c.overAcked() {
		return
	}
	for _, n := range p.sends {
		accepted := n.over && (n.err == nil || n.inDoubt())
		if accepted && p.opened && !slices.Contains(c.db.stored, n.item) && !slices.Contains(p.kept, n.item) {
			c.finds("no loss looks like success", "message %d of process %d, which Send accepted, is neither at the server nor in Unacked",
				n.item, p.life)
		}
	}
}

// noRepeats sees that the handlers, in the order of their attempts, saw no message twice, and in order.
func (c *checker) noRepeats() {
	visits := slices.Clone(c.db.visits)
	slices.SortFunc(visits, func(a, b *visit) int { return int(a.life)*1000 + int(a.attempt) - int(b.life)*1000 - int(b.attempt) })
	last := uint64(0)
	for _, v := range visits {
		for _, s := range v.seen {
			if s.item <= last {
				c.finds("at most once", "message %d was seen in attempt %d of process %d after message %d", s.item, v.attempt, v.life, last)
			}
			last = max(last, s.item)
		}
	}
}

// atMostOnce sees that what a handler saw of a process has no hole, and that without a break nothing is missing.
func (c *checker) atMostOnce(p *chapter) {
	accepted := p.accepted()
	for _, v := range c.db.visits {
		for i := 1; i < len(v.seen) && v.life == p.life; i++ {
			for _, item := range accepted {
				if v.seen[i-1].item < item && item < v.seen[i].item {
					c.finds("ordered, nothing lost", "attempt %d of process %d saw message %d after %d, and not %d", v.attempt, p.life,
						v.seen[i].item, v.seen[i-1].item, item)
				}
			}
		}
	}
	v := c.db.visitOf(p.life, p.stats.Attempts)
	if !errors.Is(p.end, io.EOF) || v == nil || !v.half || c.sc.promise == atMostOnce && p.stats.Attempts > 1 {
		return
	}
	for _, item := range accepted { // the handler has read to the end
		if !slices.ContainsFunc(c.db.visits, func(v *visit) bool { return v.life == p.life && v.saw(item) }) {
			c.finds("no loss looks like success", "process %d ended with io.EOF, and message %d, which Send accepted, was not seen",
				p.life, item)
		}
	}
}
