package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	writerCount   = 3
	writeEvery    = 25 * time.Millisecond // by each writer
	writeTimeout  = 500 * time.Millisecond
	keysPerPrefix = 10
	burstChanges  = 40 // transactions of a burst
	shortest      = 200
	longest       = 2 << 10 // bytes of a value
)

// prefixes are those of the keys that are written. The first is in none of the watches.
func prefixes() []string { return []string{"/audit/", "/orders/", "/stock/"} }

// writers change keys all the time. What becomes of a change whose answer is lost does not matter: the history will tell.
type writers struct {
	client *clientv3.Client // set at construction, then read only

	running sync.WaitGroup
	cancel  context.CancelFunc
}

// startWriters starts to change keys. The client is not behind the proxies.
func startWriters(ctx context.Context, client *clientv3.Client, seed uint64) *writers {
	ctx, cancel := context.WithCancel(ctx)
	w := &writers{client: client, cancel: cancel}
	for i := range writerCount {
		w.running.Go(func() { // ends with ctx; stop waits
			random := rand.New(rand.NewPCG(seed, uint64(i))) //nolint:gosec // repeatable on purpose
			for pause(ctx, writeEvery) == nil {
				w.commit(ctx, anyChange(random))
			}
		})
	}
	return w
}

// stop returns when nobody writes any more.
func (w *writers) stop() {
	w.cancel()
	w.running.Wait()
}

// burst makes many large changes at once. A watcher that has missed them gets them in fragments.
func (w *writers) burst(ctx context.Context, random *rand.Rand) {
	prefix := prefixes()[1+random.IntN(2)]
	for range burstChanges {
		changes := make([]clientv3.Op, keysPerPrefix)
		for i := range changes {
			changes[i] = clientv3.OpPut(key(prefix, i), value(random, longest*3/4))
		}
		w.commit(ctx, changes)
	}
}

// commit makes changes in one revision.
func (w *writers) commit(ctx context.Context, changes []clientv3.Op) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	_, _ = w.client.Txn(ctx).Then(changes...).Commit() // members come and go
}

// anyChange returns the changes of a revision, each of another key: mostly one, sometimes several.
func anyChange(random *rand.Rand) []clientv3.Op {
	count := 1
	if random.IntN(4) == 0 {
		count += 1 + random.IntN(5)
	}
	var keys []string
	for len(keys) < count {
		next := key(prefixes()[random.IntN(3)], random.IntN(keysPerPrefix))
		if !slices.Contains(keys, next) {
			keys = append(keys, next)
		}
	}
	changes := make([]clientv3.Op, count)
	for i, key := range keys {
		if random.IntN(6) == 0 {
			changes[i] = clientv3.OpDelete(key)
		} else {
			changes[i] = clientv3.OpPut(key, value(random, shortest))
		}
	}
	return changes
}

func key(prefix string, number int) string { return fmt.Sprint(prefix, number) }

// value returns letters, at least so many.
func value(random *rand.Rand, least int) string {
	text := make([]byte, least+random.IntN(longest-least))
	for i := range text {
		text[i] = byte('a' + random.IntN(26))
	}
	return string(text)
}
