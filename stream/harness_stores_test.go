package stream_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/checkpoint"
)

// oddStore is a store whose calls go wrong in a way of their own.
type oddStore struct {
	checkpoint.Memory
	acquire func(context.Context) error // what Acquire does first, and ends with if that is an error; may be nil
	commit  func(context.Context) error // the same for Commit
	once    bool                        // only the first Commit
	commits int                         // writes come one after the other
}

// hanging waits for the end of its call: like every store it minds its context.
func hanging(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// exiting ends its goroutine, as t.FailNow does.
func exiting(context.Context) error {
	runtime.Goexit()
	return nil
}

// failing returns err.
func failing(err error) func(context.Context) error {
	return func(context.Context) error { return err }
}

func (o *oddStore) Acquire(ctx context.Context, key string) (checkpoint.Record, error) {
	if o.acquire != nil {
		if err := o.acquire(ctx); err != nil {
			return checkpoint.Record{}, err
		}
	}
	return o.Memory.Acquire(ctx, key)
}

func (o *oddStore) Commit(ctx context.Context, key string, epoch uint64, p checkpoint.Position) error {
	o.commits++
	if o.commit != nil && (!o.once || o.commits == 1) {
		if err := o.commit(ctx); err != nil {
			return err
		}
	}
	return o.Memory.Commit(ctx, key, epoch, p)
}

// faultyStore fails and dawdles as it is told to.
type faultyStore struct {
	checkpoint.Memory

	mu       sync.Mutex // guards the fields below
	err      error      // of every call
	delay    time.Duration
	writing  int
	most     int // writes at the same time
	position []uint64
}

func (f *faultyStore) set(err error, delay time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err, f.delay = err, delay
}

// writes returns the positions that were to be written, and how many writes there were at the same time at most.
func (f *faultyStore) writes() (positions []uint64, most int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.position), f.most
}

func (f *faultyStore) Acquire(ctx context.Context, key string) (checkpoint.Record, error) {
	f.mu.Lock()
	err := f.err
	f.mu.Unlock()
	if err != nil {
		return checkpoint.Record{}, err
	}
	return f.Memory.Acquire(ctx, key)
}

func (f *faultyStore) Commit(ctx context.Context, key string, epoch uint64, p checkpoint.Position) error {
	f.mu.Lock()
	err, delay := f.err, f.delay
	f.writing++
	f.most = max(f.most, f.writing)
	f.position = append(f.position, p.Seq)
	f.mu.Unlock()
	time.Sleep(delay)
	f.mu.Lock()
	f.writing--
	f.mu.Unlock()
	if err != nil {
		return err
	}
	return f.Memory.Commit(ctx, key, epoch, p)
}

// eachStore runs test in a bubble of its own with each kind of store.
func eachStore(t *testing.T, test func(t *testing.T, store checkpoint.Store)) {
	t.Helper()
	stores := map[string]func(t *testing.T) checkpoint.Store{
		"memory": func(*testing.T) checkpoint.Store { return new(checkpoint.Memory) },
		"file": func(t *testing.T) checkpoint.Store {
			t.Helper()
			store, err := checkpoint.OpenFile(t.TempDir())
			require.NoError(t, err)
			t.Cleanup(func() { _ = store.Close() })
			return store
		},
	}
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { test(t, open(t)) })
		})
	}
}

// process is a client process with a life of its own: when it is killed, nothing of it reaches the store any more.
type process struct {
	checkpoint.Store
	killed    atomic.Bool
	processed atomic.Uint64 // the newest message that the application has done with
	ahead     atomic.Bool   // a commit was ahead of that
	commits   atomic.Int64
}

func (p *process) Commit(ctx context.Context, key string, epoch uint64, at checkpoint.Position) error {
	if p.killed.Load() {
		return errors.New("the process was killed")
	}
	if at.Seq > p.processed.Load() {
		p.ahead.Store(true)
	}
	p.commits.Add(1)
	return p.Store.Commit(ctx, key, epoch, at)
}

// work receives up to n messages, and has done with each before it asks for the next. It returns what it got.
func (p *process) work(s *client, n int) ([]uint64, error) {
	var got []uint64
	for range n {
		m, err := s.Recv()
		if err != nil {
			return got, err
		}
		seq := frameOf(m).seq
		got = append(got, seq)
		p.processed.Store(seq)
	}
	return got, nil
}

func committed(t *testing.T, store checkpoint.Store) uint64 {
	t.Helper()
	record, err := store.Load(t.Context(), "key")
	require.NoError(t, err)
	return record.Position.Seq
}
