package tap

import (
	"context"
	"net"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/peer"
	grpctap "google.golang.org/grpc/tap"
)

// OverflowKey is the key that all keys share for which there is no room. See [WithKey].
const OverflowKey = "*"

const (
	defaultKeys  = 1024
	maxKeyLength = 256
	keyIdle      = time.Minute // how long a key has to be idle before another may take its place
	maxRotations = 8           // how many keys in use are passed over in the search for an idle one
)

// ByMetadata is a key for [WithKey]: the first value of a metadata field, "" if there is none. A client can send what
// it likes, so use a field that somebody trusted sets or checks.
func ByMetadata(name string) func(context.Context, *grpctap.Info) string {
	name = strings.ToLower(name)
	return func(_ context.Context, info *grpctap.Info) string {
		if values := info.Header[name]; len(values) > 0 {
			return values[0]
		}
		return ""
	}
}

// ByMethod is a key for [WithKey]: the full name of the method.
func ByMethod() func(context.Context, *grpctap.Info) string {
	return func(_ context.Context, info *grpctap.Info) string { return info.FullMethodName }
}

// ByPeer is a key for [WithKey]: the address of the peer, without the port. It allocates.
func ByPeer() func(context.Context, *grpctap.Info) string {
	return func(ctx context.Context, _ *grpctap.Info) string {
		p, ok := peer.FromContext(ctx)
		if !ok || p.Addr == nil {
			return ""
		}
		if tcp, ok := p.Addr.(*net.TCPAddr); ok {
			return tcp.IP.String()
		}
		return p.Addr.String()
	}
}

// keyTable has the gates of each key.
type keyTable struct {
	keyRule            // set at construction, then read only
	gates    gateMaker // set at construction, then read only
	overflow *keyEntry // set at construction, then read only

	mu      sync.Mutex // guards the fields below, and those of the entries that are not read only
	entries map[string]*keyEntry
	recent  keyEntry // the head of the ring of entries: next was used last, previous is the least recently used
}

// keyEntry is one key.
type keyEntry struct {
	table *keyTable // set at construction, then read only
	key   string    // set at construction, then read only
	gates []gate    // set at construction, then read only

	next, previous *keyEntry
	used           time.Time
	running        int // RPCs that hold it
}

func newKeyTable(rule keyRule, gates gateMaker) (*keyTable, error) {
	if rule.limit == 0 {
		rule.limit = defaultKeys
	}
	t := &keyTable{keyRule: rule, gates: gates, entries: make(map[string]*keyEntry)}
	t.recent.next, t.recent.previous = &t.recent, &t.recent
	var err error
	t.overflow, err = t.newEntry(OverflowKey)
	return t, err
}

// newEntry makes the entry for a key. If its policies are wrong, it refuses every RPC.
func (t *keyTable) newEntry(key string) (*keyEntry, error) {
	e := &keyEntry{table: t, key: key}
	gates, err := t.gates.gatesOf(t.policies(key))
	if err != nil {
		gates = []gate{closedGate{misconfigured(err)}}
	}
	e.gates = gates
	return e, err
}

// find returns the entry for an RPC. With an accountant it counts as running until its end is called.
func (t *keyTable) find(ctx context.Context, info *grpctap.Info) *keyEntry {
	key := t.key(ctx, info)
	if key == OverflowKey || len(key) > maxKeyLength {
		return t.overflow
	}
	now := time.Now()
	if e, ok := t.known(key, now); ok {
		return e
	}
	// The user's code runs without the lock. The key is copied: it may be a part of a much larger block of headers.
	e, _ := t.newEntry(strings.Clone(key))
	return t.insert(e, now)
}

// known returns the entry of a key, or the one for overflow if the key has none and there is no room.
func (t *keyTable) known(key string, now time.Time) (*keyEntry, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e, ok := t.entries[key]; ok {
		t.useLocked(e, now)
		return e, true
	}
	if !t.roomLocked(now) {
		return t.overflow, true
	}
	return nil, false
}

// insert adds e, unless somebody else was faster.
func (t *keyTable) insert(e *keyEntry, now time.Time) *keyEntry {
	t.mu.Lock()
	defer t.mu.Unlock()
	if other, ok := t.entries[e.key]; ok {
		e = other
	} else if !t.roomLocked(now) {
		return t.overflow
	} else {
		t.entries[e.key] = e
		e.next, e.previous = e, e
	}
	t.useLocked(e, now)
	return e
}

// useLocked makes e the most recently used.
func (t *keyTable) useLocked(e *keyEntry, now time.Time) {
	t.touchLocked(e, now)
	if t.gates.accounts {
		e.running++
	}
}

func (t *keyTable) touchLocked(e *keyEntry, now time.Time) {
	e.used = now
	e.previous.next, e.next.previous = e.next, e.previous
	e.next, e.previous = t.recent.next, &t.recent
	e.next.previous, e.previous.next = e, e
}

// roomLocked makes room for one entry, or reports that there is none.
func (t *keyTable) roomLocked(now time.Time) bool {
	if len(t.entries) < t.limit {
		return true
	}
	for range maxRotations {
		oldest := t.recent.previous
		if now.Sub(oldest.used) < keyIdle {
			return false
		}
		if oldest.running == 0 {
			oldest.previous.next, oldest.next.previous = oldest.next, oldest.previous
			delete(t.entries, oldest.key)
			return true
		}
		t.touchLocked(oldest, now) // it is in use
	}
	return false
}

// end tells that an RPC of this key has ended.
func (e *keyEntry) end() {
	if e == e.table.overflow {
		return
	}
	e.table.mu.Lock()
	defer e.table.mu.Unlock()
	e.running--
}
