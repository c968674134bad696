package postgres_test

import (
	"context"
	"encoding/binary"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/checkpoint/postgres"
	"github.com/streamsafe/streamsafe/stream"
)

// Each order is written once, whatever breaks: its row and the position behind it are in one transaction, which is fenced by
// the epoch that the stream holds.
//
//	CREATE TABLE orders (id bigint, content bytea);
func ExampleStore_CommitTx() {
	_ = func(ctx context.Context, client testpb.TestServiceClient, pool *pgxpool.Pool) error {
		store, err := postgres.New(pool)
		if err != nil {
			return err
		}
		if err := store.Create(ctx); err != nil {
			return err
		}
		position := func(order *testpb.StreamingOutputCallResponse) (checkpoint.Position, bool) {
			return checkpoint.Position{Seq: binary.BigEndian.Uint64(order.GetPayload().GetBody())}, true
		}
		s, err := stream.ResilientServerStreaming(ctx, client.StreamingOutputCall, ordersAfter,
			stream.Callbacks[testpb.StreamingOutputCallRequest, testpb.StreamingOutputCallResponse]{Checkpoint: position},
			stream.WithStore(store, "orders"),
			stream.WithManualCommit(), // the application commits, by CommitTx
		)
		if err != nil {
			return err
		}
		defer s.Close()
		for {
			order, err := s.Recv()
			if err != nil {
				return err
			}
			at, _ := position(order)
			err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
				const insert = "INSERT INTO orders (id, content) VALUES ($1, $2)"
				if _, err := tx.Exec(ctx, insert, int64(at.Seq), order.GetPayload().GetBody()); err != nil {
					return err
				}
				return store.CommitTx(ctx, tx, "orders", s.Stats().StoreEpoch, at)
			})
			if err != nil && !errors.Is(err, postgres.ErrAlreadyCommitted) {
				return err // ErrFenced: another process has taken over. Otherwise begin again, here or with a new stream.
			}
		}
	}
}

func ordersAfter(from checkpoint.Position) (*testpb.StreamingOutputCallRequest, error) {
	return &testpb.StreamingOutputCallRequest{Payload: &testpb.Payload{Body: binary.BigEndian.AppendUint64(nil, from.Seq)}}, nil
}
