package testnet

import (
	"fmt"
	"strconv"
	"time"
)

// Direction is a way through the network.
type Direction int

const (
	// ToServer is the way of the requests.
	ToServer Direction = iota
	// ToClient is the way of the responses.
	ToClient
)

// String returns "to server" or "to client".
func (d Direction) String() string {
	return name([]string{"to server", "to client"}, int(d))
}

// Kind is a way to break a connection.
type Kind int

const (
	// FIN closes the connection in order, towards both ends. What was forwarded before can be read, then io.EOF.
	FIN Kind = iota
	// RST resets the connection, towards both ends: reads and writes fail with ECONNRESET or the like.
	RST
	// BlackHole makes bytes vanish both ways, the news that an end has closed included, while the connection stays
	// open. The connection is of no use any more: Heal resets it.
	BlackHole
	// StallToServer stops forwarding to the server. Buffers fill up and then the client's writes block. Heal lets
	// everything through.
	StallToServer
	// StallToClient stops forwarding to the client. Buffers fill up and then the server's writes block. Heal lets
	// everything through.
	StallToClient
	// Truncate forwards half of a message and resets the connection. Where makes no difference to it. As an argument
	// of [Network.Cut] it waits for the next bytes that a connection carries, and forwards half of those.
	Truncate
	// BlackHoleToServer makes bytes to the server vanish, the news that the client has closed included. The other way works.
	// Heal resets the connection.
	BlackHoleToServer
	// BlackHoleToClient makes bytes to the client vanish, the news that the server has closed included. The other way works.
	// Heal resets the connection.
	BlackHoleToClient
	// Refusal resets the connection, and refuses new ones until Heal, or for the time of the fault: a server that is down.
	Refusal
)

// String returns the kind's name.
func (k Kind) String() string {
	return name([]string{
		"FIN", "RST", "black hole", "stall to server", "stall to client", "truncate",
		"black hole to server", "black hole to client", "refusal",
	}, int(k))
}

// Where is a place relative to a message.
type Where int

const (
	// Before means that no byte of the message is forwarded.
	Before Where = iota
	// Inside means that half of the message is forwarded.
	Inside
	// After means that the whole message is forwarded, so that the peer can read it, and nothing behind it. A
	// half-close that comes in the frame that ends the message goes with it.
	After
)

// String returns the place's name.
func (w Where) String() string {
	return name([]string{"before", "inside", "after"}, int(w))
}

// Fault is something that goes wrong once, at a place in what passes through the network.
type Fault struct {
	// Kind is what happens to the connection.
	Kind Kind
	// Direction is the one in which messages or bytes are counted. A stall may go the other way.
	Direction Direction
	// Message is the number of the message, from 1. Zero: the place is given by Bytes.
	Message int
	// Where is the place relative to Message.
	Where Where
	// Bytes is the number of bytes forwarded before the fault, where Message is zero. With both zero the fault
	// happens at the first byte.
	Bytes int64
	// Total makes Message and Bytes count over all connections, from the moment the fault was armed. Otherwise they
	// count from the start of each connection, and a connection that is past the place is left alone.
	Total bool
	// Connection is the number of the only connection that the fault may happen to, from 1. Zero: any.
	Connection int
	// Time, if greater than zero, is when the fault happens, counted from the moment it was armed. It happens to all live
	// connections; if there is none, to the next one, at its first byte in Direction. Message, Where, Bytes and Total are
	// not used.
	Time time.Duration
	// Pause is how long the connection stands still, both ways, before the fault happens: so long the peer can take in what has
	// been forwarded. Zero: no time.
	Pause time.Duration
	// For is how long a black hole, a stall or a refusal lasts. Zero: until Heal.
	For time.Duration
}

// String describes the fault in a few words.
func (f Fault) String() string {
	if f.Time > 0 {
		return fmt.Sprintf("%v after %v", f.Kind, f.Time)
	}
	if f.Message == 0 {
		return fmt.Sprintf("%v after %d bytes %v", f.Kind, f.Bytes, f.Direction)
	}
	return fmt.Sprintf("%v %v message %d %v", f.Kind, f.Where, f.Message, f.Direction)
}

// Cut tells of a fault that has happened.
type Cut struct {
	// Kind is what happened.
	Kind Kind
	// Connection is the number of the connection it happened to, from 1.
	Connection int
	// Direction is that of the message. It is ToServer after [Network.Cut], and for a fault by time.
	Direction Direction
	// Message is the number that the message has on its connection. Zero: the place was not one of a message.
	Message int
	// Where is the place relative to Message.
	Where Where
	// At is when it happened.
	At time.Time
}

func name(names []string, i int) string {
	if i < 0 || i >= len(names) {
		return strconv.Itoa(i)
	}
	return names[i]
}
