package checkpoint

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"
)

// The format of a record, version 1. Numbers are big-endian.
//
//	magic       4 bytes  "SSCP"
//	version     1 byte
//	mark        1 byte   'L' for live, 'P' for past; see slots.go
//	deleted     1 byte   0 or 1
//	generation  8 bytes  1 for the first record of a file, and one more for each that comes after
//	epoch       8 bytes
//	updated     8 bytes  seconds since 1970, with a sign
//	            4 bytes  and nanoseconds
//	seq         8 bytes
//	key         2 bytes  length, then so many bytes
//	lineage     2 bytes  length, then so many bytes
//	token       4 bytes  length, then so many bytes
//	checksum    4 bytes  CRC-32C of all of the above except the mark
const (
	formatMagic   = "SSCP"
	formatVersion = 1
	markAt        = len(formatMagic) + 1
	markLive      = 'L'
	markPast      = 'P'
	checksumSize  = 4
	fixedSize     = markAt + 1 + 1 + 8 + 8 + 8 + 4 + 8 + 2 + 2 + 4 + checksumSize
	maxRecordSize = fixedSize + MaxKeySize + MaxLineageSize + MaxTokenSize
)

// record is what one slot of a file holds.
type record struct {
	key        string
	generation uint64
	past       bool // a newer record of the key was on the disk
	entry
}

// encode returns r as it is kept in a slot. The key and the position have been validated.
func encode(r record) []byte {
	p := r.Position
	b := make([]byte, 0, fixedSize+len(r.key)+len(p.Lineage)+len(p.Token))
	b = append(b, formatMagic...)
	b = append(b, formatVersion, markLive, 0)
	if r.past {
		b[markAt] = markPast
	}
	if r.deleted {
		b[markAt+1] = 1
	}
	b = binary.BigEndian.AppendUint64(b, r.generation)
	b = binary.BigEndian.AppendUint64(b, r.Epoch)
	b = binary.BigEndian.AppendUint64(b, uint64(r.UpdatedAt.Unix()))
	b = binary.BigEndian.AppendUint32(b, uint32(r.UpdatedAt.Nanosecond()))
	b = binary.BigEndian.AppendUint64(b, p.Seq)
	b = binary.BigEndian.AppendUint16(b, uint16(len(r.key)))
	b = append(b, r.key...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(p.Lineage)))
	b = append(b, p.Lineage...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(p.Token)))
	b = append(b, p.Token...)
	return binary.BigEndian.AppendUint32(b, checksum(b))
}

// decode reads the record at the front of b. What comes behind it is left over from longer records.
//
// Every error means that these are not the bytes that encode made, or that a later version of this package made them.
func decode(b []byte) (record, error) {
	if err := checkVersion(b); err != nil {
		return record{}, err
	}
	f := fields{rest: b}
	if string(f.take(uint64(len(formatMagic)))) != formatMagic {
		return record{}, errors.New("it is not a checkpoint record")
	}
	f.take(1) // the version
	mark, deleted := f.number(1), f.number(1)
	var r record
	r.past, r.deleted = mark == markPast, deleted == 1
	r.generation = f.number(8)
	r.Epoch = f.number(8)
	seconds, nanoseconds := int64(f.number(8)), int64(f.number(4))
	r.UpdatedAt = time.Unix(seconds, nanoseconds).UTC()
	r.Position.Seq = f.number(8)
	r.key = string(f.take(f.number(2)))
	r.Position.Lineage = string(f.take(f.number(2)))
	r.Position.Token = string(f.take(f.number(4)))
	body := b[:len(b)-len(f.rest)]
	sum := f.number(checksumSize)
	switch {
	case f.short:
		return record{}, errors.New("a record is cut off")
	case uint32(sum) != checksum(body):
		return record{}, errors.New("a checksum is wrong")
	case mark != markLive && mark != markPast,
		deleted > 1, r.generation == 0, r.Epoch == 0, nanoseconds > 999_999_999, len(r.key) > MaxKeySize:
		return record{}, errors.New("the fields do not fit together")
	}
	if err := r.Position.Validate(); err != nil {
		return record{}, err
	}
	return r, nil
}

// checkVersion returns an error if b begins like a record of another version of this package.
func checkVersion(b []byte) error {
	at := len(formatMagic)
	if len(b) > at && string(b[:at]) == formatMagic && b[at] != formatVersion {
		return fmt.Errorf("format version %d is not known, only version %d: another version of this package wrote it",
			b[at], formatVersion)
	}
	return nil
}

// checksum covers a record up to its checksum, except the mark, which changes while the rest stays.
func checksum(body []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	mark := min(markAt, len(body))
	return crc32.Update(crc32.Checksum(body[:mark], table), table, body[min(mark+1, len(body)):])
}

// fields takes fields off the front of rest. Once there is less than asked for it is short, and stays so.
type fields struct {
	rest  []byte
	short bool
}

func (f *fields) take(n uint64) []byte {
	if n > uint64(len(f.rest)) {
		f.short = true
		return nil
	}
	field := f.rest[:n]
	f.rest = f.rest[n:]
	return field
}

// number reads a big-endian number of so many bytes.
func (f *fields) number(size uint64) (n uint64) {
	for _, b := range f.take(size) {
		n = n<<8 | uint64(b)
	}
	return n
}
