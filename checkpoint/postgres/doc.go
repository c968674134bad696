// Package postgres keeps the positions of streams in a PostgreSQL table.
//
//	pool, err := pgxpool.New(ctx, "postgres://app@db/app")
//	if err != nil {
//		return err
//	}
//	defer pool.Close()
//	store, err := postgres.New(pool)
//	if err != nil {
//		return err
//	}
//	if err := store.Create(ctx); err != nil { // makes the table, if it is not there
//		return err
//	}
//	s, err := stream.Resilient(ctx, client.Watch, callbacks, stream.WithStore(store, "orders"))
//
// [Store.CommitTx] commits a position in a transaction of the application, together with what the messages up to it
// have done to the application's own tables: exactly once.
//
// # Guarantees
//
// Those of [checkpoint.Store], across processes. A commit is one statement and one round trip. PostgreSQL decides who
// may write: each statement names the version of the row that it replaces.
//
// Bounded: a call takes 5 s at most, or what [WithTimeout] says, whether its context has a deadline or not. A call that
// finds a broken connection, a conflict, or a server that is no writer tries again for about a third of a second.
//
// If the answer to a commit is lost, the store reads the row to find out whether it was written.
//
// No session state: the store works through PgBouncer in transaction mode. Without [WithPreparedStatements] it prepares no
// statement, whatever the mode of the connection. It sets nothing, and takes no advisory lock.
//
// # Not guaranteed
//
// What a failover with asynchronous replication loses. See the README.
//
// # Goroutines and cancellation
//
// The store starts none. pgx closes a connection if a context ends while a statement is on its way.
package postgres
