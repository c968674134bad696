package postgres_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/checkpoint/internal/servertest"
)

// BenchmarkCommit compares a commit with the least that an upsert could be in the same database: a number and a time.
func BenchmarkCommit(b *testing.B) {
	pool := newPool(b, servertest.Address(b, server))
	store, bare := newStore(b, pool), newTable(b, pool)
	_, err := pool.Exec(b.Context(), "CREATE TABLE "+bare+
		" (key text PRIMARY KEY, seq bigint NOT NULL, updated_at timestamptz NOT NULL DEFAULT now()) WITH (fillfactor = 50)")
	require.NoError(b, err)
	upsert := "INSERT INTO " + bare + " (key, seq) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET seq = $2, updated_at = now()"
	servertest.Commits(b, store, func(key string, seq uint64) error {
		_, err := pool.Exec(b.Context(), upsert, pgx.QueryExecModeExec, key, int64(seq))
		return err
	})
}
