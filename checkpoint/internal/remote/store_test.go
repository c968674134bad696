package remote_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/checkpoint/internal/remote"
	"github.com/streamsafe/streamsafe/checkpoint/storetest"
)

var (
	errLost    = errors.New("the answer was lost")
	errRefused = errors.New("connection refused")
	errWrong   = errors.New("permission denied")
)

// fake is a server in memory. Its requests can be refused, done without an answer, or kept on their way.
type fake struct {
	mu     sync.Mutex // guards the fields below
	states map[string]remote.State
	calls  int
	fault  func(call int, do func() error) error // around each request; nil: none. mu is not held
}

func (f *fake) request(do func() error) error {
	f.mu.Lock()
	f.calls++
	call, fault := f.calls, f.fault
	f.mu.Unlock()
	locked := func() error {
		f.mu.Lock()
		defer f.mu.Unlock()
		return do()
	}
	if fault == nil {
		return locked()
	}
	return fault(call, locked)
}

func (f *fake) Read(_ context.Context, key string) (s remote.State, there bool, err error) {
	err = f.request(func() error {
		s, there = f.states[key]
		return nil
	})
	return s, there, err
}

func (f *fake) Swap(_ context.Context, key string, from, to remote.State) (_ uint64, swapped bool, err error) {
	err = f.request(func() error {
		now := f.states[key]
		if swapped = now.Write == from.Write && now.Epoch == from.Epoch; swapped {
			to.UpdatedAt = later(now.UpdatedAt)
			f.states[key] = to
		}
		return nil
	})
	return 0, swapped, err
}

func (f *fake) Acquire(_ context.Context, key string, owner, write uint64) (s remote.State, err error) {
	err = f.request(func() error {
		s = f.states[key]
		s.Epoch, s.Deleted, s.Owner, s.Write, s.UpdatedAt = s.Epoch+1, false, owner, write, later(s.UpdatedAt)
		if f.states == nil {
			f.states = make(map[string]remote.State)
		}
		f.states[key] = s
		return nil
	})
	return s, err
}

func (f *fake) Judge(err error) remote.Verdict {
	switch {
	case errors.Is(err, errRefused):
		return remote.Again
	case errors.Is(err, errWrong):
		return remote.Final
	}
	return remote.Doubt
}

func later(t time.Time) time.Time {
	if now := time.Now().Round(0).UTC(); now.After(t) {
		return now
	}
	return t
}

func TestStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(*testing.T) checkpoint.Store { return remote.New("fake", new(fake), 0) })
}

// Invariant 55, and 54: whatever request is refused, or done without an answer, the contract holds.
func TestStoreOnAServerWithFaults(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(call int, do func() error) error{
		"each third request is refused": func(call int, do func() error) error {
			if call%3 == 0 {
				return errRefused
			}
			return do()
		},
		"each fourth answer is lost": func(call int, do func() error) error {
			err := do()
			if call%4 == 0 {
				return errLost
			}
			return err
		},
		"each fourth request is lost": func(call int, do func() error) error {
			if call%4 == 0 {
				return errLost
			}
			return do()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store := remote.New("fake", &fake{fault: fault}, 0)
				var last checkpoint.Record
				for round := range 20 {
					key := fmt.Sprint("key", round%2)
					r, err := store.Acquire(t.Context(), key)
					require.NoError(t, err)
					for range 5 {
						r.Position.Seq++
						require.NoError(t, store.Commit(t.Context(), key, r.Epoch, r.Position))
						r.Position.Token = "another"
						require.NoError(t, store.Commit(t.Context(), key, r.Epoch, r.Position))
						last, err = store.Load(t.Context(), key)
						require.NoError(t, err)
						require.Equal(t, r.Position, last.Position)
					}
					back := r.Position
					back.Seq--
					require.ErrorIs(t, store.Commit(t.Context(), key, r.Epoch, back), checkpoint.ErrRegression)
					require.ErrorIs(t, store.Commit(t.Context(), key, r.Epoch-1, r.Position), checkpoint.ErrFenced)
					if round%5 == 4 {
						require.NoError(t, store.Delete(t.Context(), key))
						require.ErrorIs(t, store.Commit(t.Context(), key, r.Epoch, r.Position), checkpoint.ErrFenced)
					}
				}
			})
		})
	}
}

// A commit takes one request, also the first one of an owner.
func TestACommitIsOneRoundTrip(t *testing.T) {
	t.Parallel()
	f := new(fake)
	store := remote.New("fake", f, 0)
	r, err := store.Acquire(t.Context(), "key")
	require.NoError(t, err)
	before := f.calls
	for seq := range uint64(10) {
		require.NoError(t, store.Commit(t.Context(), "key", r.Epoch, checkpoint.Position{Seq: seq + 1}))
	}
	require.Equal(t, 10, f.calls-before, "requests of ten commits")
}

// A write that was given up, and arrives when later ones are done, changes nothing: 1. The request of page 1 is on its way, and
// the caller gives up. 2. Pages 1 and 2 are committed. 3. The request arrives. Pages have no order, so only the version of the
// record tells.
func TestALateWriteIsRefused(t *testing.T) {
	t.Parallel()
	f := new(fake)
	store := remote.New("fake", f, 0)
	r, err := store.Acquire(t.Context(), "key")
	require.NoError(t, err)
	var late func() error
	f.fault = func(_ int, do func() error) error {
		if late == nil {
			late = do
			return errLost
		}
		return do()
	}
	require.NoError(t, store.Commit(t.Context(), "key", r.Epoch, checkpoint.Position{Token: "page 1"}))
	require.NoError(t, store.Commit(t.Context(), "key", r.Epoch, checkpoint.Position{Token: "page 2"}))
	require.NoError(t, late())
	now, err := store.Load(t.Context(), "key")
	require.NoError(t, err)
	require.Equal(t, "page 2", now.Position.Token, "invariant 24: nothing goes back")
}

// The same, if the late write arrives after the read that looked for it.
func TestALateWriteThatArrivesBeforeTheNextOne(t *testing.T) {
	t.Parallel()
	f := new(fake)
	store := remote.New("fake", f, 0)
	r, err := store.Acquire(t.Context(), "key")
	require.NoError(t, err)
	var late func() error
	f.fault = func(call int, do func() error) error {
		switch call {
		case 2: // the write
			late = do
			return errLost
		case 4: // the next try of it
			require.NoError(t, late())
		}
		return do()
	}
	require.NoError(t, store.Commit(t.Context(), "key", r.Epoch, checkpoint.Position{Seq: 1}), "invariant 54: its own write")
	require.Equal(t, 5, f.calls, "acquire, write, read, write, read")
}

// Invariant 54: an answer is lost, and there is a newer owner when the store finds out.
func TestALostAnswerAndANewerOwner(t *testing.T) {
	t.Parallel()
	for _, done := range []bool{true, false} {
		f := new(fake)
		one, other := remote.New("fake", f, 0), remote.New("fake", f, 0)
		r, err := one.Acquire(t.Context(), "key")
		require.NoError(t, err)
		f.fault = func(call int, do func() error) error {
			if call != 2 {
				return do()
			}
			if done {
				require.NoError(t, do())
			}
			newer, err := other.Acquire(t.Context(), "key")
			require.NoError(t, err)
			require.Equal(t, done, newer.Position.Seq == 1, "the newer owner starts where the store is")
			return errLost
		}
		require.ErrorIs(t, one.Commit(t.Context(), "key", r.Epoch, checkpoint.Position{Seq: 1}), checkpoint.ErrFenced, "done: %v", done)
	}
}

// Invariant 54: an answer is lost, and the record has been changed by the same owner when the store finds out. Nobody knows.
func TestALostAnswerAndAnotherWrite(t *testing.T) {
	t.Parallel()
	f := new(fake)
	one, other := remote.New("fake", f, 0), remote.New("fake", f, 0)
	r, err := one.Acquire(t.Context(), "key")
	require.NoError(t, err)
	f.fault = func(call int, do func() error) error {
		if call != 2 {
			return do()
		}
		require.NoError(t, do())
		require.NoError(t, other.Commit(t.Context(), "key", r.Epoch, checkpoint.Position{Seq: 2}))
		return errLost
	}
	err = one.Commit(t.Context(), "key", r.Epoch, checkpoint.Position{Seq: 1})
	require.ErrorIs(t, err, errLost)
	require.NotErrorIs(t, err, checkpoint.ErrRegression, "it was written, before the other one")
	require.NotErrorIs(t, err, checkpoint.ErrFenced)
}

// Invariant 17: a server that has lost its last writes is found by whoever has made them.
func TestAServerThatHasLostWrites(t *testing.T) {
	t.Parallel()
	f := new(fake)
	one, other := remote.New("fake", f, 0), remote.New("fake", f, 0)
	_, err := one.Acquire(t.Context(), "key")
	require.NoError(t, err)
	backup := f.states["key"]
	r, err := one.Acquire(t.Context(), "key")
	require.NoError(t, err)
	require.NoError(t, one.Commit(t.Context(), "key", r.Epoch, checkpoint.Position{Seq: 7}))

	f.states["key"] = backup
	require.ErrorIs(t, one.Commit(t.Context(), "key", r.Epoch, checkpoint.Position{Seq: 8}), checkpoint.ErrFenced, "its epoch is gone")
	twin, err := other.Acquire(t.Context(), "key")
	require.NoError(t, err)
	require.Equal(t, r.Epoch, twin.Epoch, "the epoch is given out again")
	require.ErrorIs(t, one.Commit(t.Context(), "key", r.Epoch, checkpoint.Position{Seq: 8}), checkpoint.ErrFenced,
		"there are two owners with this epoch, and it is the one from before")
	require.NoError(t, other.Commit(t.Context(), "key", twin.Epoch, checkpoint.Position{Seq: 3}))

	f.states["key"] = backup
	_, err = one.Acquire(t.Context(), "key")
	require.ErrorIs(t, err, remote.ErrLostWrites)
	again, err := one.Acquire(t.Context(), "key")
	require.NoError(t, err, "again: accepted")
	require.NoError(t, one.Commit(t.Context(), "key", again.Epoch, checkpoint.Position{Seq: 1}))
}

// Invariant 55: each call ends in time, and the error matches the caller's context only if that is done.
func TestCallsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := new(fake)
		store := remote.New("fake", f, time.Second)
		_, err := store.Acquire(t.Context(), "key")
		require.NoError(t, err)
		hang := remote.New("fake", hanging{f}, time.Second)
		for name, call := range map[string]func(context.Context) error{
			"Acquire": func(ctx context.Context) error { _, err := hang.Acquire(ctx, "key"); return err },
			"Commit": func(ctx context.Context) error {
				return hang.Commit(ctx, "key", 1, checkpoint.Position{Seq: 1})
			},
			"Load":   func(ctx context.Context) error { _, err := hang.Load(ctx, "key"); return err },
			"Delete": func(ctx context.Context) error { return hang.Delete(ctx, "key") },
		} {
			began := time.Now()
			err := call(t.Context())
			require.ErrorContains(t, err, "no success within 1s, see WithTimeout", name)
			require.NotErrorIs(t, err, context.DeadlineExceeded, name)
			require.Equal(t, time.Second, time.Since(began), name)

			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			require.ErrorIs(t, call(ctx), context.DeadlineExceeded, name)
			cancel()
		}
	})
}

// hanging answers nothing.
type hanging struct{ *fake }

func (hanging) Read(ctx context.Context, _ string) (remote.State, bool, error) {
	<-ctx.Done()
	return remote.State{}, false, ctx.Err()
}

func (hanging) Swap(ctx context.Context, _ string, _, _ remote.State) (uint64, bool, error) {
	<-ctx.Done()
	return 0, false, ctx.Err()
}

func (hanging) Acquire(ctx context.Context, _ string, _, _ uint64) (remote.State, error) {
	<-ctx.Done()
	return remote.State{}, ctx.Err()
}

func TestFinalErrorsAreNotTriedAgain(t *testing.T) {
	t.Parallel()
	f := &fake{fault: func(int, func() error) error { return errWrong }}
	store := remote.New("fake", f, 0)
	_, acquireErr := store.Acquire(t.Context(), "key")
	_, loadErr := store.Load(t.Context(), "key")
	for _, err := range []error{acquireErr, loadErr, store.Commit(t.Context(), "key", 1, checkpoint.Position{}), store.Delete(t.Context(), "key")} {
		require.ErrorIs(t, err, errWrong)
	}
	require.Equal(t, 4, f.calls)
}

// What a store remembers is bounded. To forget a record costs a read.
func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	const keys = 1<<16 + 100
	f := new(fake)
	store := remote.New("fake", f, 0)
	for n := range keys {
		_, err := store.Acquire(t.Context(), strconv.Itoa(n))
		require.NoError(t, err)
	}
	before := f.calls
	for n := range keys {
		require.NoError(t, store.Commit(t.Context(), strconv.Itoa(n), 1, checkpoint.Position{Seq: math.MaxUint64}))
	}
	require.GreaterOrEqual(t, f.calls-before, keys+100, "those that were forgotten were read")
	require.Less(t, f.calls-before, keys+20_000)
}
