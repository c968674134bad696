package checkpoint

import (
	"fmt"
	"time"
)

// The sizes a [Store] takes, in bytes. A store takes everything up to them and refuses everything beyond.
const (
	MaxKeySize     = 1024
	MaxLineageSize = 1024
	MaxTokenSize   = 64 << 10
)

// Position is a place in what a server sends. The zero Position is the beginning: nothing was received yet.
//
// Lineage and Token are bytes to this package: they need not be UTF-8.
type Position struct {
	// Lineage names the history that Seq counts in. A change means that the server's history was replaced, so that
	// positions before and after it cannot be compared.
	Lineage string
	// Seq orders positions within a lineage. 0 means that the position is unordered: it is compared with nothing.
	Seq uint64
	// Token is opaque to this module and meaningful to the server.
	Token string
}

// IsZero tells whether p is the beginning.
func (p Position) IsZero() bool { return p.Seq == 0 && p.Token == "" && p.Lineage == "" }

// Before tells whether p lies behind q: both are ordered, in the same lineage, and p.Seq is the lower one. If the
// two cannot be compared the answer is false both ways.
func (p Position) Before(q Position) bool {
	return p.Lineage == q.Lineage && p.Seq != 0 && q.Seq != 0 && p.Seq < q.Seq
}

// Validate returns an error that matches [ErrInvalidPosition] if p is larger than a store has to take.
func (p Position) Validate() error {
	if len(p.Lineage) > MaxLineageSize {
		return fmt.Errorf("%w: a lineage of %d bytes, the limit is %d", ErrInvalidPosition, len(p.Lineage), MaxLineageSize)
	}
	if len(p.Token) > MaxTokenSize {
		return fmt.Errorf("%w: a token of %d bytes, the limit is %d", ErrInvalidPosition, len(p.Token), MaxTokenSize)
	}
	return nil
}

// ValidateKey returns an error that matches [ErrInvalidKey] if key is empty or longer than [MaxKeySize]. Any bytes
// make a key: it need not be UTF-8, and no byte has a meaning of its own.
func ValidateKey(key string) error {
	switch {
	case key == "":
		return fmt.Errorf("%w: it is empty", ErrInvalidKey)
	case len(key) > MaxKeySize:
		return fmt.Errorf("%w: %d bytes, the limit is %d", ErrInvalidKey, len(key), MaxKeySize)
	}
	return nil
}

// Record is what a [Store] holds for a key.
type Record struct {
	// Position is the last one committed, or the zero Position.
	Position Position
	// Epoch is the number of the owner that may commit: 1 for the first. It never goes back, not even if the key
	// is deleted.
	Epoch uint64
	// UpdatedAt is when the record last changed, by an Acquire or a Commit, on the store's clock. It never goes back.
	UpdatedAt time.Time
}
