package nats_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/checkpoint"
	natsstore "github.com/streamsafe/streamsafe/checkpoint/nats"
	"github.com/streamsafe/streamsafe/internal/testnet"
)

// The server stops and starts again in the middle of commits: what has succeeded is there, and the owner goes on.
func TestTheServerIsStoppedInTheMiddleOfCommits(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	bucket := newBucket()
	store := newStore(t, dial(t, n.Addr().String()), bucket)
	owner, err := store.Acquire(t.Context(), "key")
	require.NoError(t, err)

	var (
		progress = make(chan uint64, 1<<16) // the numbers that were committed
		stop     = make(chan struct{})
		over     = make(chan struct{})
		failures int
	)
	go func() { // ends with stop; the test waits for over
		defer close(over)
		for seq := uint64(1); ; {
			select {
			case <-stop:
				return
			default:
			}
			if err := store.Commit(t.Context(), "key", owner.Epoch, checkpoint.Position{Seq: seq}); err != nil {
				failures++
				if errors.Is(err, checkpoint.ErrFenced) || errors.Is(err, checkpoint.ErrRegression) {
					t.Errorf("commit of %d: %v", seq, err)
					return
				}
				continue // to repeat it is success
			}
			select {
			case progress <- seq:
			default:
			}
			seq++
		}
	}()
	reach := func(count int) (last uint64) {
		deadline := time.NewTimer(time.Minute)
		defer deadline.Stop()
		for range count {
			select {
			case last = <-progress:
			case <-over:
				t.Fatal("the owner has ended")
			case <-deadline.C:
				t.Fatal("no commit has succeeded for a minute")
			}
		}
		return last
	}
	var last uint64
	for range 3 {
		last = reach(30)
		n.stop()
		n.start(t)
		other := dial(t, n.Addr().String())
		check, err := natsstore.New(other, bucket)
		require.NoError(t, err)
		r, err := check.Load(t.Context(), "key")
		require.NoError(t, err)
		require.GreaterOrEqual(t, r.Position.Seq, last, "what had succeeded is there")
	}
	last = reach(30)
	close(stop)
	<-over
	r, err := store.Load(t.Context(), "key")
	require.NoError(t, err)
	require.GreaterOrEqual(t, r.Position.Seq, last)
	t.Logf("%d commits, %d calls failed", r.Position.Seq, failures)
}

// Invariant 55: a network that swallows everything, and a context without a deadline.
func TestBlackHole(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	proxy, err := testnet.NewTCP(n.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = proxy.Close() })
	bucket := newBucket()
	store := newStore(t, dial(t, proxy.Addr()), bucket, natsstore.WithTimeout(400*time.Millisecond))
	owner, err := store.Acquire(t.Context(), "key")
	require.NoError(t, err)
	proxy.Cut(testnet.BlackHole)

	for name, call := range map[string]func(context.Context) error{
		"Acquire": func(ctx context.Context) error { _, err := store.Acquire(ctx, "other"); return err },
		"Load":    func(ctx context.Context) error { _, err := store.Load(ctx, "key"); return err },
		"Delete":  func(ctx context.Context) error { return store.Delete(ctx, "other") },
		"Commit": func(ctx context.Context) error {
			return store.Commit(ctx, "key", owner.Epoch, checkpoint.Position{Seq: 1})
		},
	} {
		err := call(context.Background())
		require.Error(t, err, name)
		require.NotErrorIs(t, err, checkpoint.ErrFenced, name)
	}
	proxy.Heal()
	require.Eventually(t, func() bool {
		return store.Commit(t.Context(), "key", owner.Epoch, checkpoint.Position{Seq: 2}) == nil
	}, time.Minute, 10*time.Millisecond, "the client connects again, and the owner goes on")
	r, err := store.Load(t.Context(), "key")
	require.NoError(t, err)
	require.Equal(t, uint64(2), r.Position.Seq)
	require.Equal(t, owner.Epoch, r.Epoch)
}

// A connection is cut at each place of the way of a commit, either way: it succeeds by its retry, and is done once.
func TestCutAnywhereInACommit(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	proxy, err := testnet.NewTCP(n.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = proxy.Close() })
	direct := dial(t, n.Addr().String())
	bucket := newBucket()
	check := newStore(t, direct, bucket)
	store := newStore(t, dial(t, proxy.Addr(), nats.PingInterval(time.Minute)), bucket, natsstore.WithTimeout(2*time.Second))
	owner, err := store.Acquire(t.Context(), "key")
	require.NoError(t, err)

	seq, cuts := uint64(0), 0
	commit := func() error {
		seq++
		return store.Commit(t.Context(), "key", owner.Epoch, checkpoint.Position{Seq: seq})
	}
	before := proxy.Stats()
	require.NoError(t, commit())
	after := proxy.Stats()
	sizes := map[testnet.Direction]int64{
		testnet.ToServer: after.ToServer.Bytes - before.ToServer.Bytes,
		testnet.ToClient: after.ToClient.Bytes - before.ToClient.Bytes,
	}
	for direction, size := range sizes {
		require.Positive(t, size)
		for at := int64(0); at < size; at += max(1, size/12) {
			proxy.Arm(testnet.Fault{Kind: testnet.RST, Direction: direction, Bytes: at, Total: true})
			err := commit()
			for tries := 0; err != nil && tries < 20; tries++ {
				require.NotErrorIs(t, err, checkpoint.ErrFenced, "%v, byte %d", direction, at)
				require.NotErrorIs(t, err, checkpoint.ErrRegression, "%v, byte %d", direction, at)
				err = store.Commit(t.Context(), "key", owner.Epoch, checkpoint.Position{Seq: seq})
			}
			require.NoError(t, err, "%v, byte %d", direction, at)
			proxy.Disarm()
			r, err := check.Load(t.Context(), "key")
			require.NoError(t, err)
			require.Equal(t, seq, r.Position.Seq, "%v, byte %d", direction, at)
			cuts++
		}
	}
	require.Greater(t, cuts, 20)
	require.GreaterOrEqual(t, len(proxy.Cuts()), cuts*3/4, "cuts that have happened")
}
