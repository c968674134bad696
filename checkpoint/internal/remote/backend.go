package remote

import (
	"context"
	"math/rand/v2"

	"github.com/streamsafe/streamsafe/checkpoint"
)

// State is what a server keeps of a key.
type State struct {
	checkpoint.Record
	// Deleted says that only the epoch counts.
	Deleted bool
	// Owner and Write are random: one for each Acquire, one for each write. Neither is zero.
	Owner, Write uint64
	// Revision is the server's own number of the record, if it has one.
	Revision uint64
}

// Backend is a server. Its methods are safe for concurrent use, and each is one try: one round trip, or a few.
type Backend interface {
	// Read returns the record of key, as the writer among the servers has it. It returns false if there is none.
	Read(ctx context.Context, key string) (State, bool, error)
	// Swap replaces from by to, and reports false if from is not there any more. The server sets UpdatedAt. It returns the
	// new Revision, for servers that have one.
	Swap(ctx context.Context, key string, from, to State) (revision uint64, swapped bool, err error)
	// Acquire makes a new owner. It returns the record with the next epoch, and with owner and write in it.
	Acquire(ctx context.Context, key string, owner, write uint64) (State, error)
	// Judge says what an error of the other methods means.
	Judge(err error) Verdict
}

// Verdict is what an error of a server means (invariants 54 and 55).
type Verdict int

const (
	// Doubt means that nobody knows whether it was done: the answer was lost.
	Doubt Verdict = iota
	// Again means that it was not done, and that another try may succeed: a conflict, a server that starts or is no writer.
	Again
	// Final means that it was not done, and that another try would fail too.
	Final
)

// Random returns a number that is not zero, and that nobody else gets.
func Random() uint64 {
	for {
		if n := rand.Uint64(); n != 0 {
			return n
		}
	}
}
