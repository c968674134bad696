package nats

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/checkpoint/internal/remote"
)

// A record is: the version, 1 if it is deleted, epoch, owner, write, seq and the time of the record before it in
// nanoseconds, each of 8 bytes, the length of the lineage in 2 bytes, the lineage, and the token. Numbers are big-endian.
const (
	version   = 1
	fixedSize = 2 + 5*8 + 2
)

var errFormat = errors.New("the record was not written by this version of the store")

func encode(s remote.State) []byte {
	p := s.Position
	b := make([]byte, 0, fixedSize+len(p.Lineage)+len(p.Token))
	b = append(b, version, 0)
	if s.Deleted {
		b[1] = 1
	}
	var before int64
	if !s.UpdatedAt.IsZero() {
		before = s.UpdatedAt.UnixNano()
	}
	for _, n := range []uint64{s.Epoch, s.Owner, s.Write, p.Seq, uint64(before)} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(p.Lineage)))
	b = append(b, p.Lineage...)
	return append(b, p.Token...)
}

func decode(b []byte) (s remote.State, err error) {
	if len(b) < fixedSize || b[0] != version || b[1] > 1 {
		return remote.State{}, fmt.Errorf("%w: %d bytes that begin with % x", errFormat, len(b), b[:min(len(b), 4)])
	}
	number := func(i int) uint64 { return binary.BigEndian.Uint64(b[2+8*i:]) }
	s.Deleted = b[1] == 1
	s.Epoch, s.Owner, s.Write = number(0), number(1), number(2)
	lineage := int(binary.BigEndian.Uint16(b[fixedSize-2:]))
	rest := b[fixedSize:]
	if len(rest) < lineage || s.Epoch == 0 {
		return remote.State{}, fmt.Errorf("%w: a lineage of %d bytes in %d, epoch %d", errFormat, lineage, len(rest), s.Epoch)
	}
	s.Position = checkpoint.Position{Lineage: string(rest[:lineage]), Seq: number(3), Token: string(rest[lineage:])}
	if err := s.Position.Validate(); err != nil {
		return remote.State{}, fmt.Errorf("%w: %w", errFormat, err)
	}
	if before := int64(number(4)); before != 0 {
		s.UpdatedAt = time.Unix(0, before).UTC()
	}
	return s, nil
}
