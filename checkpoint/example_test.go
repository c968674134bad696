package checkpoint_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/streamsafe/streamsafe/checkpoint"
)

func Example() {
	ctx := context.Background()
	var store checkpoint.Memory

	older, _ := store.Acquire(ctx, "orders")
	fmt.Println("starts at the beginning:", older.Position.IsZero())
	fmt.Println(store.Commit(ctx, "orders", older.Epoch, checkpoint.Position{Seq: 41}))

	newer, _ := store.Acquire(ctx, "orders") // another process takes over
	fmt.Println("starts at seq", newer.Position.Seq)
	fmt.Println(store.Commit(ctx, "orders", older.Epoch, checkpoint.Position{Seq: 42}))
	fmt.Println(store.Commit(ctx, "orders", newer.Epoch, checkpoint.Position{Seq: 40}))
	// Output:
	// starts at the beginning: true
	// <nil>
	// starts at seq 41
	// checkpoint: commit "orders": owner is fenced: epoch 1, and the owner's is 2
	// checkpoint: commit "orders": position moves back: from 41 to 40 in lineage ""
}

func ExampleOpenFile() {
	ctx := context.Background()
	parent, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(parent)
	dir := filepath.Join(parent, "checkpoints")

	store, err := checkpoint.OpenFile(dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	owner, _ := store.Acquire(ctx, "orders")
	_ = store.Commit(ctx, "orders", owner.Epoch, checkpoint.Position{Token: "page 7"})
	_, err = checkpoint.OpenFile(dir)
	fmt.Println("in use:", errors.Is(err, checkpoint.ErrLocked))
	_ = store.Close()

	store, err = checkpoint.OpenFile(dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close()
	owner, _ = store.Acquire(ctx, "orders")
	fmt.Println("epoch", owner.Epoch, "starts at", owner.Position.Token)
	// Output:
	// in use: true
	// epoch 2 starts at page 7
}
