package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// connections gives connections.
type connections interface {
	// with calls f with a connection that nobody else uses meanwhile.
	with(ctx context.Context, f func(*pgx.Conn) error) error
}

// fromPool takes a connection from a pool for each call.
type fromPool struct{ pool *pgxpool.Pool }

func (p fromPool) with(ctx context.Context, f func(*pgx.Conn) error) error {
	conn, err := p.pool.Acquire(ctx)
	if err != nil {
		return &notSentError{err}
	}
	defer conn.Release()
	err = f(conn.Conn())
	if isNotWriter(err) {
		// The server has become a standby. The next connection may find the writer.
		_ = conn.Conn().Close(ctx)
	}
	return err
}

// onConn is one connection. Whoever has put a value into turn has it.
type onConn struct {
	conn *pgx.Conn
	turn chan struct{}
}

func (o onConn) with(ctx context.Context, f func(*pgx.Conn) error) error {
	select {
	case o.turn <- struct{}{}:
	case <-ctx.Done():
		return &notSentError{ctx.Err()}
	}
	defer func() { <-o.turn }()
	if o.conn.IsClosed() {
		return errConnClosed
	}
	return f(o.conn)
}

var errConnClosed = errors.New("the connection is closed, and NewOnConn has no other")

// notSentError is an error from before anything was sent.
type notSentError struct{ error }

func (e *notSentError) Unwrap() error { return e.error }
