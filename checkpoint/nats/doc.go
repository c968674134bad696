// Package nats keeps the positions of streams in a key-value bucket of NATS JetStream.
//
//	js, err := jetstream.New(conn)
//	if err != nil {
//		return err
//	}
//	store, err := nats.New(js, "checkpoints")
//	if err != nil {
//		return err
//	}
//	if err := store.Create(ctx); err != nil { // makes the bucket, if it is not there
//		return err
//	}
//	s, err := stream.Resilient(ctx, client.Watch, callbacks, stream.WithStore(store, "orders"))
//
// # Guarantees
//
// Those of [checkpoint.Store], across processes. A commit is one publish and one round trip. JetStream decides who may
// write: each publish names the revision that it replaces.
//
// Bounded: a call takes 5 s at most, or what [WithTimeout] says, whether its context has a deadline or not. One try takes a
// quarter of that. A try that finds a conflict, or nobody who answers, is followed by another.
//
// If the answer to a commit is lost, the store reads the record to find out whether it was written. That includes a
// publish that the client keeps while it is not connected, and sends later: it names an old revision then.
//
// # Not guaranteed
//
// What a server loses that stops without having synced its disk. See the README.
//
// # Goroutines and cancellation
//
// The store starts none.
package nats
