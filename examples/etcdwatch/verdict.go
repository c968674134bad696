package main

// verdict is what is wrong with the journal of one watcher.
type verdict struct {
	events     int // that the watcher saw
	lost       int // changes that it should have seen and did not
	duplicated int // seen more than once
	reordered  int // seen after one of a later revision
	unknown    int // seen, and not in the history like this
	gaps       int // compactions that it was told of
}

func (v verdict) ok() bool {
	return v.lost == 0 && v.duplicated == 0 && v.reordered == 0 && v.unknown == 0
}

// compare judges a journal. Changes up to and with revision compacted may be missing where the watcher was told so.
func compare(h *history, compacted int64, specs []spec, j *journal) (v verdict) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, s := range specs {
		v = v.plus(compareWatch(h, compacted, s, j.record(s.id)))
	}
	return v
}

func (v verdict) plus(o verdict) verdict {
	return verdict{
		events: v.events + o.events, lost: v.lost + o.lost, duplicated: v.duplicated + o.duplicated,
		reordered: v.reordered + o.reordered, unknown: v.unknown + o.unknown, gaps: v.gaps + o.gaps,
	}
}

// compareWatch judges one watch. A watch that never began should have seen everything.
func compareWatch(h *history, compacted int64, s spec, r *record) verdict {
	v := verdict{gaps: len(r.gaps)}
	expected := make(map[place]change)
	for _, c := range h.changes {
		if s.contains(c.key) && (!r.hasBegun || c.revision > r.began) {
			expected[c.place()] = c
		}
	}
	seen := make(map[place]bool, len(expected))
	newest := int64(0)
	for _, e := range r.entries {
		if e.revision > h.revision {
			continue // after the end
		}
		v.events++
		if expected[e.place()] != e.change {
			v.unknown++
			continue
		}
		if seen[e.place()] {
			v.duplicated++
			continue
		}
		seen[e.place()] = true
		if e.revision < newest {
			v.reordered++
		}
		newest = max(newest, e.revision)
	}
	for at := range expected {
		if !seen[at] && !r.excuses(at.revision, compacted) {
			v.lost++
		}
	}
	return v
}

// place names a change: a revision changes a key once.
type place struct {
	revision int64
	key      string
}

func (c change) place() place { return place{c.revision, c.key} }

// excuses reports whether a gap covers a revision, and there really was a compaction.
func (r *record) excuses(revision, compacted int64) bool {
	for _, g := range r.gaps {
		if g.after < revision && revision <= min(g.to, compacted) {
			return true
		}
	}
	return false
}
