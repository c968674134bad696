// Package checkpoint keeps the positions from which streams resume.
//
// A stream's owner acquires a key, starts from the position it gets, and commits how far it has come:
//
//	store, err := checkpoint.OpenFile("/var/lib/orders/checkpoints")
//	if err != nil {
//		return err
//	}
//	defer store.Close()
//	owner, err := store.Acquire(ctx, "orders") // from here on every earlier owner is fenced
//	if err != nil {
//		return err
//	}
//	next, err := process(ctx, owner.Position)
//	if err != nil {
//		return err
//	}
//	return store.Commit(ctx, "orders", owner.Epoch, next)
//
// [Memory] keeps positions for the life of the process, [File] on disk. A [Store] of one's own takes the suite in
// package storetest to check.
//
// # Guarantees
//
// Fenced: the last to Acquire a key owns it at once. Every earlier owner's Commit fails with [ErrFenced], also one that
// was on its way. There are no leases and no clocks in this (invariant 24).
//
// Monotone: within a lineage no Commit moves Seq back, whoever makes it ([ErrRegression], invariant 24). A position of
// another lineage, or with Seq 0, is not compared (invariant 17).
//
// Epochs are not used twice, not even after a Delete.
//
// Atomic: a Commit is seen in full or not at all.
//
// Durable, with File: what was written when a method returned nil is there after a kill or a loss of power. A record
// that was damaged since is an error with the file's name and never a position.
//
// # Not guaranteed
//
// That a fenced owner notices. It learns of it at its next Commit; until then it may go on processing.
//
// That what was processed was committed. Between the two a crash makes the next owner process it again.
//
// That seq 3 cannot follow seq 5. It can by way of a position with Seq 0 or of another lineage: who mixes those gives
// up the order.
//
// A File on a network file system: its lock, its rename and its sync are then what that file system makes of them. The
// lock is on the file named LOCK in the directory, which is not to be removed while the store is open.
//
// # Goroutines and cancellation
//
// Everything is safe for concurrent use, and nothing starts a goroutine. A context that is done makes a method fail and
// change nothing. In File a call gives up waiting for its turn when its context ends; once it writes, it runs to its
// end.
//
// # Errors
//
// Errors come wrapped, with the operation and the key: use errors.Is, and errors.AsType for [*DamagedError]. An error
// that matches none of this package, an I/O error say, leaves the record as it was or changed in full. To repeat the
// call is safe.
package checkpoint
