package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/streamsafe/streamsafe/checkpoint/internal/remote"
)

// table is a [remote.Backend] in a table. Its statements are complete for themselves: no session state (invariant 55).
type table struct {
	conns connections // set at construction, then read only, as the rest is
	mode  pgx.QueryExecMode

	create, read, acquire, swap, advance, commitTx string // statements
}

func (o *options) validate() error {
	parts := strings.Split(o.table, ".")
	for _, part := range parts {
		if part == "" || len(parts) > 2 || strings.ContainsRune(part, 0) {
			return fmt.Errorf("%s: %q is no name of a table: see WithTable", name, o.table)
		}
	}
	return nil
}

// newTable makes the statements. Numbers without a sign are numeric: bigint has one.
func newTable(conns connections, name string, mode pgx.QueryExecMode) *table {
	const columns = `epoch::text, lineage, seq::text, token, deleted, owner_id, write_id, updated_at`
	quoted := pgx.Identifier(strings.Split(name, ".")).Sanitize()
	from := func(statement string) string { return strings.ReplaceAll(statement, "TABLE_NAME", quoted) }
	return &table{
		conns:  conns,
		mode:   mode,
		create: from(schema),
		// A standby has the rows of some time ago.
		read: from(`SELECT ` + columns + `, pg_is_in_recovery() FROM TABLE_NAME WHERE key = $1`),
		acquire: from(`INSERT INTO TABLE_NAME AS c (key, epoch, owner_id, write_id) VALUES ($1, 1, $2, $3)
			ON CONFLICT (key) DO UPDATE SET epoch = c.epoch + 1, deleted = false, owner_id = $2, write_id = $3,
				updated_at = greatest(c.updated_at, clock_timestamp())
			WHERE c.epoch < 18446744073709551615
			RETURNING ` + columns + `, false`),
		swap: from(`UPDATE TABLE_NAME SET write_id = $3, seq = $4, token = $5, lineage = $6, deleted = $7,
				updated_at = greatest(updated_at, clock_timestamp())
			WHERE key = $1 AND write_id = $2`),
		advance: from(`UPDATE TABLE_NAME SET write_id = $3, seq = $4, token = $5, updated_at = greatest(updated_at, clock_timestamp())
			WHERE key = $1 AND write_id = $2`),
		commitTx: from(`UPDATE TABLE_NAME SET lineage = $4, seq = $5, token = $6, write_id = $7,
				updated_at = greatest(updated_at, clock_timestamp())
			WHERE key = $1 AND epoch = $2 AND NOT deleted AND ($3::bigint = 0 OR owner_id = $3)
				AND NOT (lineage = $4 AND seq = $5 AND token = $6)
				AND NOT (lineage = $4 AND seq <> 0 AND $5 <> 0 AND $5 < seq)`),
	}
}

// schema has no CHECK: PostgreSQL would parse each of them for each commit, some 5 % of it. The statements keep numbers in range.
const schema = `CREATE TABLE IF NOT EXISTS TABLE_NAME (
	key        bytea PRIMARY KEY,
	epoch      numeric(20) NOT NULL,
	lineage    bytea NOT NULL DEFAULT '',
	seq        numeric(20) NOT NULL DEFAULT 0,
	token      bytea NOT NULL DEFAULT '',
	deleted    boolean NOT NULL DEFAULT false,
	owner_id   bigint NOT NULL,
	write_id   bigint NOT NULL,
	updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50)`

var errNoEpoch = errors.New("no epoch is left for another owner")

// Read implements [remote.Backend].
func (t *table) Read(ctx context.Context, key string) (s remote.State, there bool, err error) {
	err = t.conns.with(ctx, func(conn *pgx.Conn) error {
		s, there, err = scan(conn.QueryRow(ctx, t.read, t.mode, []byte(key)))
		return err
	})
	return s, there, err
}

// Acquire implements [remote.Backend].
func (t *table) Acquire(ctx context.Context, key string, owner, write uint64) (s remote.State, err error) {
	err = t.conns.with(ctx, func(conn *pgx.Conn) error {
		var made bool
		s, made, err = scan(conn.QueryRow(ctx, t.acquire, t.mode, []byte(key), int64(owner), int64(write)))
		if err == nil && !made {
			err = errNoEpoch
		}
		return err
	})
	return s, err
}

// Swap implements [remote.Backend]. The number of the write that is to be replaced tells a row from all others, so epochs are not
// compared. Most commits change the position alone: that is a shorter statement.
func (t *table) Swap(ctx context.Context, key string, from, to remote.State) (_ uint64, swapped bool, err error) {
	err = t.conns.with(ctx, func(conn *pgx.Conn) error {
		args := []any{t.mode, []byte(key), int64(from.Write), int64(to.Write), to.Position.Seq, []byte(to.Position.Token)}
		statement := t.advance
		if to.Position.Lineage != from.Position.Lineage || to.Deleted != from.Deleted {
			statement, args = t.swap, append(args, []byte(to.Position.Lineage), to.Deleted)
		}
		tag, err := conn.Exec(ctx, statement, args...)
		swapped = tag.RowsAffected() > 0
		return err
	})
	return 0, swapped, err
}

// Judge implements [remote.Backend].
func (t *table) Judge(err error) remote.Verdict { return judge(err) }

// scan reads a row of the table, if there is one.
func scan(row pgx.Row) (s remote.State, there bool, err error) {
	var (
		epoch, seq     string
		lineage, token []byte
		owner, write   int64
		standby        bool
	)
	err = row.Scan(&epoch, &lineage, &seq, &token, &s.Deleted, &owner, &write, &s.UpdatedAt, &standby)
	if errors.Is(err, pgx.ErrNoRows) {
		return remote.State{}, false, nil
	}
	if err == nil && standby {
		err = ErrNotWriter
	}
	if err == nil {
		s.Epoch, err = strconv.ParseUint(epoch, 10, 64)
	}
	if err == nil {
		s.Position.Seq, err = strconv.ParseUint(seq, 10, 64)
	}
	if err != nil {
		return remote.State{}, false, err
	}
	s.Position.Lineage, s.Position.Token = string(lineage), string(token)
	s.Owner, s.Write = uint64(owner), uint64(write)
	s.UpdatedAt = s.UpdatedAt.UTC()
	return s, true, nil
}

func (s *Store) create(ctx context.Context) error {
	var err error
	for range 3 { // of two who create at once, one gets a conflict
		err = s.remote.Bounded(ctx, func(ctx context.Context) error {
			return s.table.conns.with(ctx, func(conn *pgx.Conn) error {
				_, err := conn.Exec(ctx, s.table.create, pgx.QueryExecModeExec)
				return err
			})
		})
		if pg, ok := errors.AsType[*pgconn.PgError](err); !ok || pg.Code != uniqueViolation && pg.Code != duplicateTable {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("%s: create the table: %w", name, err)
	}
	return nil
}
