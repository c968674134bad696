package observe

import (
	"sync"
	"time"
)

// quiet lets each kind of event through once a minute. The kinds are a small, closed set.
type quiet struct {
	mu   sync.Mutex // guards the field below
	seen map[string]*quietKind
}

type quietKind struct {
	last time.Time
	more int // that were left out since
}

// pause is how long a kind of event is left out after it was let through.
const pause = time.Minute

func newQuiet() *quiet { return &quiet{} }

// allow reports whether an event of a kind is let through at now, and how many were left out before it.
func (q *quiet) allow(kind string, now time.Time) (more int, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	k := q.seen[kind]
	if k == nil {
		if q.seen == nil {
			q.seen = make(map[string]*quietKind)
		}
		k = &quietKind{}
		q.seen[kind] = k
	} else if now.Sub(k.last) < pause {
		k.more++
		return 0, false
	}
	more, k.more, k.last = k.more, 0, now
	return more, true
}
