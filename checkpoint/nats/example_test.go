package nats_test

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/streamsafe/streamsafe/checkpoint"
	natsstore "github.com/streamsafe/streamsafe/checkpoint/nats"
)

func Example() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	nc, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: dir, NoSigs: true, NoLog: true,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	nc.Start()
	defer nc.Shutdown()
	nc.ReadyForConnections(10 * time.Second)
	conn, err := nats.Connect(nc.ClientURL())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.Close()
	fmt.Println(useStore(context.Background(), conn))
	// Output:
	// starts at seq 41
	// checkpoint/nats: commit "orders": owner is fenced: epoch 1, and the owner's is 2
}

func useStore(ctx context.Context, conn *nats.Conn) error {
	js, err := jetstream.New(conn)
	if err != nil {
		return err
	}
	store, err := natsstore.New(js, "checkpoints")
	if err != nil {
		return err
	}
	if err := store.Create(ctx); err != nil {
		return err
	}
	older, err := store.Acquire(ctx, "orders")
	if err != nil {
		return err
	}
	if err := store.Commit(ctx, "orders", older.Epoch, checkpoint.Position{Seq: 41}); err != nil {
		return err
	}
	newer, err := store.Acquire(ctx, "orders") // another process takes over
	if err != nil {
		return err
	}
	fmt.Println("starts at seq", newer.Position.Seq)
	return store.Commit(ctx, "orders", older.Epoch, checkpoint.Position{Seq: 42})
}
