package postgres_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/checkpoint/internal/servertest"
	"github.com/streamsafe/streamsafe/checkpoint/postgres"
)

func TestOwnersFight(t *testing.T) {
	t.Parallel()
	pool := newPool(t, servertest.Address(t, server))
	table := newTable(t, pool)
	servertest.Fight(t, func() checkpoint.Store { return createStore(t, pool, table) })
}

func TestConnectionIsCutEverywhere(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]postgres.Option{"by default": nil, "prepared": {postgres.WithPreparedStatements()}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cutEverywhere(t, opts...)
		})
	}
}

func cutEverywhere(t *testing.T, opts ...postgres.Option) {
	t.Helper()
	direct := newPool(t, servertest.Address(t, server))
	config := direct.Config().ConnConfig
	table := newTable(t, direct)
	target := fmt.Sprintf("%s:%d", config.Host, config.Port)
	servertest.CutEverywhere(t, target, createStore(t, direct, table), func(address string) (checkpoint.Store, func()) {
		pool, err := pgxpool.New(t.Context(), fmt.Sprintf("postgres://%s@%s/%s?sslmode=disable", config.User, address, config.Database))
		require.NoError(t, err)
		store, err := postgres.New(pool, append(opts, postgres.WithTable(table))...)
		require.NoError(t, err)
		return store, pool.Close
	})
}

func TestTheAnswerToAStatementIsLost(t *testing.T) {
	t.Parallel()
	direct := newPool(t, servertest.Address(t, server))
	proxy, address := newProxy(t, servertest.Address(t, server))
	table := newTable(t, direct)
	store := createStore(t, direct, table)
	servertest.LostAnswer(t, proxy, store, createStore(t, newPool(t, address), table))
}

func TestServerIsStoppedAndStarted(t *testing.T) { //nolint:paralleltest // it has the server that others stop, too
	store := newStore(t, newPool(t, servertest.Address(t, victim)))
	servertest.Restart(t, store, func() { servertest.Victim(t, "stop") }, func() { servertest.Victim(t, "start") })
}

func TestServerDoesNotAnswer(t *testing.T) {
	t.Parallel()
	proxy, address := newProxy(t, servertest.Address(t, server))
	servertest.BlackHole(t, proxy, newStore(t, newPool(t, address), postgres.WithTimeout(time.Second)))
}

func TestCloseFlushes(t *testing.T) {
	t.Parallel()
	servertest.Flush(t, newStore(t, newPool(t, servertest.Address(t, server))))
}

// A connection that is lost stays lost: an error that says so, at once.
func TestOneConnectionIsLost(t *testing.T) {
	t.Parallel()
	address := servertest.Address(t, server)
	conn := newConn(t, address)
	store, err := postgres.NewOnConn(conn, postgres.WithTable(newTable(t, newPool(t, address))))
	require.NoError(t, err)
	require.NoError(t, store.Create(t.Context()))
	require.NoError(t, conn.Close(t.Context()))
	_, err = store.Acquire(t.Context(), "key")
	require.ErrorContains(t, err, "NewOnConn has no other")
}

// A table with a million keys is never read from end to end.
func TestNothingIsScanned(t *testing.T) {
	t.Parallel()
	pool := newPool(t, servertest.Address(t, server))
	table := newTable(t, pool)
	store := createStore(t, pool, table)
	_, err := pool.Exec(t.Context(), "ALTER TABLE "+table+" SET UNLOGGED") // it is filled faster
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), "INSERT INTO "+table+` (key, epoch, owner_id, write_id)
		SELECT int8send(n), 1, 1, 1 FROM generate_series(1, 1000000) n`)
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), "ANALYZE "+table)
	require.NoError(t, err)
	scans := func() (n int64) {
		require.NoError(t, pool.QueryRow(t.Context(), "SELECT seq_scan FROM pg_stat_user_tables WHERE relname = $1", table).Scan(&n))
		return n
	}
	before := scans()
	var all sync.WaitGroup
	for n := range 8 {
		all.Go(func() {
			for i := range 20 {
				key := fmt.Sprint(n, " ", i)
				owner, err := store.Acquire(t.Context(), key)
				if err == nil {
					err = store.Commit(t.Context(), key, owner.Epoch, at(1))
				}
				if err == nil {
					_, err = store.Load(t.Context(), key)
				}
				if err == nil {
					err = store.Delete(t.Context(), key)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	pool.Reset() // a server process tells what it has done when it ends, at the latest
	for range 10 {
		timer := time.NewTimer(200 * time.Millisecond)
		<-timer.C
		require.Equal(t, before, scans(), "scans of the table")
	}
}
