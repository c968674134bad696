package redis_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/checkpoint"
	checkpointredis "github.com/streamsafe/streamsafe/checkpoint/redis"
)

// asked is what a server was asked for: how often each command was called, and how many bytes it has answered with.
type asked struct {
	calls map[string]int
	bytes int
}

func askedFor(t *testing.T, client *redis.Client) asked {
	t.Helper()
	a := asked{calls: map[string]int{}}
	for line := range strings.Lines(client.Info(t.Context(), "commandstats").Val()) {
		if command, figures, ok := strings.Cut(line, ":calls="); ok {
			calls, _, _ := strings.Cut(figures, ",")
			n, err := strconv.Atoi(calls)
			require.NoError(t, err, line)
			a.calls[strings.TrimPrefix(command, "cmdstat_")] = n
		}
	}
	delete(a.calls, "info")
	_, rest, _ := strings.Cut(client.Info(t.Context(), "stats").Val(), "total_net_output_bytes:")
	rest, _, _ = strings.Cut(rest, "\r")
	var err error
	a.bytes, err = strconv.Atoi(rest)
	require.NoError(t, err)
	return a
}

// With a million keys the server is asked for the same as with a hundred: nothing looks at other keys.
func TestNothingIsScanned(t *testing.T) {
	t.Parallel()
	const few, most = 100, 1_000_000
	many := most
	if testing.Short() {
		many = 10_000
	}
	p := startProcess(t, "--appendonly", "no")
	client, prefix := newClient(t, p.Address), newPrefix()
	store := newStore(t, client, checkpointredis.WithPrefix(prefix))
	fill := redis.NewScript(`for n = ARGV[1], ARGV[2] do
		redis.call('HSET', string.format('%s%07d', KEYS[1], n), 'epoch', '1', 'lineage', 'a', 'seq', n, 'token', '', 'deleted', '0',
			'owner', '1', 'write', n, 'updated', '1700000000000000')
	end`)
	filled := 0
	fillTo := func(last int) {
		t.Helper()
		for filled < last {
			next := min(filled+10_000, last)
			require.ErrorIs(t, fill.Run(t.Context(), client, []string{prefix}, filled+1, next).Err(), redis.Nil)
			filled = next
		}
	}
	// work uses as many keys as there are at first.
	work := func(from int) asked {
		t.Helper()
		for round := range 2 { // the first one makes the server know the scripts
			if round == 1 {
				require.NoError(t, client.ConfigResetStat(t.Context()).Err())
			}
			for n := range few / 2 {
				key := fmt.Sprintf("%07d", from+n+round*few/2)
				owner, err := store.Acquire(t.Context(), key)
				require.NoError(t, err)
				require.Equal(t, uint64(2), owner.Epoch, "the key was there")
				require.NoError(t, store.Commit(t.Context(), key, owner.Epoch, checkpoint.Position{Lineage: "b", Seq: 1}))
				r, err := store.Load(t.Context(), key)
				require.NoError(t, err)
				require.Equal(t, "b", r.Position.Lineage)
				require.NoError(t, store.Delete(t.Context(), key))
			}
		}
		return askedFor(t, client)
	}
	fillTo(few)
	before := work(1)
	fillTo(many)
	after := work(many / 2)
	require.Equal(t, int64(many), client.DBSize(t.Context()).Val())

	delete(before.calls, "config|resetstat")
	delete(after.calls, "config|resetstat")
	require.Equal(t, before.calls, after.calls, "the commands, and how often")
	for command := range after.calls {
		require.Contains(t, []string{"evalsha", "hdel", "hmget", "hincrby", "hset", "time"}, command)
	}
	require.InEpsilon(t, before.bytes, after.bytes, 0.2, "what comes back, so also what the store could keep of it")
}
