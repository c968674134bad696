package stream_test

import (
	"math/rand/v2"
	"slices"
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
	sends     restraint           // the policies for messages that the application sends
	recvs     restraint           // the same for those that it receives
	retries   bool                // a denied message is sent again, as another one
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
	sc.drawPolicies(dice{rand.New(rand.NewPCG(seed, 2))})
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

// drawPolicies draws the policies for messages.
func (sc *schedule) drawPolicies(d dice) {
	if d.oneIn(2) {
		sc.sends = drawRestraint(d, time.Millisecond)
	}
	if d.oneIn(2) {
		sc.recvs = drawRestraint(d, time.Millisecond)
	}
	sc.retries = d.oneIn(2)
}

// dice draws.
type dice struct{ *rand.Rand }

func (d dice) oneIn(n int) bool        { return d.IntN(n) == 0 }
func (d dice) between(low, up int) int { return low + d.IntN(up-low+1) }
func (d dice) moments() time.Duration  { return time.Duration(d.between(1, 30)) * time.Millisecond }
func pick[T any](d dice, of ...T) T    { return of[d.IntN(len(of))] }
