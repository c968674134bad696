package servertest

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/checkpoint"
)

const owners = 16

// operation is a call of a store.
type operation struct {
	kind  string // "acquire", "commit" or "load"
	epoch uint64 // of a commit
	seq   uint64
}

// outcome is what a call returned.
type outcome struct {
	epoch, seq uint64
	err        error
}

// state is what a key has.
type state struct{ epoch, seq uint64 }

// model is the contract of a store, for one key that was acquired. An Acquire may have been done twice, if an answer was lost, so
// epochs grow by one or more.
func model(first state) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return first },
		Step: func(s, in, out any) (bool, any) {
			now, op, got := s.(state), in.(operation), out.(outcome) //nolint:errcheck,forcetypeassert // nothing else is in the history
			owns, back := op.epoch == now.epoch, op.seq < now.seq
			switch {
			case op.kind == "load":
				return got.epoch == now.epoch && got.seq == now.seq, now
			case op.kind == "acquire":
				return got.epoch > now.epoch && got.seq == now.seq, state{got.epoch, now.seq}
			case errors.Is(got.err, checkpoint.ErrFenced):
				return !owns, now
			case errors.Is(got.err, checkpoint.ErrRegression):
				return owns && back, now
			}
			return owns && !back, state{now.epoch, op.seq}
		},
		Equal: func(a, b any) bool { return a == b },
	}
}

// owns acquires the key and commits a few times. It returns false if it is time to stop.
func owns(ctx context.Context, store checkpoint.Store, key string, random *rand.Rand, note func(operation, func() outcome) (outcome, bool)) bool {
	mine, goesOn := note(operation{kind: "acquire"}, func() outcome {
		r, err := store.Acquire(ctx, key)
		return outcome{r.Epoch, r.Position.Seq, err}
	})
	seq := mine.seq
	for i := 0; goesOn && i < 1+random.IntN(6); i++ {
		if i == 2 {
			note(operation{kind: "load"}, func() outcome {
				r, err := store.Load(ctx, key)
				return outcome{r.Epoch, r.Position.Seq, err}
			})
		}
		seq += uint64(random.IntN(5))
		op := operation{kind: "commit", epoch: mine.epoch, seq: max(1, seq-min(seq, uint64(random.IntN(3))))}
		var got outcome
		got, goesOn = note(op, func() outcome {
			return outcome{err: store.Commit(ctx, key, op.epoch, checkpoint.Position{Seq: op.seq})}
		})
		if errors.Is(got.err, checkpoint.ErrFenced) {
			break
		}
	}
	return goesOn
}

// Fight has 16 owners fight for one key, each with a store of its own on the same place, and proves that what they saw is a
// legal history (invariant 24).
func Fight(t *testing.T, open func() checkpoint.Store) {
	t.Helper()
	length := 10 * time.Second
	if testing.Short() {
		length = time.Second
	}
	const key, most = "the key", 20000 // operations, so that the proof takes seconds
	first, err := open().Acquire(t.Context(), key)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	var (
		mu      sync.Mutex // guards the field below
		history []porcupine.Operation
		all     sync.WaitGroup
		begun   = time.Now()
	)
	for n := range owners {
		store, random := open(), rand.New(rand.NewPCG(1, uint64(n)))
		note := func(op operation, call func() outcome) (outcome, bool) {
			called := time.Since(begun)
			got := call()
			if got.err != nil && !errors.Is(got.err, checkpoint.ErrFenced) && !errors.Is(got.err, checkpoint.ErrRegression) {
				t.Errorf("%s: %v", op.kind, got.err)
				return got, false
			}
			mu.Lock()
			defer mu.Unlock()
			done := porcupine.Operation{ClientId: n, Input: op, Output: got, Call: int64(called), Return: int64(time.Since(begun))}
			history = append(history, done)
			return got, ctx.Err() == nil && len(history) < most
		}
		all.Go(func() {
			for owns(t.Context(), store, key, random, note) {
				timer := time.NewTimer(time.Duration(random.IntN(300)) * time.Millisecond) // others get their turn
				<-timer.C
			}
		})
	}
	all.Wait()
	t.Logf("%d operations in %v", len(history), time.Since(begun).Round(time.Millisecond))
	succeeded := 0
	for _, op := range history {
		if got, in := op.Output.(outcome), op.Input.(operation); in.kind == "commit" && got.err == nil { //nolint:errcheck,forcetypeassert // as above
			succeeded++
		}
	}
	require.Greater(t, succeeded, owners, "commits that succeeded")
	result := porcupine.CheckOperationsTimeout(model(state{first.Epoch, first.Position.Seq}), history, time.Minute)
	require.Equal(t, porcupine.Ok, result, "a legal history of %d operations", len(history))
}
