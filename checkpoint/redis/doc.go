// Package redis keeps the positions of streams in Redis, one hash for each key.
//
//	client := redis.NewClient(&redis.Options{Addr: "redis:6379", ContextTimeoutEnabled: true})
//	defer client.Close()
//	store, err := checkpointredis.New(client)
//	if err != nil {
//		return err
//	}
//	if err := store.Create(ctx); err != nil { // sees that the server evicts nothing
//		return err
//	}
//	s, err := stream.Resilient(ctx, client.Watch, callbacks, stream.WithStore(store, "orders"))
//
// # Guarantees
//
// Those of [checkpoint.Store], across processes. A commit is one call of one script, and one round trip. Redis decides who
// may write: each call names the version of the record that it replaces.
//
// Bounded: a call takes 5 s at most, or what [WithTimeout] says, whether its context has a deadline or not. A call that
// finds a broken connection, a conflict, or a server that is no master tries again for about a third of a second.
//
// If the answer to a commit is lost, the store reads the record to find out whether it was written. go-redis does not
// repeat the script by itself, whatever MaxRetries says.
//
// Cluster: each call touches one key.
//
// # Not guaranteed
//
// What Redis loses: in a failover, in a crash without appendfsync always, by eviction. See the README.
//
// # Goroutines and cancellation
//
// The store starts none. go-redis closes a connection if a context ends while a call is on its way.
package redis
