package main

import (
	"context"
	"strconv"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const markEvery = 50 * time.Millisecond

// mark is a change in every watch, in one revision, which etcd has confirmed.
type mark struct {
	revision int64
	at       time.Time // when it was confirmed
}

// marks are written all the time. How long a watcher takes to see one, in every watch, is how far it is behind.
type marks struct {
	client *clientv3.Client // set at construction, then read only, as is specs
	specs  []spec

	running sync.WaitGroup
	cancel  context.CancelFunc

	mu  sync.Mutex // guards the field below
	all []mark
}

// startMarks starts to write marks. The client is not behind the proxies.
func startMarks(ctx context.Context, client *clientv3.Client, specs []spec) *marks {
	ctx, cancel := context.WithCancel(ctx)
	m := &marks{client: client, specs: specs, cancel: cancel}
	m.running.Go(func() { // ends with ctx; stop waits
		for pause(ctx, markEvery) == nil {
			_, _ = m.put(ctx) // an error is ctx's
		}
	})
	return m
}

// put writes a mark.
func (m *marks) put(ctx context.Context) (mark, error) {
	changes := make([]clientv3.Op, len(m.specs))
	for i, s := range m.specs {
		changes[i] = clientv3.OpPut(s.key+"mark", strconv.FormatInt(time.Now().UnixNano(), 10))
	}
	answer, err := insist(ctx, writeTimeout, func(ctx context.Context) (*clientv3.TxnResponse, error) {
		return m.client.Txn(ctx).Then(changes...).Commit()
	})
	if err != nil {
		return mark{}, err
	}
	made := mark{answer.Header.Revision, time.Now()}
	m.mu.Lock()
	m.all = append(m.all, made)
	m.mu.Unlock()
	return made, nil
}

// stop returns when no more marks are written.
func (m *marks) stop() {
	m.cancel()
	m.running.Wait()
}

// between returns the marks that were confirmed from one time to another.
func (m *marks) between(from, to time.Time) []mark {
	m.mu.Lock()
	defer m.mu.Unlock()
	var found []mark
	for _, mark := range m.all {
		if !mark.at.Before(from) && mark.at.Before(to) {
			found = append(found, mark)
		}
	}
	return found
}
