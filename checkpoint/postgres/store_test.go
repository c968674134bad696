package postgres_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/checkpoint/internal/servertest"
	"github.com/streamsafe/streamsafe/checkpoint/postgres"
	"github.com/streamsafe/streamsafe/checkpoint/storetest"
)

const server, bouncer, victim = "STREAMSAFE_POSTGRES", "STREAMSAFE_PGBOUNCER", "STREAMSAFE_POSTGRES_VICTIM"

var (
	run    = rand.Uint32()
	tables atomic.Uint32
)

// newPool returns a pool, which the end of the test closes.
func newPool(tb testing.TB, address string) *pgxpool.Pool {
	tb.Helper()
	pool, err := pgxpool.New(tb.Context(), address)
	require.NoError(tb, err)
	tb.Cleanup(pool.Close)
	return pool
}

// newTable returns the name of a table that is not there yet. The end of the test drops it.
func newTable(tb testing.TB, pool *pgxpool.Pool) string {
	tb.Helper()
	name := fmt.Sprintf("checkpoints_%d_%d", run, tables.Add(1))
	tb.Cleanup(func() {
		_, _ = pool.Exec(tb.Context(), "DROP TABLE IF EXISTS "+name) // with a context that is done it stays, and the server goes
	})
	return name
}

// newStore returns a store on a table of its own.
func newStore(tb testing.TB, pool *pgxpool.Pool, opts ...postgres.Option) *postgres.Store {
	tb.Helper()
	return createStore(tb, pool, newTable(tb, pool), opts...)
}

func createStore(tb testing.TB, pool *pgxpool.Pool, table string, opts ...postgres.Option) *postgres.Store {
	tb.Helper()
	store, err := postgres.New(pool, append(opts, postgres.WithTable(table))...)
	require.NoError(tb, err)
	require.NoError(tb, store.Create(tb.Context()))
	return store
}

func newConn(tb testing.TB, address string) *pgx.Conn {
	tb.Helper()
	conn, err := pgx.Connect(tb.Context(), address)
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = conn.Close(tb.Context()) })
	return conn
}

func TestStore(t *testing.T) {
	t.Parallel()
	pool := newPool(t, servertest.Address(t, server))
	storetest.Run(t, func(t *testing.T) checkpoint.Store {
		t.Helper()
		return newStore(t, pool)
	})
}

// With WithPreparedStatements the server keeps the statements, and otherwise not.
func TestPreparedStatements(t *testing.T) {
	t.Parallel()
	address := servertest.Address(t, server)
	pool := newPool(t, address)
	storetest.Run(t, func(t *testing.T) checkpoint.Store {
		t.Helper()
		return newStore(t, pool, postgres.WithPreparedStatements())
	})
	for name, opts := range map[string][]postgres.Option{"with": {postgres.WithPreparedStatements()}, "without": nil} {
		conn, table := newConn(t, address), newTable(t, pool)
		store, err := postgres.NewOnConn(conn, append(opts, postgres.WithTable(table))...)
		require.NoError(t, err)
		require.NoError(t, store.Create(t.Context()))
		owner, err := store.Acquire(t.Context(), "key")
		require.NoError(t, err)
		for seq := range uint64(5) {
			require.NoError(t, store.Commit(t.Context(), "key", owner.Epoch, checkpoint.Position{Seq: seq}))
		}
		var prepared int
		require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_prepared_statements WHERE strpos(statement, $1) > 0",
			pgx.QueryExecModeExec, table).Scan(&prepared))
		if len(opts) > 0 {
			require.Equal(t, 2, prepared, "%s: that of Acquire, and that of Commit", name)
		} else {
			require.Zero(t, prepared, name)
		}
	}
}

// PgBouncer gives each transaction another connection, of two.
func TestStoreBehindPgBouncerInTransactionMode(t *testing.T) {
	t.Parallel()
	pool := newPool(t, servertest.Address(t, bouncer))
	storetest.Run(t, func(t *testing.T) checkpoint.Store {
		t.Helper()
		return newStore(t, pool)
	})
}

func TestStoreOnOneConnection(t *testing.T) {
	t.Parallel()
	address := servertest.Address(t, server)
	pool := newPool(t, address)
	storetest.Run(t, func(t *testing.T) checkpoint.Store {
		t.Helper()
		store, err := postgres.NewOnConn(newConn(t, address), postgres.WithTable(newTable(t, pool)))
		require.NoError(t, err)
		require.NoError(t, store.Create(t.Context()))
		return store
	})
}

func TestStoreIsDurable(t *testing.T) {
	t.Parallel()
	address := servertest.Address(t, server)
	all := newPool(t, address)
	places := map[string]string{}
	storetest.RunDurable(t, func(t *testing.T, place string) checkpoint.Store {
		t.Helper()
		if places[place] == "" {
			places[place] = newTable(t, all)
		}
		return createStore(t, newPool(t, address), places[place])
	})
}

// Two owners in two processes share nothing but the table: each store remembers what the other does not know.
func TestTwoStoresOnOneTable(t *testing.T) {
	t.Parallel()
	pool := newPool(t, servertest.Address(t, server))
	table := newTable(t, pool)
	one, other := createStore(t, pool, table), createStore(t, pool, table)
	servertest.TwoStores(t, one, other)
}

func TestCreate(t *testing.T) {
	t.Parallel()
	pool := newPool(t, servertest.Address(t, server))
	table := newTable(t, pool)
	store, err := postgres.New(pool, postgres.WithTable(table))
	require.NoError(t, err)
	_, err = store.Acquire(t.Context(), "key")
	require.ErrorContains(t, err, table, "there is no table, and nothing makes one silently")
	errs := make(chan error)
	for range 8 {
		go func() { errs <- store.Create(t.Context()) }()
	}
	for range 8 {
		select {
		case err := <-errs:
			require.NoError(t, err, "who creates at the same time")
		case <-time.After(time.Minute): //nolint:forbidigo // a test
			t.Fatal("Create has not returned")
		}
	}
	_, err = store.Acquire(t.Context(), "key")
	require.NoError(t, err)
	require.NoError(t, store.Create(t.Context()), "again: it changes nothing")
	r, err := store.Load(t.Context(), "key")
	require.NoError(t, err)
	require.Equal(t, uint64(1), r.Epoch)
}

// The last epoch has an owner, which goes on. Nobody can take the key from it.
func TestNoEpochIsLeft(t *testing.T) {
	t.Parallel()
	pool := newPool(t, servertest.Address(t, server))
	table := newTable(t, pool)
	_, err := createStore(t, pool, table).Acquire(t.Context(), "key")
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), "UPDATE "+table+" SET epoch = 18446744073709551615")
	require.NoError(t, err)
	store := createStore(t, pool, table)
	_, err = store.Acquire(t.Context(), "key")
	require.ErrorContains(t, err, "no epoch is left")
	last := checkpoint.Position{Seq: math.MaxUint64}
	require.NoError(t, store.Commit(t.Context(), "key", math.MaxUint64, last))
	r, err := store.Load(t.Context(), "key")
	require.NoError(t, err)
	require.Equal(t, last, r.Position)
}

func TestOptions(t *testing.T) {
	t.Parallel()
	_, err := postgres.New(nil)
	require.ErrorContains(t, err, "the pool is nil")
	_, err = postgres.NewOnConn(nil)
	require.ErrorContains(t, err, "the connection is nil")
	for _, table := range []string{"", ".", "a.", ".a", "a.b.c", "a\x00"} {
		_, err = postgres.New(new(pgxpool.Pool), postgres.WithTable(table))
		require.ErrorContains(t, err, "WithTable", table)
	}
	_, err = postgres.New(new(pgxpool.Pool), nil)
	require.ErrorContains(t, err, "an option is nil")
}

// Whatever a name contains, it is a name.
func TestOddTableName(t *testing.T) {
	t.Parallel()
	pool := newPool(t, servertest.Address(t, server))
	store := createStore(t, pool, fmt.Sprintf(`public.Odd "name"; -- %d`, run))
	r, err := store.Acquire(t.Context(), "key")
	require.NoError(t, err)
	require.NoError(t, store.Commit(t.Context(), "key", r.Epoch, checkpoint.Position{Seq: 1}))
}
