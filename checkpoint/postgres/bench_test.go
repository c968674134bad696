package postgres_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/checkpoint/internal/servertest"
	"github.com/streamsafe/streamsafe/checkpoint/postgres"
)

// BenchmarkCommit compares a commit with the least that an upsert could be in the same database: a number and a time.
func BenchmarkCommit(b *testing.B) {
	pool := newPool(b, servertest.Address(b, server))
	bare := newTable(b, pool)
	_, err := pool.Exec(b.Context(), "CREATE TABLE "+bare+
		" (key text PRIMARY KEY, seq bigint NOT NULL, updated_at timestamptz NOT NULL DEFAULT now()) WITH (fillfactor = 50)")
	require.NoError(b, err)
	upsert := "INSERT INTO " + bare + " (key, seq) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET seq = $2, updated_at = now()"
	side := func(name string, mode pgx.QueryExecMode) servertest.Side {
		return servertest.Side{Name: name, Write: func(key string, seq uint64) error {
			_, err := pool.Exec(b.Context(), upsert, mode, key, int64(seq)) //nolint:gosec // it is small
			return err
		}}
	}
	servertest.Commits(b,
		servertest.Commit(b, "commit", newStore(b, pool)),
		servertest.Commit(b, "prepared-commit", newStore(b, pool, postgres.WithPreparedStatements())),
		side("upsert", pgx.QueryExecModeExec), side("prepared-upsert", pgx.QueryExecModeCacheStatement),
	)
}
