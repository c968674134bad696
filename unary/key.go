package unary

import (
	"container/list"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/failsafe-go/failsafe-go"
)

// OverflowKey is the key that all keys share for which there is no room. See [WithKey].
const OverflowKey = "*"

const (
	defaultKeys  = 1024
	maxKeyLength = 256
	keyIdle      = time.Minute // how long a key has to be idle before another may take its place
)

// WithKey gives each key policies of its own, around the others of the call: each tenant, each back end. key tells the key of
// a call; policies makes the policies of a key, the outermost first, once for each, and once for [OverflowKey]. Neither may
// block. Both may be called by several goroutines at a time. Given twice, the last counts.
//
// At most maxKeys keys are kept; zero is 1,024, and less than zero a mistake. A key beyond that takes the place of the one
// that was not used for longest, if that was at least a minute ago. Otherwise it shares the policies of OverflowKey with all
// others like it, and so does a key longer than 256 bytes.
//
// Policies or an executor among the options of a call replace those of its key, too. Calls under WithExecutor have no
// policies of a key. Package tap has the same for a server's door, before a call costs anything.
func WithKey(
	key func(ctx context.Context, fullMethod string) string, policies func(key string) []failsafe.Policy[any], maxKeys int,
) Option {
	if key == nil || policies == nil || maxKeys < 0 {
		err := fmt.Errorf("WithKey needs a key, policies and at least one key, not %d", maxKeys)
		return Option{apply: func(o *options) { o.refuse(err) }}
	}
	if maxKeys == 0 {
		maxKeys = defaultKeys
	}
	table := &keyTable{key: key, policies: policies, limit: maxKeys, entries: make(map[string]*list.Element)}
	table.overflow = &keyEntry{key: OverflowKey, policies: policies(OverflowKey)}
	return Option{apply: func(o *options) { o.keys = table }}
}

// keyTable has the policies of each key.
type keyTable struct {
	key      func(context.Context, string) string // set at construction, then read only
	policies func(string) []failsafe.Policy[any]  // set at construction, then read only
	limit    int                                  // set at construction, then read only
	overflow *keyEntry                            // set at construction, then read only

	mu      sync.Mutex // guards the fields below, and those of the entries that are not read only
	entries map[string]*list.Element
	recent  list.List // of entries, the one that was used last in front
}

// keyEntry is one key.
type keyEntry struct {
	key      string                 // set at construction, then read only
	policies []failsafe.Policy[any] // set at construction, then read only

	used   time.Time
	chains map[*chain]*chain // with the policies of the key, by those inside of them
}

// chain returns the policies of a call's key around those of its method, which may be nil.
func (t *keyTable) chain(ctx context.Context, method string, inside *chain) (*chain, error) {
	if inside != nil && inside.executor != nil {
		return inside, nil
	}
	e := t.find(t.key(ctx, method), time.Now())
	t.mu.Lock()
	defer t.mu.Unlock()
	if c, ok := e.chains[inside]; ok {
		return c, nil
	}
	policies := slices.Clone(e.policies)
	if inside != nil {
		for _, l := range inside.levels {
			policies = append(policies, l.policy)
		}
	}
	c, err := newChain(policies)
	if err != nil {
		return nil, fmt.Errorf("unary: the policies of key %q: %w", e.key, err)
	}
	if e.chains == nil {
		e.chains = make(map[*chain]*chain)
	}
	e.chains[inside] = c
	return c, nil
}

// find returns the entry of a key.
func (t *keyTable) find(key string, now time.Time) *keyEntry {
	if key == OverflowKey || len(key) > maxKeyLength {
		return t.overflow
	}
	if e := t.known(key, now); e != nil {
		return e
	}
	// The user's code runs without the lock. The key is copied: it may be a part of a much larger string.
	key = strings.Clone(key)
	e := &keyEntry{key: key, policies: t.policies(key)}
	t.mu.Lock()
	defer t.mu.Unlock()
	if element, ok := t.entries[key]; ok { // somebody was faster
		return t.useLocked(element, now)
	}
	if !t.roomLocked(now) {
		return t.overflow
	}
	t.entries[key] = t.recent.PushFront(e)
	e.used = now
	return e
}

// known returns the entry of a key, or the one for overflow if the key has none and there is no room, or nil.
func (t *keyTable) known(key string, now time.Time) *keyEntry {
	t.mu.Lock()
	defer t.mu.Unlock()
	if element, ok := t.entries[key]; ok {
		return t.useLocked(element, now)
	}
	if len(t.entries) >= t.limit && !t.oldestIsIdleLocked(now) {
		return t.overflow
	}
	return nil
}

func (t *keyTable) useLocked(element *list.Element, now time.Time) *keyEntry {
	e := entryOf(element)
	e.used = now
	t.recent.MoveToFront(element)
	return e
}

func (t *keyTable) oldestIsIdleLocked(now time.Time) bool {
	return now.Sub(entryOf(t.recent.Back()).used) >= keyIdle
}

// roomLocked makes room for one entry, or reports that there is none.
func (t *keyTable) roomLocked(now time.Time) bool {
	if len(t.entries) < t.limit {
		return true
	}
	if !t.oldestIsIdleLocked(now) {
		return false
	}
	oldest := t.recent.Back()
	delete(t.entries, entryOf(oldest).key)
	t.recent.Remove(oldest)
	return true
}

func entryOf(element *list.Element) *keyEntry {
	e, _ := element.Value.(*keyEntry) // the list has nothing else
	return e
}
