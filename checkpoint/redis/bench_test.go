package redis_test

import (
	"testing"

	"github.com/streamsafe/streamsafe/checkpoint/internal/servertest"
)

// BenchmarkCommit compares a commit with the least that a write could be on the same server: an HSET of a number and a time.
func BenchmarkCommit(b *testing.B) {
	client, prefix := newClient(b, servertest.Address(b, server)), newPrefix()
	servertest.Commits(b, newStore(b, client), func(key string, seq uint64) error {
		return client.HSet(b.Context(), prefix+key, "seq", seq, "updated", "1700000000000000").Err()
	})
}
