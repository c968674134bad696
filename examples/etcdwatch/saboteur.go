package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/streamsafe/streamsafe/internal/testnet"
)

const (
	settleLimit = 15 * time.Second
	calm        = 500 * time.Millisecond // between two faults
)

// saboteur makes things go wrong, one after the other, and waits in between until the watchers see what is new. It is used
// by one goroutine.
type saboteur struct {
	// set at construction, then read only
	cluster *cluster
	client  *clientv3.Client // not behind the proxies
	writers *writers
	marks   *marks
	history *history
	runners []*runner
	random  *rand.Rand
	out     io.Writer
	began   time.Time

	times     []time.Time // when each fault began
	stopped   int         // members
	compacted int64       // revision
	traffic   [members]int
}

// run lets faults happen.
func (s *saboteur) run(ctx context.Context, plan []fault) error {
	for _, f := range plan {
		s.measureTraffic()
		if err := pause(ctx, calm); err != nil {
			return err
		}
		s.times = append(s.times, time.Now())
		_, _ = fmt.Fprintf(s.out, "%5.1fs  %s\n", time.Since(s.began).Seconds(), f.name)
		if err := f.do(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		if err := s.settle(ctx); err != nil {
			return err
		}
	}
	return nil
}

// settle waits until every watcher has seen what is new now, but not for ever.
func (s *saboteur) settle(ctx context.Context) error { return s.settleWithin(ctx, settleLimit) }

func (s *saboteur) settleWithin(ctx context.Context, limit time.Duration) error {
	now, err := s.marks.put(ctx)
	if err != nil {
		return err
	}
	if err := s.history.readTo(ctx, now.revision); err != nil {
		return err
	}
	await(ctx, limit, func() bool {
		return forAll(s.runners, func(j *journal) bool { return j.hasReached(s.marks.specs, now.revision) })
	})
	return ctx.Err()
}

// measureTraffic notes what has passed, for watched.
func (s *saboteur) measureTraffic() {
	for i, proxy := range s.cluster.proxies {
		s.traffic[i] = proxy.Stats().ToClient.Messages
	}
}

// watched returns a member that a watcher has just been told something by, any member where there is none.
func (s *saboteur) watched() int {
	var busy []int
	for i, proxy := range s.cluster.proxies {
		if proxy.Stats().ToClient.Messages > s.traffic[i] {
			busy = append(busy, i)
		}
	}
	if len(busy) == 0 {
		return s.random.IntN(members)
	}
	return busy[s.random.IntN(len(busy))]
}

// shutDoors cuts everybody off until heal.
func (s *saboteur) shutDoors() {
	for _, proxy := range s.cluster.proxies {
		proxy.Refuse(true)
		proxy.Cut(testnet.RST)
	}
}

func (s *saboteur) heal() {
	for _, proxy := range s.cluster.proxies {
		proxy.Heal()
	}
}
