package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/streamsafe/streamsafe/internal/testnet"
)

const (
	holeLasts  = 15 * time.Second // a black hole, at the most: longer than keepalive takes to find it
	doorLasts  = 2 * time.Second  // a refusal
	memberAway = 1500 * time.Millisecond
)

// fault is something that goes wrong. do returns when it is over.
type fault struct {
	name string
	do   func(ctx context.Context, s *saboteur) error
}

// faults returns one of each kind.
func faults() []fault {
	return []fault{
		{"connections of one member closed", cutOne(testnet.FIN)},
		{"connections of one member reset", cutOne(testnet.RST)},
		{"connections of one member cut inside a frame", cutOne(testnet.Truncate)},
		{"connections of all members reset", cutAll},
		{"connections of one member in a black hole", blackHole},
		{"all members refuse connections", refuse},
		{"one member crashes", crash(1)},
		{"two members crash, no majority", crash(2)},
		{"one member stopped in order", stopInOrder},
		{"history compacted behind everybody's back", compact},
	}
}

// plan draws so many faults. Each kind occurs before one occurs again.
func plan(random *rand.Rand, count int) []fault {
	var drawn []fault
	for len(drawn) < count {
		deck := faults()
		random.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
		drawn = append(drawn, deck...)
	}
	return drawn[:count]
}

// cutOne cuts the connections of a member that somebody watches.
func cutOne(kind testnet.Kind) func(context.Context, *saboteur) error {
	return func(_ context.Context, s *saboteur) error {
		s.cluster.proxies[s.watched()].Cut(kind)
		return nil
	}
}

func cutAll(ctx context.Context, s *saboteur) error {
	for _, proxy := range s.cluster.proxies {
		proxy.Cut(testnet.RST)
	}
	s.writers.burst(ctx, s.random)
	return nil
}

// blackHole leaves connections open that carry nothing any more, until every watcher has found a way around them.
func blackHole(ctx context.Context, s *saboteur) error {
	proxy := s.cluster.proxies[s.watched()]
	proxy.Cut(testnet.BlackHole)
	defer proxy.Heal()
	s.writers.burst(ctx, s.random)
	return s.settleWithin(ctx, holeLasts)
}

func refuse(ctx context.Context, s *saboteur) error {
	s.shutDoors()
	defer s.heal()
	s.writers.burst(ctx, s.random)
	return pause(ctx, doorLasts)
}

// crash kills members, a watched one among them.
func crash(count int) func(context.Context, *saboteur) error {
	return func(ctx context.Context, s *saboteur) error {
		first := s.watched()
		victims := make([]int, 0, count)
		for i := range count {
			victims = append(victims, (first+i)%members)
		}
		s.cluster.kill(victims...)
		s.stopped += count
		if err := pause(ctx, memberAway); err != nil {
			return err
		}
		return s.cluster.restart(ctx, victims...)
	}
}

func stopInOrder(ctx context.Context, s *saboteur) error {
	victim := s.watched()
	s.cluster.stop(victim)
	s.stopped++
	if err := pause(ctx, memberAway); err != nil {
		return err
	}
	return s.cluster.restart(ctx, victim)
}

// compact removes history that no watcher has seen: all are cut off, and changes go on in the meantime. The truth is read
// before it is gone.
func compact(ctx context.Context, s *saboteur) error {
	s.shutDoors()
	defer s.heal()
	s.writers.burst(ctx, s.random)
	if err := pause(ctx, doorLasts/2); err != nil {
		return err
	}
	now, err := s.marks.put(ctx)
	if err != nil {
		return err
	}
	if err := s.history.readTo(ctx, now.revision); err != nil {
		return err
	}
	_, err = insist(ctx, readTimeout, func(ctx context.Context) (*clientv3.CompactResponse, error) {
		return s.client.Compact(ctx, now.revision)
	})
	if err != nil {
		return fmt.Errorf("compact: %w", err)
	}
	s.compacted = now.revision
	return pause(ctx, doorLasts/4)
}
