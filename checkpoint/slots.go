package checkpoint

import (
	"errors"
	"fmt"
)

// A key's file is two slots of the same size, each with room for one record. A new record overwrites the slot of the
// older one, so the newest record on the disk is never touched:
//
//  1. The record is written, live, over the slot that is not the newest, with the next generation.
//  2. The file is synced. From here on the record is on the disk.
//  3. The record in the other slot is marked past, by one byte. No sync follows: the byte reaches the disk by itself, or
//     with the next record.
//
// The call returns after step 3. So a slot that cannot be read means one of two things, and the mark tells which:
//
//   - The other slot is live. Step 3 was not reached, and the call that wrote the slot never returned: the process or
//     the machine stopped during it. The other slot holds the newest record.
//   - The other slot is past. A call that wrote a newer record has returned, and that record was damaged since. To fall
//     back to the older one would be a silent rewind (invariant 17), so the file is damaged.
//
// This finds a disk that has lost the write of a whole slot, too: the newest record that is left is past. There is one gap.
// If a machine loses power before the mark is on the disk, and the disk also loses the record that it had synced, the
// older record counts.
//
// A file gets its name, by a rename, when its first record is in it. So a file without a record is damaged.
const (
	// slotUnit is what the size of a slot is a multiple of. Slots share no block and no sector of a disk, so that a
	// write of one never touches the other.
	slotUnit    = 4096
	maxSlotSize = (maxRecordSize + slotUnit - 1) / slotUnit * slotUnit

	// maxFileSize bounds what is read of a file, whatever is in it.
	maxFileSize = 2 * maxSlotSize
)

// newFile returns the content of a file that holds r and nothing else.
func newFile(r record) []byte {
	b := encode(r)
	slot := (len(b) + slotUnit - 1) / slotUnit * slotUnit
	return append(b, make([]byte, 2*slot-len(b))...)
}

// pair is what the two slots of a file hold.
type pair struct {
	newest record
	slot   int64 // of the newest record: 0 or 1
	size   int64 // of a slot, in bytes
	behind bool  // the other slot holds a record that is not marked past
}

// readSlots finds the newest record in the content of a file. It needs no more than maxFileSize+1 bytes of a file that
// has more.
func readSlots(b []byte) (pair, error) {
	if err := checkVersion(b); err != nil {
		return pair{}, err
	}
	if len(b) == 0 || len(b) > maxFileSize || len(b)%(2*slotUnit) != 0 {
		return pair{}, errors.New("it does not have the size of a checkpoint file")
	}
	half := len(b) / 2
	// A torn write cannot change a version, since every record has the same. So the slot is from a later version of this
	// package.
	if err := checkVersion(b[half:]); err != nil {
		return pair{}, err
	}
	first, firstErr := decode(b[:half])
	second, secondErr := decode(b[half:])
	switch {
	case firstErr != nil && secondErr != nil:
		return pair{}, fmt.Errorf("it holds no record: %w; %w", firstErr, secondErr)
	case secondErr != nil || firstErr == nil && first.generation > second.generation:
		return newestOf(pair{newest: first, slot: 0, size: int64(half)}, second, secondErr)
	default:
		return newestOf(pair{newest: second, slot: 1, size: int64(half)}, first, firstErr)
	}
}

// newestOf returns p, unless what the other slot holds, or the error of reading it, tells that the newest record is lost.
func newestOf(p pair, other record, otherErr error) (pair, error) {
	p.behind = otherErr == nil && !other.past
	switch {
	case otherErr == nil && other.generation == p.newest.generation:
		return pair{}, fmt.Errorf("it holds two records of generation %d", other.generation)
	case !p.newest.past:
		return p, nil
	case otherErr == nil:
		otherErr = errors.New("an older one is in its place")
	}
	return pair{}, fmt.Errorf("the record of generation %d was followed by another, which is lost: %w",
		p.newest.generation, otherErr)
}
