package streamtest

import (
	"time"

	"github.com/streamsafe/streamsafe/internal/testnet"
)

// Direction is a way through a network: [ToServer] or [ToClient].
type Direction = testnet.Direction

const (
	// ToServer is the way of the requests.
	ToServer = testnet.ToServer
	// ToClient is the way of the responses.
	ToClient = testnet.ToClient
)

// Where is a place relative to a message: [Before], [Inside] or [After].
type Where = testnet.Where

const (
	// Before means that no byte of the message is forwarded.
	Before = testnet.Before
	// Inside means that half of the message is forwarded: the cut is inside an HTTP/2 frame.
	Inside = testnet.Inside
	// After means that the whole message is forwarded, so that the peer can read it, and nothing behind it. A half-close that
	// comes in the same frame goes with it.
	After = testnet.After
)

// Kind is what happens to a connection.
type Kind = testnet.Kind

const (
	// FIN closes the connection in order, towards both ends. What was forwarded before can be read, then io.EOF.
	FIN = testnet.FIN
	// RST resets the connection, towards both ends: reads and writes fail with ECONNRESET or the like.
	RST = testnet.RST
	// BlackHole makes bytes vanish both ways, while the connection seems to stay open. When it ends, the connection is reset.
	BlackHole = testnet.BlackHole
	// BlackHoleToServer is a [BlackHole] for what the client sends. The other way works.
	BlackHoleToServer = testnet.BlackHoleToServer
	// BlackHoleToClient is a [BlackHole] for what the server sends. The other way works.
	BlackHoleToClient = testnet.BlackHoleToClient
	// StallToServer stops forwarding to the server. Buffers fill up, and then the client's writes block. When it ends, everything
	// gets through, late.
	StallToServer = testnet.StallToServer
	// StallToClient stops forwarding to the client. Buffers fill up, and then the server's writes block. When it ends, everything
	// gets through, late.
	StallToClient = testnet.StallToClient
	// Truncate forwards half of a message, and resets the connection. Where makes no difference to it.
	Truncate = testnet.Truncate
	// Refusal resets the connection, and refuses new ones until it ends: a server that is down for a while.
	Refusal = testnet.Refusal
)

// Fault is something that goes wrong once, at a place in what passes through a network. The place is a message, a number of
// bytes, or a time.
type Fault struct {
	// Kind is what happens.
	Kind Kind
	// Direction is the one in which messages or bytes are counted. A stall may go the other way.
	Direction Direction
	// Message is the number of the gRPC message, from 1, on its connection and in its direction. All streams of a connection
	// count together. Zero: the place is given by Bytes or Time.
	Message int
	// Where is the place relative to Message.
	Where Where
	// Bytes is the number of bytes that are forwarded before the fault, if Message is zero. Frames of all kinds count. With both
	// zero the fault happens at the first byte.
	Bytes int64
	// Total makes Message and Bytes count over all connections, from the moment the fault was armed. Otherwise they count from
	// the start of each connection, and a connection that is past the place is left alone.
	Total bool
	// Connection is the number of the only connection that the fault may happen to, from 1. Zero: any.
	Connection int
	// Time, if greater than zero, is when the fault happens, counted from the moment it was armed. It happens to all live
	// connections. If there is none, it happens to the next one, at its first byte in Direction. Message and Bytes are not used.
	Time time.Duration
	// Pause is how long the connection stands still, both ways, before the fault happens: so long the peer can take in what has
	// been forwarded. Zero: no time.
	Pause time.Duration
	// For is how long a black hole, a stall or a refusal lasts. Zero: until Heal.
	For time.Duration
}

// String describes the fault in a few words.
func (f Fault) String() string { return testnet.Fault(f).String() }

// Chaos is a plan of faults that are drawn at random. The same values give the same plan.
type Chaos struct {
	// Seed is where the random numbers start.
	Seed uint64
	// Kinds are drawn from. None: FIN and RST.
	Kinds []Kind
	// Directions are drawn from. None: both.
	Directions []Direction
	// Places are drawn from. None: Before, Inside and After.
	Places []Where
	// Messages is the mean number of messages between two faults, counted in the direction drawn, over all connections. Zero or
	// less: 20.
	Messages int
	// Bytes, if greater than zero, is used in place of Messages: the mean number of bytes between two faults.
	Bytes int64
	// For is how long a black hole, a stall or a refusal lasts. Zero: until Heal.
	For time.Duration
	// Limit is the number of faults after which there are no more. Zero or less: no limit.
	Limit int
}

// Cut tells of a fault that has happened.
type Cut struct {
	// Kind is what happened.
	Kind Kind
	// Connection is the number of the connection that it happened to, from 1.
	Connection int
	// Direction is that of the message.
	Direction Direction
	// Message is the number that the message has on its connection. Zero: the place was not one of a message.
	Message int
	// Where is the place relative to Message.
	Where Where
	// At is when it happened.
	At time.Time
}
