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
//	magic      4 bytes  "SSCP"
//	version    1 byte
//	deleted    1 byte   0 or 1
//	epoch      8 bytes
//	updated    8 bytes  nanoseconds since 1970
//	seq        8 bytes
//	key        2 bytes  length, then so many bytes
//	lineage    2 bytes  length, then so many bytes
//	token      4 bytes  length, then so many bytes
//	checksum   4 bytes  CRC-32C of all of the above
const (
	formatMagic   = "SSCP"
	formatVersion = 1
	checksumSize  = 4
	fixedSize     = len(formatMagic) + 1 + 1 + 8 + 8 + 8 + 2 + 2 + 4 + checksumSize

	// maxRecordSize bounds what is read of a file, whatever is in it.
	maxRecordSize = fixedSize + MaxKeySize + MaxLineageSize + MaxTokenSize
)

// encode returns the record of key as it is kept in a file. The key and the position have been validated.
func encode(key string, e entry) []byte {
	p := e.Position
	b := make([]byte, 0, fixedSize+len(key)+len(p.Lineage)+len(p.Token))
	b = append(b, formatMagic...)
	b = append(b, formatVersion)
	if e.deleted {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	b = binary.BigEndian.AppendUint64(b, e.Epoch)
	b = binary.BigEndian.AppendUint64(b, uint64(e.UpdatedAt.UnixNano()))
	b = binary.BigEndian.AppendUint64(b, p.Seq)
	b = binary.BigEndian.AppendUint16(b, uint16(len(key)))
	b = append(b, key...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(p.Lineage)))
	b = append(b, p.Lineage...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(p.Token)))
	b = append(b, p.Token...)
	return binary.BigEndian.AppendUint32(b, checksum(b))
}

// decode is the inverse of encode. It takes nothing that encode does not make.
func decode(b []byte) (key string, e entry, err error) {
	if len(b) < fixedSize {
		return "", entry{}, fmt.Errorf("%d bytes is too short", len(b))
	}
	body := b[:len(b)-checksumSize]
	if binary.BigEndian.Uint32(b[len(body):]) != checksum(body) {
		return "", entry{}, errors.New("the checksum is wrong")
	}
	r := reader{rest: body}
	if string(r.take(uint64(len(formatMagic)))) != formatMagic {
		return "", entry{}, errors.New("it is not a checkpoint record")
	}
	if version := r.number(1); version != formatVersion {
		return "", entry{}, fmt.Errorf("format version %d is not known", version)
	}
	deleted := r.number(1)
	e.deleted = deleted == 1
	e.Epoch = r.number(8)
	e.UpdatedAt = time.Unix(0, int64(r.number(8))).UTC()
	e.Position.Seq = r.number(8)
	key = string(r.take(r.number(2)))
	e.Position.Lineage = string(r.take(r.number(2)))
	e.Position.Token = string(r.take(r.number(4)))
	if r.short || len(r.rest) != 0 || deleted > 1 || e.Epoch == 0 {
		return "", entry{}, errors.New("the fields do not fit together")
	}
	if err := errors.Join(ValidateKey(key), e.Position.Validate()); err != nil {
		return "", entry{}, err
	}
	return key, e, nil
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// reader takes fields off the front of rest. Once there is less than asked for it is short, and stays so.
type reader struct {
	rest  []byte
	short bool
}

func (r *reader) take(n uint64) []byte {
	if n > uint64(len(r.rest)) {
		r.short = true
		return nil
	}
	field := r.rest[:n]
	r.rest = r.rest[n:]
	return field
}

// number reads a big-endian number of so many bytes.
func (r *reader) number(size uint64) (n uint64) {
	for _, b := range r.take(size) {
		n = n<<8 | uint64(b)
	}
	return n
}
