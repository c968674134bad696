package remote

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/streamsafe/streamsafe/checkpoint"
)

// DefaultTimeout is how long a call takes at most, if nothing else is said.
const DefaultTimeout = 5 * time.Second

// ErrLostWrites means that the server has less than this store has written to it.
var ErrLostWrites = errors.New("the server has lost writes")

// Store is a [checkpoint.Store] on a server. It must not be copied.
type Store struct {
	name    string // set at construction, then read only, as the next two are
	backend Backend
	timeout time.Duration
	known   known
}

// New returns a store. The name is where its errors come from. Without a timeout it is DefaultTimeout.
func New(name string, backend Backend, timeout time.Duration) *Store {
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	return &Store{name: name, backend: backend, timeout: timeout}
}

// Apply applies the options of a store. A nil option is an error.
func Apply[O any, F ~func(*O)](name string, to *O, opts []F) error {
	for _, opt := range opts {
		if opt == nil {
			return errors.New(name + ": an option is nil")
		}
		opt(to)
	}
	return nil
}

// Acquire implements [checkpoint.Store].
func (s *Store) Acquire(ctx context.Context, key string) (r checkpoint.Record, err error) {
	err = s.Call(ctx, "acquire", key, func(ctx context.Context) error {
		state, err := s.acquire(ctx, key)
		r = state.Record
		return err
	})
	return r, err
}

// Commit implements [checkpoint.Store].
func (s *Store) Commit(ctx context.Context, key string, epoch uint64, p checkpoint.Position) error {
	return s.Call(ctx, "commit", key, func(ctx context.Context) error {
		if err := p.Validate(); err != nil {
			return err
		}
		return s.commit(ctx, key, epoch, p)
	})
}

// Load implements [checkpoint.Store].
func (s *Store) Load(ctx context.Context, key string) (r checkpoint.Record, err error) {
	err = s.Call(ctx, "load", key, func(ctx context.Context) error {
		state, there, err := s.read(ctx, key, new(tries))
		switch {
		case err != nil:
			return err
		case !there || state.Deleted:
			return checkpoint.ErrNotFound
		}
		r = state.Record
		return nil
	})
	return r, err
}

// Delete implements [checkpoint.Store].
func (s *Store) Delete(ctx context.Context, key string) error {
	return s.Call(ctx, "delete", key, func(ctx context.Context) error { return s.remove(ctx, key) })
}

// Call calls f with a context that ends in time (invariant 55), unless ctx is done or the key is invalid. The error says
// what was being done, and to which key. It matches that of ctx only if ctx is done.
func (s *Store) Call(ctx context.Context, operation, key string, f func(context.Context) error) error {
	err := ctx.Err()
	if err == nil {
		err = checkpoint.ValidateKey(key)
	}
	if err == nil {
		err = s.Bounded(ctx, f)
	}
	if err == nil {
		return nil
	}
	const shown = 64
	if len(key) > shown {
		key = key[:shown] + "…"
	}
	return fmt.Errorf("%s: %s %q: %w", s.name, operation, key, err)
}

// Bounded calls f with a context that ends in time.
func (s *Store) Bounded(ctx context.Context, f func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	err := f(limited)
	switch {
	case err == nil, isOwn(err):
		return err
	case ctx.Err() != nil && !errors.Is(err, ctx.Err()):
		return fmt.Errorf("%w: %w", ctx.Err(), err)
	case ctx.Err() == nil && limited.Err() != nil:
		return fmt.Errorf("no success within %v, see WithTimeout: %v", s.timeout, err) //nolint:errorlint // it is not the caller's deadline
	}
	return err
}

// isOwn tells whether err is one that the contract of stores names: it counts whatever became of the context.
func isOwn(err error) bool {
	for _, own := range []error{
		checkpoint.ErrFenced, checkpoint.ErrRegression, checkpoint.ErrNotFound, checkpoint.ErrInvalidKey,
		checkpoint.ErrInvalidPosition, ErrLostWrites,
	} {
		if errors.Is(err, own) {
			return true
		}
	}
	return false
}

// read reads the record of key. To repeat that is always safe.
func (s *Store) read(ctx context.Context, key string, t *tries) (State, bool, error) {
	for {
		state, there, err := s.backend.Read(ctx, key)
		if err == nil || s.backend.Judge(err) == Final || !t.next(ctx) {
			return state, there, err
		}
	}
}
