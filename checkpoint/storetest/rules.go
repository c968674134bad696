package storetest

import (
	"context"
	"math"
	"runtime"
	"strings"
	"time"

	"github.com/streamsafe/streamsafe/checkpoint"
)

const key = "orders"

func unknownKey(p *probe) {
	p.wantMissing(key, "the key was never acquired")
	p.refuse(key, 0, checkpoint.Position{Seq: 1}, checkpoint.ErrFenced, "epoch 0 owns nothing")
	p.refuse(key, 1, checkpoint.Position{Seq: 1}, checkpoint.ErrFenced, "nobody acquired the key")
	p.remove(key)
	p.wantMissing(key, "neither Load nor Commit nor Delete makes a record")
	p.wantRecord(p.acquire(key), 1, checkpoint.Position{}, "the first owner of a key has epoch 1 and starts at the beginning")
}

func acquireCommitLoad(p *probe) {
	first := p.acquire(key)
	p.wantRecord(first, 1, checkpoint.Position{}, "the first owner of a key has epoch 1 and starts at the beginning")
	p.wantRecord(p.load(key), 1, checkpoint.Position{}, "an acquired key has a record")

	at := checkpoint.Position{Lineage: "history", Seq: 7, Token: "token"}
	p.commit(key, first.Epoch, at, "the owner commits")
	loaded := p.load(key)
	p.wantRecord(loaded, 1, at, "Load gives what was committed")
	if loaded.UpdatedAt.IsZero() {
		p.Fatal("UpdatedAt is zero after a Commit")
	}
	if again := p.load(key); !same(loaded, again) {
		p.Fatalf("Load gave %s and then %s: it must change nothing", summary(loaded), summary(again))
	}

	second := p.acquire(key)
	if second.Epoch <= first.Epoch {
		p.Fatalf("the second owner has epoch %d, the first had %d: it must be higher", second.Epoch, first.Epoch)
	}
	p.wantRecord(second, second.Epoch, at, "the next owner starts where the last one stopped")
	p.wantRecord(p.load(key), second.Epoch, at, "Load gives what Acquire gave")
	p.wantMissing("another "+key, "another key has nothing to do with it")
}

// zombie holds the first half of invariant 24.
func zombie(p *probe) {
	older := p.acquire(key)
	p.commit(key, older.Epoch, checkpoint.Position{Seq: 1}, "it owns the key")
	newer := p.acquire(key)
	p.refuse(key, older.Epoch, checkpoint.Position{Seq: 2}, checkpoint.ErrFenced, "a later Acquire took the key")
	p.refuse(key, older.Epoch, checkpoint.Position{Seq: 1}, checkpoint.ErrFenced, "also for the position that is there")
	p.refuse(key, older.Epoch, checkpoint.Position{Lineage: "other"}, checkpoint.ErrFenced, "also for another lineage")
	p.refuse(key, 0, checkpoint.Position{Seq: 2}, checkpoint.ErrFenced, "epoch 0 owns nothing")
	p.refuse(key, newer.Epoch+1, checkpoint.Position{Seq: 2}, checkpoint.ErrFenced, "this epoch was not given out yet")
	p.commit(key, newer.Epoch, checkpoint.Position{Seq: 3}, "it owns the key")
	p.refuse(key, older.Epoch, checkpoint.Position{Seq: 1}, checkpoint.ErrFenced,
		"who is fenced learns that first, and not that its position moves back")
	p.wantRecord(p.load(key), newer.Epoch, checkpoint.Position{Seq: 3}, "only the owner has moved it")
}

func loseAndRegain(p *probe) {
	a := p.acquire(key)
	p.commit(key, a.Epoch, checkpoint.Position{Seq: 1}, "it owns the key")
	b := p.acquire(key)
	p.commit(key, b.Epoch, checkpoint.Position{Seq: 2}, "it took the key")
	regained := p.acquire(key)
	p.wantRecord(regained, regained.Epoch, checkpoint.Position{Seq: 2}, "it goes on from where the other one got to")
	p.refuse(key, b.Epoch, checkpoint.Position{Seq: 3}, checkpoint.ErrFenced, "it lost the key")
	p.refuse(key, a.Epoch, checkpoint.Position{Seq: 3}, checkpoint.ErrFenced, "its first epoch is over for good")
	p.commit(key, regained.Epoch, checkpoint.Position{Seq: 3}, "it has the key again")
}

// regression holds the second half of invariant 24.
func regression(p *probe) {
	epoch := p.acquire(key).Epoch
	at := func(seq uint64, token string) checkpoint.Position {
		return checkpoint.Position{Lineage: "a", Seq: seq, Token: token}
	}
	p.commit(key, epoch, at(10, "x"), "it is the first")
	p.refuse(key, epoch, at(9, "x"), checkpoint.ErrRegression, "it moves back")
	p.refuse(key, epoch, at(1, "y"), checkpoint.ErrRegression, "it moves back, whatever the token")
	p.commit(key, epoch, at(10, "x"), "the same position again is fine")
	p.commit(key, epoch, at(10, "y"), "another token at the same Seq is fine")
	p.commit(key, epoch, at(11, ""), "it moves forward")

	epoch = p.acquire(key).Epoch
	p.refuse(key, epoch, at(10, "y"), checkpoint.ErrRegression, "a new owner may not move it back either")

	p.commit(key, epoch, at(math.MaxInt64, ""), "Seq has 64 bits")
	p.commit(key, epoch, at(math.MaxInt64+1, ""), "Seq has no sign")
	p.commit(key, epoch, at(math.MaxUint64, ""), "Seq has no sign")
	p.refuse(key, epoch, at(math.MaxInt64, ""), checkpoint.ErrRegression, "Seq has no sign")
	p.wantRecord(p.load(key), epoch, at(math.MaxUint64, ""), "Seq has 64 bits")
}

// lineage holds invariant 17.
func lineage(p *probe) {
	epoch := p.acquire(key).Epoch
	at := func(lineage string, seq uint64) checkpoint.Position {
		return checkpoint.Position{Lineage: lineage, Seq: seq}
	}
	p.commit(key, epoch, at("a", 100), "it is the first")
	p.commit(key, epoch, at("b", 5), "Seq counts anew in another lineage")
	p.refuse(key, epoch, at("b", 4), checkpoint.ErrRegression, "it moves back within the lineage")
	p.commit(key, epoch, at("a", 50), "a lineage that was left can come back, at any Seq")
	p.commit(key, epoch, at("", 5), "the empty lineage is one like any other")
	p.refuse(key, epoch, at("", 4), checkpoint.ErrRegression, "the empty lineage is one like any other")
	p.commit(key, epoch, at("A", 1), "lineages differ by case")
	p.commit(key, epoch, at("a", 1), "lineages differ by case")
	p.wantRecord(p.load(key), epoch, at("a", 1), "it is the last")
}

func unordered(p *probe) {
	epoch := p.acquire(key).Epoch
	for _, to := range []checkpoint.Position{
		{Lineage: "a", Token: "z"},
		{Lineage: "a", Token: "a"},
		{Lineage: "a", Seq: 5, Token: "m"},
		{Lineage: "a", Token: "b"},
		{Lineage: "a", Seq: 3},
		{},
		{Token: "c"},
	} {
		p.commit(key, epoch, to, "Seq 0 is compared with nothing, before or after")
		p.wantRecord(p.load(key), epoch, to, "it is the last")
	}
}

// remove holds invariant 24 across a Delete.
func remove(p *probe) {
	var last uint64
	for range 3 {
		owner := p.acquire(key)
		if owner.Epoch <= last {
			p.Fatalf("epoch %d came after %d: it must grow, also across a Delete", owner.Epoch, last)
		}
		p.wantRecord(owner, owner.Epoch, checkpoint.Position{}, "a deleted key starts at the beginning")
		p.refuse(key, last, checkpoint.Position{Seq: 50}, checkpoint.ErrFenced, "this owner is from before the Delete")
		p.commit(key, owner.Epoch, checkpoint.Position{Seq: 10 - owner.Epoch}, "what was deleted does not count")

		p.remove(key)
		p.wantMissing(key, "it is deleted")
		p.refuse(key, owner.Epoch, checkpoint.Position{Seq: 50}, checkpoint.ErrFenced, "Delete fences the owner")
		p.refuse(key, owner.Epoch+1, checkpoint.Position{Seq: 50}, checkpoint.ErrFenced, "nobody has acquired it since")
		p.refuse(key, 0, checkpoint.Position{Seq: 50}, checkpoint.ErrFenced, "epoch 0 owns nothing")
		p.remove(key)
		last = owner.Epoch
	}
}

func doneContext(p *probe) {
	cancelled, cancel := context.WithCancel(p.Context())
	cancel()
	expired, cancel := context.WithDeadline(p.Context(), time.Unix(1, 0))
	defer cancel()

	owner := p.acquire(key)
	p.commit(key, owner.Epoch, checkpoint.Position{Seq: 1}, "it owns the key")
	before := p.load(key)
	for _, ctx := range []context.Context{cancelled, expired} {
		for _, c := range calls() {
			p.wantError(c.run(ctx, p.store, key), ctx.Err(), c.name+" with a context that is done")
			p.wantError(c.run(ctx, p.store, "other"), ctx.Err(), c.name+" of an unknown key with a context that is done")
			if after := p.load(key); !same(before, after) {
				p.Fatalf("%s with a context that is done changed %s into %s", c.name, summary(before), summary(after))
			}
			p.wantMissing("other", c.name+" with a context that is done changes nothing")
		}
	}
	p.commit(key, owner.Epoch, checkpoint.Position{Seq: 2}, "it owns the key still")
}

func limits(p *probe) {
	long := strings.Repeat("k", checkpoint.MaxKeySize)
	for _, c := range calls() {
		p.wantError(c.run(p.Context(), p.store, ""), checkpoint.ErrInvalidKey, c.name+" with an empty key")
		p.wantError(c.run(p.Context(), p.store, long+"k"), checkpoint.ErrInvalidKey, c.name+" with a key that is too long")
	}
	epoch := p.acquire(long).Epoch
	largest := checkpoint.Position{
		Lineage: strings.Repeat("l", checkpoint.MaxLineageSize),
		Seq:     1,
		Token:   strings.Repeat("t", checkpoint.MaxTokenSize),
	}
	p.commit(long, epoch, largest, "it is as large as positions may be")
	p.wantRecord(p.load(long), epoch, largest, "it is as large as positions may be")

	tooLarge := largest
	tooLarge.Lineage += "l"
	p.refuse(long, epoch, tooLarge, checkpoint.ErrInvalidPosition, "the lineage is too long")
	tooLarge = largest
	tooLarge.Token += "t"
	p.refuse(long, epoch, tooLarge, checkpoint.ErrInvalidPosition, "the token is too long")
}

func anyBytes(p *probe) {
	epoch := p.acquire(key).Epoch
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	for _, text := range []string{string(every), "\x00", "\xff", "\xef\xbf\xbd", " ", "\n", `'"\`, "a\x00", "a"} {
		at := checkpoint.Position{Lineage: text, Seq: 1, Token: text}
		p.commit(key, epoch, at, "lineage and token are bytes")
		p.wantRecord(p.load(key), epoch, at, "lineage and token are bytes")
	}
}

func updatedAt(p *probe) {
	const patience = 2 * time.Second // some stores count whole seconds
	epoch := p.acquire(key).Epoch
	p.commit(key, epoch, checkpoint.Position{Seq: 1}, "it owns the key")
	first := p.load(key).UpdatedAt
	last := first
	for seq, start := uint64(2), time.Now(); !last.After(first); seq++ {
		if time.Since(start) > patience {
			p.Fatalf("UpdatedAt is still %v after %d commits in %v", first, seq-1, patience)
		}
		p.commit(key, epoch, checkpoint.Position{Seq: seq}, "it owns the key")
		now := p.load(key).UpdatedAt
		if now.Before(last) {
			p.Fatalf("UpdatedAt went from %v back to %v", last, now)
		}
		last = now
		runtime.Gosched()
	}
	if now := p.acquire(key).UpdatedAt; now.Before(last) {
		p.Fatalf("UpdatedAt went from %v back to %v, by an Acquire", last, now)
	}
}
