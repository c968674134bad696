package checkpoint

import (
	"context"
	"sync"
	"time"
)

// Memory is a [Store] that forgets everything when the process ends: for tests, and for streams that need to survive
// broken connections but not restarts. The zero Memory is ready to use and must not be copied after first use.
//
// It holds one record per key, and for a deleted key its epoch.
type Memory struct {
	mu      sync.Mutex        // guards the fields below
	entries map[string]*entry // by key; made at first use
}

var _ Store = (*Memory)(nil)

// Acquire implements [Store].
func (m *Memory) Acquire(ctx context.Context, key string) (Record, error) {
	if err := check(ctx, key); err != nil {
		return Record{}, failed("acquire", key, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.entries[key]
	if e == nil {
		if m.entries == nil {
			m.entries = make(map[string]*entry)
		}
		e = new(entry)
		m.entries[key] = e
	}
	if err := e.acquire(time.Now()); err != nil {
		return Record{}, failed("acquire", key, err)
	}
	return e.Record, nil
}

// Commit implements [Store].
func (m *Memory) Commit(ctx context.Context, key string, epoch uint64, p Position) error {
	if err := check(ctx, key); err != nil {
		return failed("commit", key, err)
	}
	if err := p.Validate(); err != nil {
		return failed("commit", key, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return failed("commit", key, m.entry(key).commit(epoch, p, time.Now()))
}

// Load implements [Store].
func (m *Memory) Load(ctx context.Context, key string) (Record, error) {
	if err := check(ctx, key); err != nil {
		return Record{}, failed("load", key, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	r, err := m.entry(key).load()
	return r, failed("load", key, err)
}

// Delete implements [Store].
func (m *Memory) Delete(ctx context.Context, key string) error {
	if err := check(ctx, key); err != nil {
		return failed("delete", key, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.entry(key); e.live() {
		e.remove(time.Now())
	}
	return nil
}

// entry returns what is kept of key, or an entry never acquired that is kept nowhere. m.mu is held.
func (m *Memory) entry(key string) *entry {
	if e := m.entries[key]; e != nil {
		return e
	}
	return new(entry)
}
