package main

import (
	"encoding/binary"
	"hash/fnv"
	"slices"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// change is a change to one key in one revision, as a watcher saw it or as the history has it.
type change struct {
	revision int64
	key      string
	deleted  bool
	content  uint64 // hash of what was put; 0 where the key was deleted
}

// changeOf returns what an event tells.
func changeOf(e *mvccpb.Event) change {
	if e.Type == mvccpb.Event_DELETE {
		return change{revision: e.GetKv().GetModRevision(), key: string(e.GetKv().GetKey()), deleted: true}
	}
	return putOf(e.GetKv())
}

// putOf returns the change that left a key as it is.
func putOf(kv *mvccpb.KeyValue) change {
	hash := fnv.New64a()
	_, _ = hash.Write(binary.LittleEndian.AppendUint64(nil, uint64(kv.GetCreateRevision()))) // never an error
	_, _ = hash.Write(binary.LittleEndian.AppendUint64(nil, uint64(kv.GetVersion())))
	_, _ = hash.Write(kv.GetValue())
	return change{revision: kv.GetModRevision(), key: string(kv.GetKey()), content: hash.Sum64()}
}

// entry is a change that a watcher saw.
type entry struct {
	change
	at time.Time
}

// gap is a compaction that a watcher was told of: what it had not seen by then, up to and with a revision, is gone.
type gap struct {
	after, to int64 // revisions: the newest that was seen before, the one that was told
}

// record is what a watcher has seen in one watch.
type record struct {
	began    int64 // revision; meaningless until hasBegun
	hasBegun bool
	entries  []entry // in the order of arrival
	newest   int64   // revision of any entry; that at the beginning, where there is none
	gaps     []gap
}

// journal is what one watcher has seen. Its zero value is empty. It is safe for concurrent use.
type journal struct {
	mu      sync.Mutex // guards the field below
	watches map[int64]*record
}

// began notes that a watch sees everything after a revision: the created revision, as etcd calls it. Only the first call
// for a watch counts.
func (j *journal) began(watch, revision int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	r := j.record(watch)
	if r.hasBegun {
		return
	}
	r.began, r.hasBegun = revision, true
	r.newest = max(r.newest, revision)
}

// saw notes events in the order of arrival.
func (j *journal) saw(watch int64, events []*mvccpb.Event) {
	now := time.Now()
	j.mu.Lock()
	defer j.mu.Unlock()
	r := j.record(watch)
	for _, e := range events {
		c := changeOf(e)
		r.entries = append(r.entries, entry{c, now})
		r.newest = max(r.newest, c.revision)
	}
}

// compacted notes that the watcher was told that history up to and with a revision is gone. It excuses what had not been
// seen by then, and nothing older: call it when all that came before has been noted.
func (j *journal) compacted(watch, revision int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	r := j.record(watch)
	r.gaps = append(r.gaps, gap{after: r.newest, to: revision})
}

// record returns what a watch has seen, made where it is not there. The caller holds mu.
func (j *journal) record(watch int64) *record {
	r := j.watches[watch]
	if r == nil {
		if j.watches == nil {
			j.watches = make(map[int64]*record)
		}
		r = &record{}
		j.watches[watch] = r
	}
	return r
}

// hasBegun reports whether all watches have.
func (j *journal) hasBegun(specs []spec) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return !slices.ContainsFunc(specs, func(s spec) bool { return !j.record(s.id).hasBegun })
}

// hasReached reports whether all watches have seen a change of a revision, or of a newer one.
func (j *journal) hasReached(specs []spec, revision int64) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return !slices.ContainsFunc(specs, func(s spec) bool { return j.record(s.id).newest < revision })
}

// reached returns the time at which the last of the watches had seen a change of a revision, or of a newer one. It reports
// false where one has not yet.
func (j *journal) reached(specs []spec, revision int64) (at time.Time, ok bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, s := range specs {
		r := j.record(s.id)
		first := slices.IndexFunc(r.entries, func(e entry) bool { return e.revision >= revision })
		if first < 0 {
			return time.Time{}, false
		}
		if r.entries[first].at.After(at) {
			at = r.entries[first].at
		}
	}
	return at, true
}
