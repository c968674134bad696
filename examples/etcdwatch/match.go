package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	beginLimit = 30 * time.Second // for the watches to be made
	endLimit   = 30 * time.Second // for the watchers to see the last change
	leaveLimit = 10 * time.Second // for the watchers to end
)

// match is a run: contestants that watch one cluster while things go wrong.
type match struct {
	contestants []contestant
	seed        uint64
	faults      []fault
	dir         string    // for the files of etcd
	out         io.Writer // is told each fault
}

// play runs the match.
func (m match) play(ctx context.Context) (o outcome, err error) {
	cluster, err := startCluster(ctx, m.dir)
	if err != nil {
		return o, err
	}
	defer cluster.close()
	client, err := cluster.client()
	if err != nil {
		return o, err
	}
	defer func() { _ = client.Close() }() // nothing is lost with it
	first, err := insist(ctx, readTimeout, func(ctx context.Context) (*clientv3.GetResponse, error) {
		return client.Get(ctx, "/")
	})
	if err != nil {
		return o, err
	}
	history, err := newHistory(ctx, client, first.Header.Revision)
	if err != nil {
		return o, err
	}
	return m.watch(ctx, cluster, client, history)
}

// watch starts the watchers and judges them in the end.
func (m match) watch(ctx context.Context, cluster *cluster, client *clientv3.Client, history *history) (o outcome, err error) {
	specs := watches()
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	runners := make([]*runner, len(m.contestants))
	for i, c := range m.contestants {
		runners[i] = startRunner(watching, c, cluster.endpoints(), specs)
	}
	if !await(ctx, beginLimit, func() bool {
		return forAll(runners, func(j *journal) bool { return j.hasBegun(specs) })
	}) {
		return o, errors.Join(ctx.Err(), fmt.Errorf("some watches have not begun after %v", beginLimit))
	}
	s := &saboteur{
		cluster: cluster, client: client, history: history, runners: runners, began: time.Now(), out: m.out,
		random:  rand.New(rand.NewPCG(m.seed, 1<<32)), //nolint:gosec // repeatable on purpose
		writers: startWriters(ctx, client, m.seed), marks: startMarks(ctx, client, specs),
	}
	err = s.run(ctx, m.faults)
	s.writers.stop()
	s.marks.stop()
	if err != nil {
		return o, err
	}
	if err := s.finish(ctx); err != nil {
		return o, err
	}
	end := time.Now()
	if err := leave(runners, cancel); err != nil {
		return o, err
	}
	o.stopped, o.cuts = s.stopped, cluster.cuts()
	for _, r := range runners {
		o.results = append(o.results, result{
			contestant: r.contestant, err: r.err, verdict: compare(history, s.compacted, specs, r.journal),
			recover: recoveries(r.journal, s.marks, s.times, end),
		})
	}
	return o, nil
}

// finish waits until every watcher has seen the last change, but not for ever.
func (s *saboteur) finish(ctx context.Context) error {
	last, err := s.marks.put(ctx)
	if err != nil {
		return err
	}
	if err := s.history.readTo(ctx, last.revision); err != nil {
		return err
	}
	await(ctx, endLimit, func() bool {
		return forAll(s.runners, func(j *journal) bool { return j.hasReached(s.marks.specs, last.revision) })
	})
	return ctx.Err()
}

// leave ends the watchers and waits for them.
func leave(runners []*runner, cancel context.CancelFunc) error {
	cancel()
	timer := time.NewTimer(leaveLimit)
	defer timer.Stop()
	for _, r := range runners {
		select {
		case <-r.done:
		case <-timer.C:
			return fmt.Errorf("%s does not end", r.contestant.name)
		}
	}
	return nil
}
