package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/checkpoint/internal/remote"
)

// CommitTx commits p for the owner with this epoch, as Commit does, but in tx, a transaction of the caller. So p and
// whatever else tx writes become visible together, or not at all.
//
//	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
//		if _, err := tx.Exec(ctx, "INSERT INTO orders …"); err != nil {
//			return err
//		}
//		return store.CommitTx(ctx, tx, "orders", epoch, p)
//	})
//
// With a stream use WithStore and WithManualCommit, and do not call the stream's Commit: then the stream acquires the key
// and starts from its position, and leaves all writing to the application. The epoch is Stats().StoreEpoch.
//
// If CommitTx returns an error, roll back. Until tx ends, the row is locked: another owner's Acquire waits for that. So
// call CommitTx last, and set idle_in_transaction_session_timeout.
//
// If the answer to COMMIT is lost, run the whole transaction again, with the same p. [ErrAlreadyCommitted] then says that
// the first one has succeeded. It also comes if p has not moved since the last commit: then there is nothing that could
// tell a new effect from one that was done before.
//
// Errors: [ErrAlreadyCommitted]; those of Commit; any other is PostgreSQL's, and errors.As finds the *pgconn.PgError.
func (s *Store) CommitTx(ctx context.Context, tx pgx.Tx, key string, epoch uint64, p checkpoint.Position) error {
	return s.remote.Call(ctx, "commit", key, func(ctx context.Context) error {
		if err := p.Validate(); err != nil {
			return err
		}
		for {
			tag, err := tx.Exec(ctx, s.table.commitTx, s.table.mode, []byte(key), epoch, int64(s.remote.Owner(key, epoch)),
				[]byte(p.Lineage), p.Seq, []byte(p.Token), int64(remote.Random()))
			if err != nil || tag.RowsAffected() > 0 {
				return err
			}
			now, there, err := scan(tx.QueryRow(ctx, s.table.read, s.table.mode, []byte(key)))
			if err != nil {
				return err
			}
			if err := s.remote.Refuses(key, now, there, epoch, p); err != nil {
				return err
			}
			if now.Position == p {
				return ErrAlreadyCommitted
			}
		} // the row has changed between the two statements
	})
}
