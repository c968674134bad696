package storetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/streamsafe/streamsafe/checkpoint"
)

// Run checks a store. It calls open once for each case, and open returns an empty store each time: no key in it was
// ever acquired. What open has to close it closes with t.Cleanup. The cases run one after the other.
func Run(t *testing.T, open func(t *testing.T) checkpoint.Store) {
	t.Helper()
	for _, c := range cases() {
		t.Run(c.name, func(t *testing.T) {
			c.run(&probe{T: t, store: open(t)})
		})
	}
}

// RunDurable checks that records outlive the store that wrote them. place is an empty directory, another one for each
// case; a store that is not kept in files takes it as the name of a place of its own. open is called more than once
// with the same place, never while an earlier store is open. A store that is an [io.Closer] is closed by RunDurable,
// any other is closed by open with t.Cleanup, or not at all.
func RunDurable(t *testing.T, open func(t *testing.T, place string) checkpoint.Store) {
	t.Helper()
	for _, c := range durableCases() {
		t.Run(c.name, func(t *testing.T) {
			place := t.TempDir()
			p := &probe{T: t}
			p.reopen = func() {
				p.Helper()
				p.close()
				p.store = open(t, place)
			}
			p.reopen()
			c.run(p)
			p.close()
		})
	}
}

type testCase struct {
	name string
	run  func(p *probe)
}

func cases() []testCase {
	return []testCase{
		{"unknown key", unknownKey},
		{"acquire commit load", acquireCommitLoad},
		{"zombie", zombie},
		{"lose and regain", loseAndRegain},
		{"regression", regression},
		{"lineage", lineage},
		{"unordered", unordered},
		{"delete", remove},
		{"done context", doneContext},
		{"limits", limits},
		{"odd keys", oddKeys},
		{"any bytes", anyBytes},
		{"updated at", updatedAt},
		{"concurrent commits", concurrentCommits},
		{"handover", handover},
		{"racing owners", racingOwners},
		{"concurrent keys", concurrentKeys},
	}
}

// probe is a test and the store that it looks at. Its methods end the test if the store does not do as expected.
type probe struct {
	*testing.T
	store  checkpoint.Store
	reopen func() // closes the store and opens it again on the same place; nil in Run
}

func (p *probe) acquire(key string) checkpoint.Record {
	p.Helper()
	r, err := p.store.Acquire(p.Context(), key)
	if err != nil {
		p.Fatalf("Acquire(%.40q): %v", key, err)
	}
	return r
}

func (p *probe) commit(key string, epoch uint64, to checkpoint.Position, why string) {
	p.Helper()
	if err := p.store.Commit(p.Context(), key, epoch, to); err != nil {
		p.Fatalf("Commit(%.40q, %d, %s): %v; it should succeed: %s", key, epoch, brief(to), err, why)
	}
}

// refuse commits what must not be committed, and sees that nothing changed.
func (p *probe) refuse(key string, epoch uint64, to checkpoint.Position, want error, why string) {
	p.Helper()
	before, loadErr := p.store.Load(p.Context(), key)
	err := p.store.Commit(p.Context(), key, epoch, to)
	p.wantError(err, want, why)
	after, err := p.store.Load(p.Context(), key)
	if (loadErr == nil) != (err == nil) || !same(before, after) {
		p.Fatalf("after a refused Commit(%.40q, %d, %s) the record is %s (%v), it was %s (%v)",
			key, epoch, brief(to), summary(after), err, summary(before), loadErr)
	}
}

func (p *probe) load(key string) checkpoint.Record {
	p.Helper()
	r, err := p.store.Load(p.Context(), key)
	if err != nil {
		p.Fatalf("Load(%.40q): %v", key, err)
	}
	return r
}

func (p *probe) remove(key string) {
	p.Helper()
	if err := p.store.Delete(p.Context(), key); err != nil {
		p.Fatalf("Delete(%.40q): %v", key, err)
	}
}

func (p *probe) wantRecord(r checkpoint.Record, epoch uint64, at checkpoint.Position, why string) {
	p.Helper()
	if r.Epoch != epoch || r.Position != at {
		p.Fatalf("the record has epoch %d and %s, want epoch %d and %s: %s",
			r.Epoch, brief(r.Position), epoch, brief(at), why)
	}
}

func (p *probe) wantMissing(key, why string) {
	p.Helper()
	_, err := p.store.Load(p.Context(), key)
	p.wantError(err, checkpoint.ErrNotFound, why)
}

func (p *probe) wantError(err, want error, why string) {
	p.Helper()
	if !errors.Is(err, want) {
		p.Fatalf("the error is %v, want %v: %s", err, want, why)
	}
}

func (p *probe) close() {
	p.Helper()
	if closer, ok := p.store.(io.Closer); ok {
		if err := closer.Close(); err != nil {
			p.Fatalf("Close: %v", err)
		}
	}
}

// same tells whether two records are equal, whatever time zone UpdatedAt is in.
func same(a, b checkpoint.Record) bool {
	return a.Epoch == b.Epoch && a.Position == b.Position && a.UpdatedAt.Equal(b.UpdatedAt)
}

func summary(r checkpoint.Record) string {
	return fmt.Sprintf("epoch %d at %s, updated at %v", r.Epoch, brief(r.Position), r.UpdatedAt)
}

// brief is a position short enough to print.
func brief(p checkpoint.Position) string {
	return fmt.Sprintf("(lineage %.40q, seq %d, token %.40q)", p.Lineage, p.Seq, p.Token)
}

// call is one method of a store, for rules that hold for all of them.
type call struct {
	name string
	run  func(ctx context.Context, s checkpoint.Store, key string) error
}

func calls() []call {
	return []call{
		{"Acquire", func(ctx context.Context, s checkpoint.Store, key string) error {
			_, err := s.Acquire(ctx, key)
			return err
		}},
		{"Commit", func(ctx context.Context, s checkpoint.Store, key string) error {
			return s.Commit(ctx, key, 1, checkpoint.Position{Seq: 99})
		}},
		{"Load", func(ctx context.Context, s checkpoint.Store, key string) error {
			_, err := s.Load(ctx, key)
			return err
		}},
		{"Delete", func(ctx context.Context, s checkpoint.Store, key string) error {
			return s.Delete(ctx, key)
		}},
	}
}
