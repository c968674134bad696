package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/checkpoint/internal/remote"
)

const name = "checkpoint/postgres"

// ErrLostWrites means that the server has less than this process has written to it: a failover has lost writes, or a backup
// was restored. Only Acquire returns it. To call Acquire again accepts what the server has.
var ErrLostWrites = remote.ErrLostWrites

// ErrNotWriter means that the server is a standby, and stayed one for as long as the call has tried.
var ErrNotWriter = errors.New("the server is a standby: connect with target_session_attrs=read-write")

// ErrAlreadyCommitted means that the store is at this very position. See [Store.CommitTx].
var ErrAlreadyCommitted = errors.New("the store is at this position already: roll back")

// Store is a [checkpoint.Store] in a table of PostgreSQL. It must not be copied.
type Store struct {
	remote *remote.Store // set at construction, then read only
	table  *table
}

var _ checkpoint.Store = (*Store)(nil)

// New returns a store that takes its connections from pool. The pool stays the caller's: the store does not close it. New
// does not connect. The error is about an option.
func New(pool *pgxpool.Pool, opts ...Option) (*Store, error) {
	if pool == nil {
		return nil, errors.New(name + ": the pool is nil")
	}
	return newStore(fromPool{pool}, opts)
}

// NewOnConn returns a store on one connection, which nobody else may use as long as the store is used. Calls wait for each
// other. A connection that is lost, also because a context has ended, is not opened again: all further calls fail.
func NewOnConn(conn *pgx.Conn, opts ...Option) (*Store, error) {
	if conn == nil {
		return nil, errors.New(name + ": the connection is nil")
	}
	return newStore(onConn{conn: conn, turn: make(chan struct{}, 1)}, opts)
}

func newStore(conns connections, opts []Option) (*Store, error) {
	o := options{table: DefaultTable, mode: pgx.QueryExecModeExec}
	if err := remote.Apply(name, &o, opts); err != nil {
		return nil, err
	}
	if err := o.validate(); err != nil {
		return nil, err
	}
	t := newTable(conns, o.table, o.mode)
	return &Store{remote: remote.New(name, t, o.timeout), table: t}, nil
}

// Create makes the table, if there is none with its name. It needs the right to create tables in the schema. Whoever
// makes the table in another way finds the statement in the README.
func (s *Store) Create(ctx context.Context) error { return s.create(ctx) }

// Acquire implements [checkpoint.Store]. It may also return [ErrLostWrites].
func (s *Store) Acquire(ctx context.Context, key string) (checkpoint.Record, error) {
	return s.remote.Acquire(ctx, key)
}

// Commit implements [checkpoint.Store].
func (s *Store) Commit(ctx context.Context, key string, epoch uint64, p checkpoint.Position) error {
	return s.remote.Commit(ctx, key, epoch, p)
}

// Load implements [checkpoint.Store].
func (s *Store) Load(ctx context.Context, key string) (checkpoint.Record, error) {
	return s.remote.Load(ctx, key)
}

// Delete implements [checkpoint.Store].
func (s *Store) Delete(ctx context.Context, key string) error { return s.remote.Delete(ctx, key) }

// DefaultTable is the name of the table, if WithTable gives no other.
const DefaultTable = "streamsafe_checkpoints"

// Option configures a store. A nil Option is an error.
type Option func(*options)

type options struct {
	table   string
	timeout time.Duration
	mode    pgx.QueryExecMode
}

// WithTable sets the name of the table: "checkpoints", or "app.checkpoints" with its schema. Upper case counts. Default:
// DefaultTable, in the first schema of the search path. It must not be empty.
func WithTable(name string) Option { return func(o *options) { o.table = name } }

// WithTimeout limits each call, whatever its context allows, with everything that it tries again. Default, and zero or less:
// 5 s.
func WithTimeout(d time.Duration) Option { return func(o *options) { o.timeout = d } }

// WithPreparedStatements makes each connection prepare the statements of the store once, in pgx's cache of statements. The server
// then does not plan each commit again, which is about a third of the work. Default: nothing is prepared. Do not use it
// behind PgBouncer in transaction mode, unless PgBouncer has max_prepared_statements (1.21 and later).
func WithPreparedStatements() Option {
	return func(o *options) { o.mode = pgx.QueryExecModeCacheStatement }
}
