package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"math"
	"os"
)

// lane is for the files whose names have the same hash: one call at a time works on one of them.
type lane struct {
	// turn is full while a call works. It is a channel and not a mutex: it is held while the disk is at work, and who
	// waits for it can stop waiting. Made at construction.
	turn chan struct{}
	// known holds, by file name, the generation that is on the disk for sure: this File has written or synced it. It is
	// owned by the call whose turn it is.
	known map[string]uint64
}

// maxKnown bounds what a lane knows. A file that it does not know is synced again when it is used, which is all.
const maxKnown = 1024

func (l *lane) knows(name string, generation uint64) {
	if l.known == nil {
		l.known = make(map[string]uint64)
	}
	l.known[name] = generation
	for other := range l.known {
		if len(l.known) <= maxKnown {
			return
		}
		if other != name {
			delete(l.known, other)
		}
	}
}

// lane returns the lane of a file. The file that Forget leaves has one for itself, since it is used in the turn of others.
func (f *File) lane(name string) *lane {
	keys := len(f.lanes) - 1
	if name == floorName {
		return &f.lanes[keys]
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(name)) // never fails
	return &f.lanes[h.Sum32()%uint32(keys)]
}

// enter waits for the lane's turn, or until ctx is done. The turn ends with leave.
func (l *lane) enter(ctx context.Context) error {
	select {
	case l.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := ctx.Err(); err != nil { // both were ready, and select took the other
		l.leave()
		return err
	}
	return nil
}

func (l *lane) leave() { <-l.turn }

// keyFile is the file of one key during one call, whose turn it is. Without a file it is the zero record.
type keyFile struct {
	disk disk
	lane *lane
	name string
	file *os.File // nil if there is none
	pair

	linked bool // the file has another name as well
}

// with calls work with the file of key, which no other call works on. What work gets to see is on the disk.
func (f *File) with(ctx context.Context, key string, work func(k *keyFile) error) (err error) {
	name := fileName(key)
	l := f.lane(name)
	if err := l.enter(ctx); err != nil {
		return err
	}
	defer l.leave()
	k, err := f.open(l, name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, k.close()) }()
	if err := k.settle(); err != nil {
		return err
	}
	k.newest.key = key
	return work(k)
}

// open opens a file and reads it. The caller closes it.
func (f *File) open(l *lane, name string) (*keyFile, error) {
	k := &keyFile{disk: f.disk, lane: l, name: name}
	file, info, err := k.disk.open(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return k, nil
	case errors.Is(err, errNotRegular):
		return nil, k.damaged(errNotRegular)
	case err != nil:
		return nil, err
	}
	k.file, k.linked = file, linked(info)
	if err := k.read(info.Size()); err != nil {
		return nil, errors.Join(err, k.close())
	}
	return k, nil
}

func (k *keyFile) read(size int64) error {
	b, err := k.disk.read(k.file, size, maxFileSize)
	if err != nil {
		return err
	}
	if k.pair, err = readSlots(b); err != nil {
		return k.damaged(err)
	}
	if fileName(k.newest.key) != k.name {
		return k.damaged(fmt.Errorf("it holds the key %.64q", k.newest.key))
	}
	return nil
}

func (k *keyFile) damaged(cause error) error {
	return &DamagedError{File: k.disk.path(k.name), Cause: cause}
}

func (k *keyFile) close() error {
	if k.file == nil {
		return nil
	}
	file := k.file
	k.file = nil
	return file.Close()
}

// settle puts the record that was read on the disk, if it may be in memory only. Otherwise a loss of power would take back
// a position that somebody has started from. That happens in two ways:
//
//   - A process was killed between a write and its sync, or between a rename and the sync of the directory. This File
//     does not know the record yet.
//   - A sync failed. The system may then take the bytes for written, so that the next sync does nothing: they are
//     written again.
//
// A record from before the one that this File has written is an error (invariant 17).
func (k *keyFile) settle() error {
	known := k.lane.known[k.name]
	switch {
	case k.file == nil && known != 0:
		return k.damaged(errors.New("the file is gone, and this store has written to it"))
	case k.newest.generation < known:
		return k.damaged(fmt.Errorf("it holds generation %d, and this store has written %d", k.newest.generation, known))
	case k.newest.generation == known && !k.behind:
		return nil
	}
	if err := k.disk.write(k.file, encode(k.newest), k.slot*k.size); err != nil {
		return err
	}
	if err := k.disk.sync(k.file); err != nil {
		return err
	}
	if err := k.disk.syncDir(); err != nil {
		return err
	}
	if k.behind {
		if err := k.markPast(1 - k.slot); err != nil {
			return err
		}
	}
	k.lane.knows(k.name, k.newest.generation)
	return nil
}

// put writes e. When it returns nil, e is on the disk; slots.go has the steps.
func (k *keyFile) put(e entry) error {
	if k.newest.generation == math.MaxUint64 {
		return k.damaged(errors.New("no generation is left"))
	}
	r := record{key: k.newest.key, generation: k.newest.generation + 1, entry: e}
	b := encode(r)
	// A file with another name belongs to a copy as well, made with hard links. The copy stays as it is. What a deleted
	// key has held does not stay, in neither slot.
	if k.file == nil || k.linked || e.deleted || len(b) > int(k.size) {
		if err := errors.Join(k.close(), k.disk.create(k.name, newFile(r))); err != nil {
			return err
		}
		k.lane.knows(k.name, r.generation)
		return nil
	}
	if err := k.disk.write(k.file, b, (1-k.slot)*k.size); err != nil {
		return err
	}
	if err := k.disk.sync(k.file); err != nil {
		return err
	}
	if err := k.markPast(k.slot); err != nil {
		return err
	}
	k.lane.knows(k.name, r.generation)
	return nil
}

// markPast marks the record in a slot as followed by another, which is on the disk.
func (k *keyFile) markPast(slot int64) error {
	return k.disk.write(k.file, []byte{markPast}, slot*k.size+int64(markAt))
}
