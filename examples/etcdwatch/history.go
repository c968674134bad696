package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	historyReaders = 8 // requests at a time
	readTimeout    = 2 * time.Second
)

// history is what has really happened: the changes of every revision. It is not watched but read: what a revision has
// changed is the difference between the state of all keys at that revision and at the one before. It is used by one
// goroutine at a time.
type history struct {
	client   *clientv3.Client // set at construction, then read only
	changes  []change         // in the order of revisions
	revision int64            // up to and with this one
	state    state            // at that revision
}

// state is all keys at a revision, each with the change that made it what it is.
type state map[string]change

// newHistory returns one that begins after a revision.
func newHistory(ctx context.Context, client *clientv3.Client, revision int64) (*history, error) {
	keys, err := readState(ctx, client, revision)
	return &history{client: client, revision: revision, state: keys}, err
}

// readTo reads on, up to and with a revision. None of these may have been compacted.
func (h *history) readTo(ctx context.Context, revision int64) error {
	for h.revision < revision {
		states := make([]state, min(historyReaders, revision-h.revision))
		failures := make([]error, len(states))
		var reading sync.WaitGroup
		for i := range states {
			reading.Go(func() { // ends with the answer or ctx; Wait waits
				states[i], failures[i] = readState(ctx, h.client, h.revision+1+int64(i))
			})
		}
		reading.Wait()
		for i, next := range states {
			if failures[i] != nil {
				return failures[i]
			}
			if err := h.add(next); err != nil {
				return err
			}
		}
	}
	return nil
}

// add adds the changes that lead to the state at the next revision.
func (h *history) add(next state) error {
	revision := h.revision + 1
	for _, key := range slices.Sorted(maps.Keys(next)) {
		switch now := next[key]; {
		case now.revision == revision:
			h.changes = append(h.changes, now)
		case now != h.state[key]:
			return fmt.Errorf("revision %d: key %q was changed in revision %d, and nobody knew", revision, key, now.revision)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(h.state)) {
		if _, there := next[key]; !there {
			h.changes = append(h.changes, change{revision: revision, key: key, deleted: true})
		}
	}
	h.revision, h.state = revision, next
	return nil
}

// readState returns all keys as they were at a revision. It goes on trying while members are away.
func readState(ctx context.Context, client *clientv3.Client, revision int64) (state, error) {
	answer, err := insist(ctx, readTimeout, func(ctx context.Context) (*clientv3.GetResponse, error) {
		return client.Get(ctx, "", clientv3.WithPrefix(), clientv3.WithRev(revision))
	})
	if err != nil {
		return nil, fmt.Errorf("history at revision %d: %w", revision, err)
	}
	keys := make(state, len(answer.Kvs))
	for _, kv := range answer.Kvs {
		keys[string(kv.Key)] = putOf(kv)
	}
	return keys, nil
}
