package redis_test

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/streamsafe/streamsafe/checkpoint/internal/servertest"
)

// BenchmarkCommit compares a commit with the least that a write could be on the same server: an HSET of a number and a time. The
// others say what makes the difference: the fields that a commit writes, and its deadline; a script that does nothing; the least
// script that compares and sets; the same without a script.
func BenchmarkCommit(b *testing.B) {
	client, prefix := newClient(b, servertest.Address(b, server)), newPrefix()
	script := func(text string) func(key string, seq uint64) error {
		sha, err := client.ScriptLoad(b.Context(), text).Result()
		if err != nil {
			b.Fatal(err)
		}
		return func(key string, seq uint64) error {
			return client.EvalSha(b.Context(), sha, []string{prefix + key}, "1", seq, "1700000000000000").Err()
		}
	}
	set := func(c redis.Cmdable, key string, seq uint64) *redis.IntCmd {
		return c.HSet(b.Context(), prefix+key, "seq", seq, "updated", "1700000000000000")
	}
	servertest.Commits(b,
		servertest.Commit(b, "commit", newStore(b, client)),
		servertest.Side{Name: "HSET", Write: func(key string, seq uint64) error { return set(client, key, seq).Err() }},
		servertest.Side{Name: "HSET-of-a-record", Write: func(key string, seq uint64) error { // which nothing compares
			ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
			defer cancel()
			return client.HSet(ctx, prefix+key, "write", seq, "seq", seq, "token", "", "updated", "1700000000000000").Err()
		}},
		servertest.Side{Name: "empty-script", Write: script("return 1")},
		servertest.Side{Name: "compare-and-set-script", Write: script(`
			if redis.call('HGET', KEYS[1], 'write') == ARGV[2] then return 0 end
			redis.call('HSET', KEYS[1], 'seq', ARGV[2], 'updated', ARGV[3])
			return 1`)},
		servertest.Side{Name: "WATCH-MULTI", Write: func(key string, seq uint64) error {
			return client.Watch(b.Context(), func(tx *redis.Tx) error {
				if err := tx.HGet(b.Context(), prefix+key, "seq").Err(); err != nil {
					return err
				}
				_, err := tx.TxPipelined(b.Context(), func(p redis.Pipeliner) error { return set(p, key, seq).Err() })
				return err
			}, prefix+key)
		}},
	)
}
