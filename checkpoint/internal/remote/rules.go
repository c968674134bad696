package remote

import (
	"context"
	"fmt"

	"github.com/streamsafe/streamsafe/checkpoint"
)

// acquire makes a new owner.
func (s *Store) acquire(ctx context.Context, key string) (State, error) {
	var (
		t            tries
		owner, write = Random(), Random()
		before, had  = s.known.get(key)
	)
	done := func(now State) (State, error) {
		if had {
			if err := lost(before, now); err != nil {
				s.known.forget(key)
				return State{}, err
			}
		}
		s.known.put(key, now)
		return now, nil
	}
	for {
		state, err := s.backend.Acquire(ctx, key, owner, write)
		if err == nil {
			return done(state)
		}
		verdict := s.backend.Judge(err)
		if verdict == Final || !t.next(ctx) {
			return State{}, err
		}
		if verdict != Doubt {
			continue
		}
		// Invariant 54. If it was done, and somebody else has acquired the key since, this takes it again.
		now, there, readErr := s.read(ctx, key, &t)
		if readErr != nil {
			return State{}, fmt.Errorf("%w (before: %w)", readErr, err)
		}
		if there && now.Owner == owner && !now.Deleted {
			return done(now)
		}
	}
}

// lost returns an error if the server has less than it had when this store has last written (invariant 17).
func lost(before, now State) error {
	alone := now.Epoch == before.Epoch+1 // nobody else has owned the key in between
	if now.Epoch > before.Epoch && (!alone || !now.Position.Before(before.Position)) {
		return nil
	}
	return fmt.Errorf("%w: it had epoch %d at seq %d, and this process wrote epoch %d at seq %d; to acquire the key again accepts that",
		ErrLostWrites, now.Epoch-1, now.Position.Seq, before.Epoch, before.Position.Seq)
}

// commit writes p.
//
// The race that the first `if` of settle is for: 1. The answer to a write is lost. 2. A read finds the record from before
// it. 3. The write arrives. The next write names the record from before, so the server refuses it, and the next read finds
// the one of 1.
func (s *Store) commit(ctx context.Context, key string, epoch uint64, p checkpoint.Position) error {
	c := &change{store: s, key: key, write: Random()}
	from, ready := s.known.get(key)
	ready = ready && from.Epoch == epoch
	for {
		if !ready {
			now, there, err := s.read(ctx, key, &c.tries)
			if err != nil {
				return c.failed(err)
			}
			if err := s.fences(key, now, there, epoch); err != nil {
				return err
			}
			s.known.put(key, now)
			if done, err := c.settle(now); done || err != nil {
				return err
			}
			from = now
		}
		if p.Before(from.Position) {
			if ready { // somebody with the same epoch may have been in another lineage since
				ready = false
				continue
			}
			return moveBack(from.Position, p)
		}
		to := from
		to.Position = p
		done, err := c.try(ctx, from, to)
		if done || err != nil {
			return err
		}
		ready = false
	}
}

// Refuses returns the error of a commit to the record, if it is not allowed: ErrFenced or ErrRegression (invariant 24).
func (s *Store) Refuses(key string, now State, there bool, epoch uint64, p checkpoint.Position) error {
	if err := s.fences(key, now, there, epoch); err != nil {
		return err
	}
	if p.Before(now.Position) {
		return moveBack(now.Position, p)
	}
	return nil
}

func moveBack(from, to checkpoint.Position) error {
	return fmt.Errorf("%w: from %d to %d in lineage %q", checkpoint.ErrRegression, from.Seq, to.Seq, to.Lineage)
}

// fences returns an error that matches ErrFenced if the owner with this epoch has lost the key.
func (s *Store) fences(key string, now State, there bool, epoch uint64) error {
	mine, known := s.known.get(key)
	switch {
	case !there || now.Deleted:
		return fmt.Errorf("%w: epoch %d, and the key has no owner", checkpoint.ErrFenced, epoch)
	case now.Epoch != epoch:
		return fmt.Errorf("%w: epoch %d, and the owner's is %d", checkpoint.ErrFenced, epoch, now.Epoch)
	case known && mine.Epoch == epoch && mine.Owner != now.Owner:
		return fmt.Errorf("%w: the server has lost writes, and has given epoch %d to another owner as well", checkpoint.ErrFenced, epoch)
	}
	return nil
}

// Owner returns the random number of the owner with this epoch, or zero if this store does not know it.
func (s *Store) Owner(key string, epoch uint64) uint64 {
	if mine, ok := s.known.get(key); ok && mine.Epoch == epoch {
		return mine.Owner
	}
	return 0
}

// remove leaves a tombstone with the epoch.
func (s *Store) remove(ctx context.Context, key string) error {
	c := &change{store: s, key: key, write: Random()}
	for {
		now, there, err := s.read(ctx, key, &c.tries)
		if err != nil {
			return c.failed(err)
		}
		if !there || now.Deleted {
			return nil
		}
		if _, err := c.settle(now); err != nil {
			return err
		}
		to := now
		to.Position, to.Deleted = checkpoint.Position{}, true
		if done, err := c.try(ctx, now, to); done || err != nil {
			return err
		}
	}
}
