package servertest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream"
	"github.com/streamsafe/streamsafe/stream/streamtest"
)

// CutEverywhere cuts the connection of a store at many places of a few calls, each way, and sees that each call does what it says
// (invariant 54). target is the server, and direct is a store there that nothing cuts. open returns a new store on a new
// connection to an address.
func CutEverywhere(t *testing.T, target string, direct checkpoint.Store, open func(address string) (s checkpoint.Store, closed func())) {
	t.Helper()
	run := func(where string, faults ...streamtest.Fault) (streamtest.Report, error) {
		proxy, err := streamtest.NewProxy(target)
		if err != nil {
			return streamtest.Report{}, err
		}
		defer proxy.Close()
		proxy.Arm(faults...)
		store, closed := open(proxy.Addr())
		defer closed()
		err = calls(t.Context(), direct, store, where)
		return proxy.Report(), err
	}
	undisturbed, err := run("undisturbed")
	require.NoError(t, err)
	const places, workers = 20, 8 // places each way and for each kind: about as many as there are packets
	var all sync.WaitGroup
	var cuts atomic.Int64
	work := make(chan streamtest.Fault)
	for range workers {
		all.Go(func() {
			for fault := range work {
				report, err := run(fmt.Sprint(fault), fault)
				if err != nil {
					t.Errorf("%v: %v", fault, err)
				}
				cuts.Add(int64(len(report.Cuts)))
			}
		})
	}
	for direction, bytes := range []int64{undisturbed.ToServer.Bytes, undisturbed.ToClient.Bytes} {
		for _, kind := range []streamtest.Kind{streamtest.RST, streamtest.FIN} {
			for place := range int64(places) {
				work <- streamtest.Fault{Kind: kind, Direction: streamtest.Direction(direction), Bytes: bytes * place / places, Total: true}
			}
		}
	}
	close(work)
	all.Wait()
	t.Logf("%d cuts", cuts.Load())
	require.GreaterOrEqual(t, cuts.Load(), int64(3*places), "cuts")
}

// calls makes a few calls, of which one is cut, and sees what came of them.
func calls(ctx context.Context, direct, store checkpoint.Store, key string) error {
	owner, err := store.Acquire(ctx, key)
	if err != nil {
		return err
	}
	for seq := uint64(1); seq <= 3; seq++ {
		if err := store.Commit(ctx, key, owner.Epoch, checkpoint.Position{Seq: seq}); err != nil {
			return err
		}
		if r, err := direct.Load(ctx, key); err != nil || r.Position.Seq != seq || r.Epoch != owner.Epoch {
			return fmt.Errorf("seq %d of epoch %d was committed, and %v is there (%w)", seq, owner.Epoch, r, err)
		}
	}
	if r, err := store.Load(ctx, key); err != nil || r.Position.Seq != 3 {
		return fmt.Errorf("after 3 was committed Load gives %v (%w)", r, err)
	}
	if err := store.Commit(ctx, key, owner.Epoch, checkpoint.Position{Seq: 2}); !errors.Is(err, checkpoint.ErrRegression) {
		return fmt.Errorf("a commit that moves back: %w", err)
	}
	if err := store.Delete(ctx, key); err != nil {
		return err
	}
	if r, err := direct.Load(ctx, key); !errors.Is(err, checkpoint.ErrNotFound) {
		return fmt.Errorf("%v is there after Delete (%w)", r, err)
	}
	return nil
}

// TwoStores has two owners in two processes, which share nothing but the server: each store remembers what the other does not know
// (invariant 24).
func TwoStores(t *testing.T, one, other checkpoint.Store) {
	t.Helper()
	first, err := one.Acquire(t.Context(), "key")
	require.NoError(t, err)
	require.NoError(t, one.Commit(t.Context(), "key", first.Epoch, checkpoint.Position{Seq: 1}))
	second, err := other.Acquire(t.Context(), "key")
	require.NoError(t, err)
	require.Equal(t, uint64(1), second.Position.Seq)
	require.ErrorIs(t, one.Commit(t.Context(), "key", first.Epoch, checkpoint.Position{Seq: 2}), checkpoint.ErrFenced)
	require.NoError(t, other.Commit(t.Context(), "key", second.Epoch, checkpoint.Position{Seq: 3}))
}

// LostAnswer swallows the answer to a commit: the server has written it. The commit is settled; with a newer owner in between
// it is fenced (invariant 54). store goes through the proxy, direct does not. A first commit has opened the connection.
func LostAnswer(t *testing.T, proxy *streamtest.Proxy, direct, store checkpoint.Store) {
	t.Helper()
	for name, taken := range map[string]bool{"nobody else": false, "a newer owner in between": true} {
		owner, err := store.Acquire(t.Context(), name)
		require.NoError(t, err)
		require.NoError(t, store.Commit(t.Context(), name, owner.Epoch, checkpoint.Position{Seq: 1}))
		proxy.Cut(streamtest.BlackHoleToClient)
		result := make(chan error, 1)
		go func() {
			result <- store.Commit(context.WithoutCancel(t.Context()), name, owner.Epoch, checkpoint.Position{Seq: 2})
		}()
		require.Eventually(t, func() bool {
			r, err := direct.Load(t.Context(), name)
			return err == nil && r.Position.Seq == 2
		}, 10*time.Second, 5*time.Millisecond, "%s: the server writes", name)
		if taken {
			_, err := direct.Acquire(t.Context(), name)
			require.NoError(t, err)
		}
		proxy.Cut(streamtest.RST)
		proxy.Heal()
		if err := wait(t, result, "the commit whose answer was lost"); taken {
			require.ErrorIs(t, err, checkpoint.ErrFenced)
		} else {
			require.NoError(t, err)
			require.NoError(t, store.Commit(t.Context(), name, owner.Epoch, checkpoint.Position{Seq: 3}))
		}
	}
}

func wait(t *testing.T, result <-chan error, what string) error {
	t.Helper()
	timer := time.NewTimer(time.Minute)
	defer timer.Stop()
	select {
	case err := <-result:
		return err
	case <-timer.C:
		require.Fail(t, "it has not returned: "+what)
		return nil
	}
}

// Restart stops the server and starts it again, while an owner commits. What a commit has written is there, what was refused
// is not, and the owner goes on by itself.
func Restart(t *testing.T, store checkpoint.Store, stop, start func()) {
	t.Helper()
	const key, rounds = "key", 3
	owner, err := store.Acquire(t.Context(), key)
	require.NoError(t, err)
	var failed int
	var seq, done uint64
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	commit := func() error {
		seq++
		err := store.Commit(ctx, key, owner.Epoch, checkpoint.Position{Seq: seq})
		if err == nil {
			done = seq
			return nil
		}
		failed++
		require.NotErrorIs(t, err, checkpoint.ErrFenced, "nobody else has the key")
		require.NotErrorIs(t, err, checkpoint.ErrRegression)
		return err
	}
	for range rounds {
		for range 20 {
			require.NoError(t, commit())
		}
		stopped := make(chan error, 1)
		go func() {
			stop()
			stopped <- nil
		}()
		for before := failed; failed == before; {
			_ = commit()
			require.NoError(t, ctx.Err(), "no commit has failed")
		}
		require.NoError(t, wait(t, stopped, "the server stops"))
		_ = commit()
		start()
		for commit() != nil {
			require.NoError(t, ctx.Err(), "no commit succeeds")
		}
		r, err := store.Load(t.Context(), key)
		require.NoError(t, err)
		require.Equal(t, done, r.Position.Seq, "the last commit that succeeded, after the server was started again")
		require.Equal(t, owner.Epoch, r.Epoch)
	}
	t.Logf("%d commits, of which %d failed", seq, failed)
}

// BlackHole has a server that does not answer any more. Each call returns in time, though its context has no deadline, and does
// not say that the application's deadline had passed (invariants 30 and 55). The store's time limit is one second.
func BlackHole(t *testing.T, proxy *streamtest.Proxy, store checkpoint.Store) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	owner, err := store.Acquire(ctx, "key")
	require.NoError(t, err)
	calls := map[string]func() error{
		"Acquire": func() error { _, err := store.Acquire(ctx, "key"); return err },
		"Commit":  func() error { return store.Commit(ctx, "key", owner.Epoch, checkpoint.Position{Seq: 1}) },
		"Load":    func() error { _, err := store.Load(ctx, "key"); return err },
		"Delete":  func() error { return store.Delete(ctx, "key") },
	}
	for name, call := range calls {
		proxy.Cut(streamtest.BlackHole)
		proxy.Refuse(true)
		began := time.Now()
		err := call()
		require.Error(t, err, name)
		require.NotErrorIs(t, err, context.DeadlineExceeded, name)
		require.NotErrorIs(t, err, context.Canceled, name)
		require.Less(t, time.Since(began), 20*time.Second, name)
		proxy.Heal()
		proxy.Refuse(false)
		require.Eventually(t, func() bool {
			_, err := store.Load(ctx, "key")
			return err == nil || errors.Is(err, checkpoint.ErrNotFound)
		}, 30*time.Second, 10*time.Millisecond, "after %s: the store works again", name)
	}
}

// Flush has a stream whose context is cancelled: its end still writes the position (invariant 25).
func Flush(t *testing.T, store checkpoint.Store) {
	t.Helper()
	numbers := NewNumbers(t, 10)
	for round := range uint64(2) {
		ctx, cancel := context.WithCancel(t.Context())
		s, err := numbers.Open(ctx, stream.WithStore(store, "flush", stream.CommitEvery(1000), stream.CommitInterval(time.Hour)))
		require.NoError(t, err)
		for range 5 {
			_, err := s.Recv()
			require.NoError(t, err)
		}
		cancel()
		_ = s.Close()
		r, err := store.Load(t.Context(), "flush")
		require.NoError(t, err)
		require.Equal(t, 4*(round+1), r.Position.Seq, "the fifth is still in the application's hands")
	}
}
