package testnet

import (
	"math/rand/v2"
	"time"
)

// Chaos is a plan of faults drawn at random. The same values give the same plan.
type Chaos struct {
	// Seed is where the random numbers start.
	Seed uint64
	// Kinds are drawn from. None: FIN and RST.
	Kinds []Kind
	// Directions are drawn from. None: both.
	Directions []Direction
	// Places are drawn from. None: Before, Inside and After.
	Places []Where
	// Messages is the mean number of messages between two faults, counted in the direction drawn, over all
	// connections. Zero or less: 20.
	Messages int
	// Bytes, if greater than zero, is used in place of Messages: the mean number of bytes between two faults.
	Bytes int64
	// For is how long a black hole or a stall lasts. Zero: until Heal.
	For time.Duration
	// Limit is the number of faults after which there are no more. Zero or less: no limit.
	Limit int
}

// Chaos arms the faults of a plan, each when the one before has happened. The function it returns takes the plan away.
func (n *Network) Chaos(c Chaos) (stop func()) {
	s := n.armSequence(c.plan())
	return func() { n.disarm(s) }
}

// plan returns a function that draws the next fault.
func (c Chaos) plan() func() (Fault, bool) {
	random := rand.New(rand.NewPCG(c.Seed, 0)) //nolint:gosec // repeatable on purpose
	kinds, directions, places := c.Kinds, c.Directions, c.Places
	if len(kinds) == 0 {
		kinds = []Kind{FIN, RST}
	}
	if len(directions) == 0 {
		directions = []Direction{ToServer, ToClient}
	}
	if len(places) == 0 {
		places = []Where{Before, Inside, After}
	}
	messages := c.Messages
	if messages <= 0 {
		messages = 20
	}
	drawn := 0
	return func() (Fault, bool) {
		if c.Limit > 0 && drawn == c.Limit {
			return Fault{}, false
		}
		drawn++
		f := Fault{
			Kind:      kinds[random.IntN(len(kinds))],
			Direction: directions[random.IntN(len(directions))],
			Where:     places[random.IntN(len(places))],
			Total:     true,
			For:       c.For,
		}
		if c.Bytes > 0 {
			f.Bytes = 1 + random.Int64N(2*c.Bytes)
		} else {
			f.Message = 1 + random.IntN(2*messages-1)
		}
		return f, true
	}
}
