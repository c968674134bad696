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
// [Memory] keeps positions for the life of the process, [File] on disk. Modules of their own keep them on servers:
// checkpoint/postgres, checkpoint/redis and checkpoint/nats. A [Store] of one's own takes the suite in package storetest to
// check.
//
// # Guarantees
//
// Fenced: the last to Acquire a key owns it at once. Every earlier owner's Commit fails with [ErrFenced], also one that
// was on its way. There are no leases and no clocks in this.
//
// Monotone: within a lineage no Commit moves Seq back, whoever makes it ([ErrRegression]). A position of
// another lineage, or with Seq 0, is not compared.
//
// Epochs are not used twice, not even after a Delete, and with File not after a [File.Forget] either.
//
// Atomic: a Commit is seen in full or not at all.
//
// Durable, with File: what was written when a method returned nil is there after a kill or a loss of power. What a method
// returns is on the disk, too. A record that was damaged since is an error with the file's name. It is never a position,
// and never the position from before.
//
// One directory, with File: the store works in the directory that it has opened. Once the path does not lead there any
// more, every method fails with [ErrGone]. Otherwise two stores could each have an owner with the same epoch.
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
// lock is on the file named LOCK in the directory.
//
// That a File notices two faults at once. A write that was interrupted and a record that was damaged look alike. The mark
// that tells them apart reaches the disk within seconds, without a sync. If the machine loses power before that, and the
// disk loses or damages the record that it had synced as well, the one from before counts.
//
// That an empty directory is the right one. A mount point without its volume looks like a new store. [WithExisting]
// refuses it.
//
// # Deleted keys
//
// A deleted key keeps its epoch, in File in a small file. Without it the key would begin at epoch 1 again, and a late Commit
// of an owner from before the Delete would be taken for the new owner's. A program that uses each key once calls
// [File.Forget] from time to time: it removes these files and stays fenced.
//
// # Goroutines and cancellation
//
// Everything is safe for concurrent use, and nothing starts a goroutine. A context that is done makes a method fail and
// change nothing. In File a call gives up waiting for its turn when its context ends; once it writes, it runs to its
// end, which takes as long as the disk takes.
//
// # Errors
//
// Errors come wrapped, with the operation and the key: use errors.Is, and errors.AsType for [*DamagedError]. An error
// that matches none of this package, an I/O error say, leaves the record as it was or changed in full. The next call finds
// out which, and to repeat the call is safe: one's own position again is no error.
package checkpoint
