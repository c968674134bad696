package nats_test

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/checkpoint/internal/servertest"
)

// BenchmarkCommit compares a commit with a Put of a number into a bucket of the same server.
func BenchmarkCommit(b *testing.B) {
	js, bucket := dial(b, newNode(b).Addr().String()), newBucket()
	newStore(b, js, bucket)
	kv, err := js.KeyValue(b.Context(), bucket)
	require.NoError(b, err)
	servertest.Commits(b, servertest.Commit(b, "commit", newStore(b, js, newBucket())), servertest.Side{Name: "Put", Write: func(key string, seq uint64) error {
		_, err := kv.Put(b.Context(), key, binary.BigEndian.AppendUint64(nil, seq))
		return err
	}})
}
