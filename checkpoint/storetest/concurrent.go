package storetest

import (
	"errors"
	"fmt"
	"strconv"
	"sync"

	"github.com/streamsafe/streamsafe/checkpoint"
)

// concurrentCommits has one owner commit from many goroutines, out of order. It holds the second half of invariant 24
// where commits meet.
func concurrentCommits(p *probe) {
	const (
		committers = 8
		each       = 20
		highest    = committers * each
	)
	epoch := p.acquire(key).Epoch
	var (
		all   sync.WaitGroup
		start = make(chan struct{})
		mu    sync.Mutex // guards the field below
		floor uint64     // the highest Seq whose commit has returned
	)
	reached := func(seq uint64) uint64 {
		mu.Lock()
		defer mu.Unlock()
		floor = max(floor, seq)
		return floor
	}
	commit := func(seq uint64) {
		before := reached(0)
		err := p.store.Commit(p.Context(), key, epoch, checkpoint.Position{Seq: seq, Token: decimal(seq)})
		switch {
		case err == nil && seq < before:
			p.Errorf("Commit of seq %d succeeded, and %d was committed before: want ErrRegression", seq, before)
		case err == nil:
			before = reached(seq)
		case !errors.Is(err, checkpoint.ErrRegression):
			p.Errorf("Commit of seq %d: %v; only ErrRegression is to be expected", seq, err)
		}
		r, err := p.store.Load(p.Context(), key)
		if err != nil || r.Position.Seq < before || r.Position.Token != decimal(r.Position.Seq) {
			p.Errorf("Load gave %s (%v), and seq %d was committed before", brief(r.Position), err, before)
		}
	}
	for first := range uint64(committers) {
		all.Go(func() {
			<-start
			for seq := first + 1; seq <= highest && !p.Failed(); seq += committers {
				commit(seq)
			}
		})
	}
	close(start)
	all.Wait()
	if now := p.load(key).Position.Seq; now != highest && !p.Failed() {
		p.Errorf("seq %d is there at the end, want %d: its commit cannot move anything back", now, highest)
	}
}

// handover takes a key from an owner that never stops committing. A commit in flight counts before the Acquire, and
// is in the record that Acquire returns, or it is fenced.
func handover(p *probe) {
	const rounds = 15
	owner := p.acquire(key)
	for range rounds {
		older := startCommitting(p, owner)
		<-older.moving
		owner = p.acquire(key)
		older.stop()
		if owner.Position.Seq != older.accepted {
			p.Fatalf("Acquire gave seq %d, and the older owner committed %d: its commit was lost, or not fenced",
				owner.Position.Seq, older.accepted)
		}
		p.wantRecord(p.load(key), owner.Epoch, owner.Position, "the older owner was fenced by the Acquire")
	}
}

// committing is an owner that commits until it is fenced.
type committing struct {
	accepted uint64        // the last Seq committed; written by the owner's goroutine, read when over is closed
	moving   chan struct{} // closed by the owner's goroutine when it has committed a few times, or ends
	taken    chan struct{} // closed by stop when the key has another owner
	over     chan struct{} // closed by the owner's goroutine when it ends
	stop     func()        // tells the owner that the key was taken, and waits for it to end
}

func startCommitting(p *probe, owner checkpoint.Record) *committing {
	c := &committing{
		accepted: owner.Position.Seq,
		moving:   make(chan struct{}),
		taken:    make(chan struct{}),
		over:     make(chan struct{}),
	}
	c.stop = sync.OnceFunc(func() {
		close(c.taken)
		<-c.over
	})
	go c.run(p, owner.Epoch) // until it is fenced; stop waits for it
	p.Cleanup(c.stop)
	return c
}

func (c *committing) run(p *probe, epoch uint64) {
	const few = 3
	defer close(c.over)
	moved := sync.OnceFunc(func() { close(c.moving) })
	defer moved()
	for n := 1; ; n++ {
		late := false
		select {
		case <-c.taken:
			late = true
		default:
		}
		err := p.store.Commit(p.Context(), key, epoch, checkpoint.Position{Seq: c.accepted + 1})
		if errors.Is(err, checkpoint.ErrFenced) {
			return
		}
		if err != nil || late {
			p.Errorf("the older owner's commit gave %v (begun after the key was taken: %v), want ErrFenced", err, late)
			return
		}
		c.accepted++
		if n == few {
			moved()
		}
	}
}

// racingOwners has many owners take a key and commit to it at once. The last one to take it wins.
func racingOwners(p *probe) {
	const owners = 16
	var (
		all    sync.WaitGroup
		mu     sync.Mutex          // guards the fields below
		epochs = map[uint64]bool{} // whether the owner's commit succeeded
		winner uint64
	)
	for range owners {
		all.Go(func() {
			r, err := p.store.Acquire(p.Context(), key)
			if err != nil {
				p.Errorf("Acquire: %v", err)
				return
			}
			err = p.store.Commit(p.Context(), key, r.Epoch, checkpoint.Position{Token: decimal(r.Epoch)})
			if err != nil && !errors.Is(err, checkpoint.ErrFenced) {
				p.Errorf("Commit: %v; only ErrFenced is to be expected", err)
			}
			mu.Lock()
			defer mu.Unlock()
			if _, twice := epochs[r.Epoch]; twice {
				p.Errorf("two owners have epoch %d", r.Epoch)
			}
			epochs[r.Epoch] = err == nil
			winner = max(winner, r.Epoch)
		})
	}
	all.Wait()
	if p.Failed() {
		p.FailNow()
	}
	if !epochs[winner] {
		p.Fatalf("the commit of the last owner, epoch %d, was fenced", winner)
	}
	p.wantRecord(p.load(key), winner, checkpoint.Position{Token: decimal(winner)}, "only the last owner can commit last")
	for epoch := range epochs {
		if epoch != winner {
			p.refuse(key, epoch, checkpoint.Position{Token: "late"}, checkpoint.ErrFenced, "another owner was later")
		}
	}
}

// concurrentKeys works on many keys at once, each with an owner that knows all that happens to it.
func concurrentKeys(p *probe) {
	const keys, commits = 24, 5
	var all sync.WaitGroup
	for n := range keys {
		all.Go(func() {
			key := fmt.Sprintf("%s %d", key, n)
			r, err := p.store.Acquire(p.Context(), key)
			if err != nil {
				p.Errorf("Acquire(%q): %v", key, err)
				return
			}
			for seq := range uint64(commits) {
				at := checkpoint.Position{Seq: seq + 1, Token: key}
				if err := p.store.Commit(p.Context(), key, r.Epoch, at); err != nil {
					p.Errorf("Commit(%q): %v", key, err)
				}
				if r, err := p.store.Load(p.Context(), key); err != nil || r.Position != at {
					p.Errorf("Load(%q) gave %s and %v, want %s: nobody else has this key", key, brief(r.Position), err, brief(at))
				}
			}
		})
	}
	all.Wait()
}

func decimal(n uint64) string { return strconv.FormatUint(n, 10) }
