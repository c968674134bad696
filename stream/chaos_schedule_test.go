package stream_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/streamsafe/streamsafe/internal/testnet"
	"github.com/streamsafe/streamsafe/stream"
)

// schedule is a random life of a stream: what the application is like, and what goes wrong. All of it comes from the seed.
type schedule struct {
	seed uint64

	style     style
	promise   promise
	numbers   numbering
	window    stream.ReplayLimits
	handshake bool // Resume waits for the server's answer to the hello
	holds     bool // HoldUntilCheckpoint
	gaps      bool // WithGapDetection
	recovers  bool // the Lost callback starts over
	idle      time.Duration
	ackLimit  time.Duration // WithAckTimeout
	endless   bool          // WithEndless
	receipt   bool          // WithOKAcknowledges
	age       time.Duration // WithMaxAge; zero: none
	flushes   bool          // the application waits for all acknowledgements before it calls CloseSend
	messages  int           // that the application sends
	padding   int           // the greatest padding of a message, both ways

	lives []life // of client processes; more than one only with a store

	echo      bool                // the server answers each message that it stores with one of its own
	history   int                 // numbered messages that the server has, but for echo
	units     int                 // messages without a position before each numbered one
	missing   map[uint64]bool     // numbers that the server's histories do not have
	bookmarks int                 // the server sends one after so many numbered messages; zero: none
	acks      acks                // how the server acknowledges
	conduct   []conduct           // of the server's handlers, in their order; those that follow behave
	faults    []testnet.Fault     // each armed when the one before has happened
	steps     []step              // what happens when something is reached
	fates     map[uint64]sendFate // of messages in the client's interceptor
	slow      [places]dawdling    // who is slow
	deadline  time.Duration       // of each attempt, in an interceptor's context; zero: none
	bareRecv  bool                // the interceptor tells of a loss with the bare error of its context
}

// style is how an application uses its stream.
type style int

const (
	inTwoGoroutines style = iota
	sendsThenReceives
	asksAndWaits // sends one, and receives the answer, in one goroutine
)

// promise is what the options say about sends.
type promise int

const (
	replayed promise = iota
	atMostOnce
	inDoubt // the default
)

// numbering is who numbers the messages that are sent.
type numbering int

const (
	byApplication numbering = iota // Callbacks.Sequence
	byStream                       // the stream counts, and the server reads the number in the message
	byBoth                         // the stream counts, and the server does, from the number it told in the handshake
)

// life is a client process. It ends after so many received messages, zero: with its stream.
type life struct {
	receives int
	end      lifeEnd
}

type lifeEnd int

const (
	commitsAndCloses lifeEnd = iota
	closes
	isKilled
)

// acks is how a server acknowledges.
type acks struct {
	every  int
	stale  bool // it says an older number again
	silent bool // it ends with OK before it has acknowledged the last ones
}

// conduct is what a handler does wrong.
type conduct struct {
	quitsAt  int        // after so many messages, both ways; zero: before it answers the hello; negative: when all is done
	says     codes.Code // its last word when it quits
	asks     bool       // with RetryInfo
	inAFrame bool       // in a message, in place of a status
	repeats  uint64     // how many numbers before the position it begins
	leaves   int        // out, once: the numbered message that is its so many-th
	replaces bool       // the history was replaced before the handler began
	tells    telling    // how it tells that a position is of a lineage that is gone
	overAcks bool       // it acknowledges what was never sent
	bye      int        // after so many messages, both ways, it announces that it will end; zero: it does not
}

// telling is how a handler tells that the history was replaced.
type telling int

const (
	byMessages telling = iota // it sends those of the new history
	byStatus
	byAnchor // in the handshake
)

// moment is something that is counted during a run.
type moment int

const (
	stored  moment = iota // a handler has received a message
	gotOne                // the application has received a message
	sending               // the application has begun a Send
)

// place is where somebody may be slow.
type place int

const (
	beforeSendMsg place = iota // the interceptor
	afterSendMsg
	afterRecvMsg
	inReplay // callbacks
	inResume
	withMessage // the application
	places
)

// dawdling is a wait each so many times. Zero: none.
type dawdling struct {
	every int
	rest  time.Duration
}

// step is something that happens when a moment has come for the nth time.
type step struct {
	when moment
	nth  int
	do   action
	rest time.Duration // how long it lasts, where it does
}

type action int

const (
	restartHard action = iota
	restartGracefully
	refuse
	cutFIN
	cutRST
	goDark
	stallUp
	stallDown
	replaceHistory
	cancelInterceptor // the context that an interceptor has made ends
	closeSend
	closeStream
	cancelContext
)

// sendFate is what the client's interceptor does to a message when that passes for the nth time.
type sendFate struct {
	pass int // zero: the message itself is bad, and grpc refuses it
	late bool
	err  int // of sendErrors; for a message that is bad: its fault
	kill bool
}

// drawSchedule draws the schedule of a seed.
func drawSchedule(seed uint64) *schedule {
	d := dice{rand.New(rand.NewPCG(seed, 1))}
	sc := &schedule{
		seed: seed, style: pick(d, inTwoGoroutines, inTwoGoroutines, sendsThenReceives, asksAndWaits),
		promise: pick(d, replayed, replayed, replayed, atMostOnce, inDoubt), handshake: d.oneIn(2), holds: d.oneIn(3),
		recovers: !d.oneIn(4), idle: pick(d, 0, 0, 500*time.Millisecond), messages: d.between(1, 60), history: d.between(0, 60),
		padding: pick(d, 0, 100, 2000), bookmarks: pick(d, 0, 0, 1, 5), lives: []life{{}}, fates: map[uint64]sendFate{},
		missing: map[uint64]bool{}, bareRecv: d.oneIn(6),
	}
	if sc.promise == replayed {
		sc.window = stream.ReplayLimits{
			Messages: pick(d, 1, 3, 8, 100), Bytes: pick(d, 0, 0, 0, 300), FailWhenFull: d.oneIn(8),
		}
		sc.numbers = numbering(d.IntN(3))
		sc.handshake = sc.handshake || sc.numbers == byBoth
		sc.echo = sc.style == asksAndWaits || d.oneIn(4)
	} else if sc.style == asksAndWaits {
		sc.style = inTwoGoroutines
	}
	if d.oneIn(3) {
		sc.units = d.between(1, 3)
	}
	sc.acks = acks{every: min(pick(d, 1, 1, 2, 7), max(1, sc.window.Messages)), stale: d.oneIn(4), silent: d.oneIn(6)}
	if sc.window.Bytes > 0 {
		sc.acks.every = 1
	}
	sc.drawPositions(d)
	sc.drawConduct(d)
	sc.drawFaults(d)
	sc.drawSteps(d)
	sc.drawFates(d)
	sc.drawPace(d)
	sc.drawRotations(d)
	return sc
}

// drawPositions draws what has to do with numbers, a store and the histories.
func (sc *schedule) drawPositions(d dice) {
	sc.gaps = d.oneIn(3)
	if !sc.echo && d.oneIn(4) && (!sc.gaps || d.oneIn(4)) {
		for range d.between(1, 4) {
			sc.missing[uint64(d.between(1, 60))] = true
		}
	}
	if (sc.handshake || sc.promise != replayed) && sc.style != asksAndWaits && d.oneIn(3) {
		sc.lives = nil
		for range d.between(1, 3) {
			sc.lives = append(sc.lives, life{receives: d.between(1, 12), end: lifeEnd(d.IntN(3))})
		}
		sc.lives = append(sc.lives, life{})
	}
}

func (sc *schedule) drawConduct(d dice) {
	words := []codes.Code{codes.OK, codes.Unavailable, codes.Unavailable, codes.ResourceExhausted, codes.Aborted}
	for range d.between(0, 4) {
		c := conduct{quitsAt: -1}
		if d.oneIn(2) {
			c.quitsAt, c.says = d.between(0, 30), pick(d, words...)
			c.asks = c.says == codes.ResourceExhausted || c.says == codes.Aborted
			c.inAFrame = c.says != codes.OK && !c.asks && d.oneIn(3)
		}
		switch d.IntN(14) {
		case 0:
			c.quitsAt, c.says = d.between(0, 30), codes.FailedPrecondition
		case 1, 2:
			c.repeats = uint64(d.between(1, 5))
			if c.says == codes.OK { // in the middle of a unit that comes again nobody could tell
				c.quitsAt = -1
			}
		case 3:
			if sc.gaps && sc.style != asksAndWaits {
				c.leaves = d.between(2, 6) // the first one is after none
				if c.says == codes.OK {    // before the next number, nobody could tell
					c.quitsAt = -1
				}
			}
		case 4, 5:
			c.replaces = !sc.echo
		case 6:
			c.overAcks = d.oneIn(3)
		}
		if c.tells = telling(d.IntN(3)); c.tells == byAnchor && !sc.handshake {
			c.tells = byMessages
		}
		sc.conduct = append(sc.conduct, c)
	}
}

func (sc *schedule) drawFaults(d dice) {
	for range d.between(0, 8) {
		f := testnet.Fault{
			Kind: pick(d, testnet.FIN, testnet.RST, testnet.Truncate, testnet.BlackHole, testnet.StallToServer,
				testnet.StallToClient),
			Direction: pick(d, testnet.ToServer, testnet.ToClient), Total: true, For: d.moments(),
		}
		if d.oneIn(4) {
			f.Bytes = int64(d.between(1, 4000))
		} else {
			f.Message, f.Where = d.between(1, 15), pick(d, testnet.Before, testnet.Inside, testnet.After)
		}
		sc.faults = append(sc.faults, f)
	}
}

func (sc *schedule) drawSteps(d dice) {
	often := []action{restartHard, restartGracefully, refuse, cutFIN, cutRST, goDark, stallUp, stallDown}
	for range d.between(0, 4) {
		s := step{when: moment(d.IntN(3)), nth: d.between(1, 40), do: pick(d, often...), rest: d.moments()}
		switch d.IntN(12) {
		case 0:
			s.do = closeStream
		case 1:
			s.do = closeSend
		case 2:
			s.do = cancelContext
		case 3, 4:
			s.do = cancelInterceptor
		case 5:
			if !sc.echo {
				s.do = replaceHistory
			}
		}
		sc.steps = append(sc.steps, s)
	}
}

func (sc *schedule) drawFates(d dice) {
	if d.oneIn(2) {
		return
	}
	for range d.between(1, 4) {
		item := uint64(d.between(1, sc.messages))
		f := sendFate{pass: pick(d, 0, 1, 1, 1, 1, 2), late: d.oneIn(2), err: d.IntN(len(sendErrors)), kill: d.oneIn(4)}
		sc.fates[item] = f
		if f.pass == 0 && d.oneIn(2) {
			sc.fates[item+1] = f // two in a row
		}
	}
}

// drawPace draws who is slow, and what depends on acknowledgements.
func (sc *schedule) drawPace(d dice) {
	for p := range sc.slow {
		if d.oneIn(4) {
			sc.slow[p] = dawdling{every: d.between(1, 8), rest: time.Duration(d.between(50, 3000)) * time.Microsecond}
		}
	}
	sc.endless = d.oneIn(5)
	if d.oneIn(12) {
		sc.deadline = time.Duration(d.between(15, 80)) * time.Millisecond
	}
	if sc.promise != replayed {
		return
	}
	if sc.acks.every == 1 {
		sc.flushes, sc.ackLimit = d.oneIn(4), pick(d, 0, 0, 150*time.Millisecond)
	}
	saysOK := slices.ContainsFunc(sc.conduct, func(c conduct) bool { return c.quitsAt >= 0 && c.says == codes.OK })
	sc.receipt = !saysOK && d.oneIn(4)
}

// drawRotations draws what makes a stream replace attempts that live.
func (sc *schedule) drawRotations(d dice) {
	if d.oneIn(3) {
		sc.age = time.Duration(d.between(5, 60)) * time.Millisecond
	}
	for i := range sc.conduct {
		if d.oneIn(3) {
			sc.conduct[i].bye = d.between(1, 20)
		}
	}
}

// dice draws.
type dice struct{ *rand.Rand }

func (d dice) oneIn(n int) bool        { return d.IntN(n) == 0 }
func (d dice) between(low, up int) int { return low + d.IntN(up-low+1) }
func (d dice) moments() time.Duration  { return time.Duration(d.between(1, 30)) * time.Millisecond }
func pick[T any](d dice, of ...T) T    { return of[d.IntN(len(of))] }

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
