package stream_test

import (
	"fmt"
	"slices"
	"strings"
)

// How a schedule reads.

// String tells the schedule in words.
func (sc *schedule) String() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, "  "+format+"\n", args...) }
	line("the application sends %d messages %v, %v, numbered %v; padding up to %d", sc.messages, sc.style, sc.promise,
		sc.numbers, sc.padding)
	if sc.promise == replayed {
		line("window %+v; acknowledged every %d, %+v", sc.window, sc.acks.every, sc.acks)
	}
	line("handshake %v, holds %v, gap detection %v, Lost starts over %v, idle limit %v, bare errors of RecvMsg %v",
		sc.handshake, sc.holds, sc.gaps, sc.recovers, sc.idle, sc.bareRecv)
	line("attempts live for %v", sc.age)
	line("each Send under %v; each Recv under %v; a denied message is sent again %v", sc.sends, sc.recvs, sc.retries)
	line("OK is a receipt %v, endless %v, flushes %v, acknowledgements within %v; slow before and after SendMsg, after RecvMsg, "+
		"in Replay, in Resume, with a message: %v", sc.receipt, sc.endless, sc.flushes, sc.ackLimit, sc.slow)
	if sc.deadline > 0 {
		line("an interceptor gives each attempt %v", sc.deadline)
	}
	line("the server has %d numbers (answers: %v), each after %d without a position; missing %v; a bookmark every %d",
		sc.history, sc.echo, sc.units, sortedKeys(sc.missing), sc.bookmarks)
	for i, l := range sc.lives {
		if l.receives > 0 {
			line("client process %d receives %d messages and %v", i+1, l.receives, l.end)
		}
	}
	for i, c := range sc.conduct {
		line("handler %d: %v", i+1, c)
	}
	for i, f := range sc.faults {
		line("fault %d: %v, for %v", i+1, f, f.For)
	}
	for _, s := range sc.steps {
		line("when %v for the %d. time: %v, for %v", s.when, s.nth, s.do, s.rest)
	}
	for _, item := range sortedKeys(sc.fates) {
		line("message %d: %v", item, sc.fates[item])
	}
	return b.String()
}

func sortedKeys[V any](m map[uint64]V) []uint64 {
	keys := make([]uint64, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func (s style) String() string {
	return [...]string{"in two goroutines", "and receives only then", "and waits for the answer to each"}[s]
}

func (p promise) String() string {
	return [...]string{"with replay", "at most once", "by default"}[p]
}

func (n numbering) String() string {
	return [...]string{"by the application", "by the stream", "by the stream and by the server"}[n]
}

func (e lifeEnd) String() string {
	return [...]string{"commits and closes", "closes", "is killed"}[e]
}

func (m moment) String() string {
	return [...]string{"a handler receives", "the application receives", "the application sends"}[m]
}

func (a action) String() string {
	return [...]string{
		"a hard restart", "a graceful restart", "refusal", "FIN", "RST", "a black hole", "a stall to the server",
		"a stall to the client", "the history is replaced", "the interceptor's context ends", "CloseSend", "Close",
		"the stream's context ends",
	}[a]
}

func (c conduct) String() string {
	var words []string
	add := func(when bool, format string, args ...any) {
		if when {
			words = append(words, fmt.Sprintf(format, args...))
		}
	}
	add(c.quitsAt >= 0, "quits after %d messages with %v (RetryInfo %v, in a message %v)", c.quitsAt, c.says, c.asks, c.inAFrame)
	add(c.repeats > 0, "begins %d too early", c.repeats)
	add(c.leaves > 0, "leaves out its %d. number", c.leaves)
	add(c.replaces, "has a new history")
	add(c.tells != byMessages, "tells of a lost position by %s", [...]string{"messages", "status", "anchor"}[c.tells])
	add(c.bye > 0, "announces its end after %d messages", c.bye)
	add(c.overAcks, "acknowledges what was never sent")
	return strings.Join(append(words, "."), ", ")
}

func (f sendFate) String() string {
	if f.pass == 0 {
		return [...]string{"too large", "not to be encoded"}[f.err%2]
	}
	when := "before grpc has it"
	if f.late {
		when = "after grpc had it"
	}
	return fmt.Sprintf("pass %d: the interceptor fails %s with %v (its context ends: %v)", f.pass, when, sendErrors[f.err], f.kill)
}
