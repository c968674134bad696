package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/checkpoint/internal/servertest"
	"github.com/streamsafe/streamsafe/checkpoint/postgres"
	"github.com/streamsafe/streamsafe/stream"
	"github.com/streamsafe/streamsafe/stream/streamtest"
)

// effects is a table of an application, with a store beside it.
type effects struct {
	*postgres.Store
	pool            *pgxpool.Pool
	table, position string
}

func newEffects(t *testing.T, pool *pgxpool.Pool) *effects {
	t.Helper()
	position := newTable(t, pool)
	e := &effects{Store: createStore(t, pool, position), pool: pool, table: "effects_of_" + position, position: position}
	_, err := pool.Exec(t.Context(), "CREATE TABLE "+e.table+" (number bigint)") // not unique: a second effect would show
	require.NoError(t, err)
	return e
}

// do has the effect of a message, and commits the position behind it.
func (e *effects) do(ctx context.Context, pool *pgxpool.Pool, epoch uint64, p checkpoint.Position) error {
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "INSERT INTO "+e.table+" (number) VALUES ($1)", pgx.QueryExecModeExec, int64(p.Seq)); err != nil {
			return err
		}
		return e.CommitTx(ctx, tx, "key", epoch, p)
	})
}

func (e *effects) numbers(t *testing.T) []uint64 {
	t.Helper()
	rows, err := e.pool.Query(t.Context(), "SELECT number FROM "+e.table+" ORDER BY number")
	require.NoError(t, err)
	numbers, err := pgx.CollectRows(rows, pgx.RowTo[uint64])
	require.NoError(t, err)
	return numbers
}

func at(seq uint64) checkpoint.Position { return checkpoint.Position{Lineage: "a", Seq: seq} }

func TestCommitTx(t *testing.T) {
	t.Parallel()
	for _, address := range []string{server, bouncer} {
		t.Run(address, func(t *testing.T) {
			t.Parallel()
			pool := newPool(t, servertest.Address(t, address))
			e := newEffects(t, pool)
			require.ErrorIs(t, e.do(t.Context(), pool, 1, at(1)), checkpoint.ErrFenced, "nobody has acquired the key")
			owner, err := e.Acquire(t.Context(), "key")
			require.NoError(t, err)
			require.NoError(t, e.do(t.Context(), pool, owner.Epoch, at(1)))
			require.NoError(t, e.Commit(t.Context(), "key", owner.Epoch, at(2)), "both ways may take turns")
			require.NoError(t, e.do(t.Context(), pool, owner.Epoch, at(3)))
			require.ErrorIs(t, e.do(t.Context(), pool, owner.Epoch, at(2)), checkpoint.ErrRegression)
			require.ErrorIs(t, e.do(t.Context(), pool, owner.Epoch, at(3)), postgres.ErrAlreadyCommitted)
			require.ErrorIs(t, e.do(t.Context(), pool, owner.Epoch+1, at(4)), checkpoint.ErrFenced)
			newer, err := e.Acquire(t.Context(), "key")
			require.NoError(t, err)
			require.Equal(t, at(3), newer.Position)
			require.ErrorIs(t, e.do(t.Context(), pool, owner.Epoch, at(4)), checkpoint.ErrFenced, "invariant 24")
			require.ErrorIs(t, e.do(t.Context(), pool, owner.Epoch, at(3)), checkpoint.ErrFenced, "who is fenced learns that first")
			require.NoError(t, e.do(t.Context(), pool, newer.Epoch, at(4)))
			require.NoError(t, e.Delete(t.Context(), "key"))
			require.ErrorIs(t, e.do(t.Context(), pool, newer.Epoch, at(5)), checkpoint.ErrFenced, "the key is deleted")
			require.Equal(t, []uint64{1, 3, 4}, e.numbers(t), "effects of transactions that were committed")
		})
	}
}

func TestCommitTxRollsBackWithTheTransaction(t *testing.T) {
	t.Parallel()
	pool := newPool(t, servertest.Address(t, server))
	store := newStore(t, pool)
	owner, err := store.Acquire(t.Context(), "key")
	require.NoError(t, err)
	failed := errors.New("failed")
	err = pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		require.NoError(t, store.CommitTx(t.Context(), tx, "key", owner.Epoch, at(7)))
		return failed
	})
	require.ErrorIs(t, err, failed)
	r, err := store.Load(t.Context(), "key")
	require.NoError(t, err)
	require.Zero(t, r.Position)
	require.NoError(t, store.Commit(t.Context(), "key", owner.Epoch, at(1)), "what was rolled back does not count")
}

// An owner that is not the newest cannot commit a transaction that it began before: the newer one waits for the row, or
// the older one is fenced.
func TestAcquireAndCommitTxExcludeEachOther(t *testing.T) {
	t.Parallel()
	pool := newPool(t, servertest.Address(t, server))
	e := newEffects(t, pool)
	owner, err := e.Acquire(t.Context(), "key")
	require.NoError(t, err)
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "INSERT INTO "+e.table+" (number) VALUES (1)")
	require.NoError(t, err)
	require.NoError(t, e.CommitTx(t.Context(), tx, "key", owner.Epoch, at(1)))
	acquired := make(chan error, 1)
	var newer checkpoint.Record
	go func() {
		var err error
		newer, err = e.Acquire(context.WithoutCancel(t.Context()), "key")
		acquired <- err
	}()
	select {
	case <-acquired:
		t.Fatal("acquired, though the transaction of the older owner may still commit")
	case <-time.After(300 * time.Millisecond): //nolint:forbidigo // nothing tells that somebody waits for a lock
	}
	require.NoError(t, tx.Commit(t.Context()))
	require.NoError(t, <-acquired)
	require.Equal(t, at(1), newer.Position, "the newer owner goes on behind the effect")
}

// Invariant 54: the answer to COMMIT is lost.
func TestTheAnswerToCommitIsLost(t *testing.T) {
	t.Parallel()
	for name, taken := range map[string]bool{"nobody else": false, "a newer owner in between": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			direct := newPool(t, servertest.Address(t, server))
			proxy, cut := newProxy(t, servertest.Address(t, server))
			e := newEffects(t, direct)
			owner, err := e.Acquire(t.Context(), "key")
			require.NoError(t, err)
			through := newPool(t, cut)
			tx, err := through.Begin(t.Context())
			require.NoError(t, err)
			_, err = tx.Exec(t.Context(), "INSERT INTO "+e.table+" (number) VALUES (1)")
			require.NoError(t, err)
			require.NoError(t, e.CommitTx(t.Context(), tx, "key", owner.Epoch, at(1)))
			proxy.Cut(streamtest.BlackHoleToClient)
			time.AfterFunc(300*time.Millisecond, func() { proxy.Cut(streamtest.RST) })
			require.Error(t, tx.Commit(t.Context()), "the answer is lost")
			require.Eventually(t, func() bool { return len(e.numbers(t)) == 1 }, 10*time.Second, 10*time.Millisecond, "the server has done it")
			if taken {
				_, err := e.Acquire(t.Context(), "key")
				require.NoError(t, err)
				require.ErrorIs(t, e.do(t.Context(), through, owner.Epoch, at(1)), checkpoint.ErrFenced)
			} else {
				require.ErrorIs(t, e.do(t.Context(), through, owner.Epoch, at(1)), postgres.ErrAlreadyCommitted)
				require.NoError(t, e.do(t.Context(), through, owner.Epoch, at(2)))
				require.Equal(t, []uint64{1, 2}, e.numbers(t), "each effect once")
				return
			}
			require.Equal(t, []uint64{1}, e.numbers(t), "each effect once")
		})
	}
}

// newProxy returns a proxy in front of the server, and the address of the server through it.
func newProxy(t *testing.T, address string) (*streamtest.Proxy, string) {
	t.Helper()
	config, err := pgx.ParseConfig(address)
	require.NoError(t, err)
	proxy, err := streamtest.NewProxy(fmt.Sprintf("%s:%d", config.Host, config.Port))
	require.NoError(t, err)
	t.Cleanup(func() { _ = proxy.Close() })
	return proxy, fmt.Sprintf("postgres://%s@%s/%s?sslmode=disable", config.User, proxy.Addr(), config.Database)
}

// Exactly-once effects: the stream's network and the database's are cut all the time, and the process starts again and again,
// sometimes while the one before still runs.
func TestEffectsOfAStreamHappenOnce(t *testing.T) {
	t.Parallel()
	const last = 200
	address := servertest.Address(t, server)
	e := newEffects(t, newPool(t, address))
	numbers := servertest.NewNumbers(t, last)
	proxy, cut := newProxy(t, address)
	numbers.Proxy.Chaos(streamtest.Chaos{Seed: 1, Messages: 30})
	proxy.Chaos(streamtest.Chaos{Seed: 2, Bytes: 8 << 10})
	through := newPool(t, cut)

	process := func(ctx context.Context, messages int) (done bool, err error) {
		s, err := numbers.Open(ctx, stream.WithStore(e, "key"), stream.WithManualCommit())
		if err != nil {
			return false, err
		}
		defer s.Close()
		if position := s.Stats().Processed; position.Seq == last {
			return true, nil
		}
		for range messages {
			m, err := s.Recv()
			if err != nil {
				return false, err
			}
			p := checkpoint.Position{Seq: servertest.Number(m)}
			if err := e.once(ctx, through, s.Stats().StoreEpoch, p); err != nil {
				return false, err
			}
			if p.Seq == last {
				return true, nil
			}
		}
		return false, nil
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for messages := 5; ; messages += 3 {
		var old chan error
		if messages%2 == 0 { // an older process, which does not know yet that there is a newer one
			old = make(chan error, 1)
			go func() {
				_, err := process(ctx, 2)
				old <- err
			}()
		}
		done, err := process(ctx, messages)
		if old != nil {
			select {
			case <-old: // fenced, or done
			case <-ctx.Done():
				t.Fatal("the older process does not end")
			}
		}
		require.NoError(t, ctx.Err(), "the last error: %v", err)
		if done {
			break
		}
	}
	var want []uint64
	for number := uint64(1); number <= last; number++ {
		want = append(want, number)
	}
	require.Equal(t, want, e.numbers(t), "effects")
	require.NotEmpty(t, proxy.Report().Cuts)
	require.NotEmpty(t, numbers.Proxy.Report().Cuts)
}

// once does what an application has to do around a transaction: try again if the database or the way to it failed.
func (e *effects) once(ctx context.Context, pool *pgxpool.Pool, epoch uint64, p checkpoint.Position) error {
	for {
		err := e.do(ctx, pool, epoch, p)
		switch {
		case err == nil, errors.Is(err, postgres.ErrAlreadyCommitted):
			return nil
		case errors.Is(err, checkpoint.ErrFenced), errors.Is(err, checkpoint.ErrRegression), ctx.Err() != nil:
			return err
		}
	}
}
