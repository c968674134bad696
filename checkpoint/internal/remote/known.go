package remote

import "sync"

// maxKnown bounds what a store remembers. To forget a record costs a read.
const maxKnown = 1 << 16

// known is what a store remembers of the records that it has written or read for their owner. Without tokens, which
// nothing is compared with.
type known struct {
	mu     sync.Mutex // guards the field below
	states map[string]State
}

func (k *known) get(key string) (State, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s, ok := k.states[key]
	return s, ok
}

// put remembers s, unless a later owner of the key is known. Of a deleted key it remembers nothing.
func (k *known) put(key string, s State) {
	if s.Deleted {
		k.forget(key)
		return
	}
	s.Position.Token = ""
	k.mu.Lock()
	defer k.mu.Unlock()
	older, there := k.states[key]
	if there && older.Epoch > s.Epoch {
		return
	}
	if k.states == nil {
		k.states = make(map[string]State)
	}
	if !there && len(k.states) >= maxKnown {
		for other := range k.states {
			delete(k.states, other)
			break
		}
	}
	k.states[key] = s
}

func (k *known) forget(key string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.states, key)
}
