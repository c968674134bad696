package checkpoint

import "context"

// Store keeps positions under keys. One key belongs to one logical stream.
//
// There are no leases and no time limits: the last to Acquire a key owns it at once, and every earlier owner's next
// Commit fails with [ErrFenced].
//
// A Store is safe for concurrent use. Every method is atomic. A context that is done when the method is called makes
// it fail with an error that matches the context's, and nothing changes. A context that ends during the call makes it
// return soon, or run to its end.
//
// An error that matches none of this package's errors leaves the record as it was or changed in full, never in part.
// To repeat the call is always safe.
//
// The package storetest checks all of this.
type Store interface {
	// Acquire makes the caller the owner of key. The record it returns has the owner's epoch, which is higher than
	// every earlier epoch of the key, and the position to start from. A key never seen before gets epoch 1 and the
	// zero Position; a deleted one gets the next epoch and the zero Position.
	//
	// Errors: [ErrInvalidKey]; any other if the epoch is the highest that there is, which counting does not reach.
	Acquire(ctx context.Context, key string) (Record, error)

	// Commit writes p for the owner with this epoch. p may repeat the position that is there, may be unordered (Seq
	// 0), and may start another lineage at any Seq. What it may not do is lie [Position.Before] the position that is
	// there.
	//
	// Errors: [ErrFenced] if epoch is not the current owner's, which includes epoch 0, a key that was never
	// acquired and one that was deleted since; [ErrRegression]; [ErrInvalidKey]; [ErrInvalidPosition].
	Commit(ctx context.Context, key string, epoch uint64, p Position) error

	// Load returns the record of key and changes nothing. It fences nobody.
	//
	// Errors: [ErrNotFound] if the key was never acquired or is deleted; [ErrInvalidKey].
	Load(ctx context.Context, key string) (Record, error)

	// Delete forgets the position of key and fences its owner. The epoch is kept, so that an owner from before the
	// Delete can never commit into the record of one after it. To delete a key that is not there is not an error.
	//
	// Errors: [ErrInvalidKey].
	Delete(ctx context.Context, key string) error
}
