package redis

import (
	"context"
	"crypto/sha1" //nolint:gosec // EVALSHA names scripts by it
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/streamsafe/streamsafe/checkpoint/internal/remote"
)

// script is all that the store asks of Redis. Epochs and numbers of writes are compared as text, since Lua has no integers of
// 64 bits. HDEL of a field that is never there changes nothing, and fails on a replica: a replica has the records of some
// time ago. The first write of an operation is one that Redis refuses if its memory is full; it allows those after it.
//
// If an owner or a write is there already, this call is the second of two: it says the same as the first.
const script = `
local key, op = KEYS[1], ARGV[1]
local function record()
	return redis.call('HMGET', key, 'epoch', 'lineage', 'seq', 'token', 'deleted', 'owner', 'write', 'updated')
end
local function now(before)
	local time = redis.call('TIME')
	local micros = tonumber(time[1]) * 1000000 + tonumber(time[2])
	if before and tonumber(before) > micros then
		micros = tonumber(before)
	end
	return string.format('%.0f', micros)
end
if op == 'read' then
	redis.call('HDEL', key, '-')
	return record()
end
if op == 'acquire' then
	local r = record()
	if r[6] ~= ARGV[2] then
		redis.call('HINCRBY', key, 'epoch', 1)
		redis.call('HSET', key, 'deleted', '0', 'owner', ARGV[2], 'write', ARGV[3], 'updated', now(r[8]))
	end
	return record()
end
local r = redis.call('HMGET', key, 'epoch', 'write', 'updated')
if r[2] == ARGV[4] then
	return 1
end
if r[1] ~= ARGV[2] or r[2] ~= ARGV[3] then
	return 0
end
redis.call('HSET', key, 'write', ARGV[4], 'lineage', ARGV[5], 'seq', ARGV[6], 'token', ARGV[7], 'deleted', ARGV[8], 'updated', now(r[3]))
return 1`

// server is a [remote.Backend] on Redis.
type server struct {
	process func(context.Context, redis.Cmder) error // set at construction, then read only, as the rest is
	prefix  string
	sha     string
}

func newServer(process func(context.Context, redis.Cmder) error, prefix string) *server {
	sum := sha1.Sum([]byte(script)) //nolint:gosec // as above
	return &server{process: process, prefix: prefix, sha: hex.EncodeToString(sum[:])}
}

// once is a command that go-redis does not repeat by itself: it would not know what became of the first one.
type once struct{ *redis.Cmd }

// NoRetry implements [redis.Cmder].
func (once) NoRetry() bool { return true }

// run calls the script.
func (s *server) run(ctx context.Context, key string, args ...any) (any, error) {
	answer, err := s.eval(ctx, "evalsha", s.sha, key, args)
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		answer, err = s.eval(ctx, "eval", script, key, args)
	}
	return answer, err
}

func (s *server) eval(ctx context.Context, command, what, key string, args []any) (any, error) {
	cmd := once{redis.NewCmd(ctx, append([]any{command, what, 1, s.prefix + key}, args...)...)}
	if err := s.process(ctx, cmd); err != nil {
		return nil, err
	}
	return cmd.Result()
}

// Read implements [remote.Backend].
func (s *server) Read(ctx context.Context, key string) (remote.State, bool, error) {
	answer, err := s.run(ctx, key, "read")
	if err != nil {
		return remote.State{}, false, err
	}
	return parse(answer)
}

// Acquire implements [remote.Backend].
func (s *server) Acquire(ctx context.Context, key string, owner, write uint64) (remote.State, error) {
	answer, err := s.run(ctx, key, "acquire", decimal(owner), decimal(write))
	if err != nil {
		return remote.State{}, err
	}
	state, there, err := parse(answer)
	if err == nil && !there {
		err = errors.New("the script has made no record")
	}
	return state, err
}

// Swap implements [remote.Backend].
func (s *server) Swap(ctx context.Context, key string, from, to remote.State) (uint64, bool, error) {
	deleted := "0"
	if to.Deleted {
		deleted = "1"
	}
	answer, err := s.run(ctx, key, "swap", decimal(from.Epoch), decimal(from.Write), decimal(to.Write),
		to.Position.Lineage, decimal(to.Position.Seq), to.Position.Token, deleted)
	return 0, answer == int64(1), err
}

// Judge implements [remote.Backend].
func (s *server) Judge(err error) remote.Verdict { return judge(err) }

func decimal(n uint64) string { return strconv.FormatUint(n, 10) }

// errForeign means that the key holds something else than a record. It matches no error of the network: nothing was written.
type foreignError struct{ what string }

func (e *foreignError) Error() string { return "this is no record of a store: " + e.what }

// parse reads what the script returns of a record.
func parse(answer any) (s remote.State, there bool, err error) {
	fields, ok := answer.([]any)
	if !ok || len(fields) != 8 {
		return s, false, &foreignError{fmt.Sprintf("%T", answer)}
	}
	if fields[0] == nil {
		return s, false, nil
	}
	text := func(i int) string {
		value, _ := fields[i].(string)
		return value
	}
	number := func(i int) (n uint64) {
		if fields[i] != nil && err == nil {
			if n, err = strconv.ParseUint(text(i), 10, 64); err != nil {
				err = &foreignError{err.Error()}
			}
		}
		return n
	}
	s.Epoch, s.Position.Seq, s.Owner, s.Write = number(0), number(2), number(5), number(6)
	s.Position.Lineage, s.Position.Token = text(1), text(3)
	s.Deleted = text(4) == "1"
	s.UpdatedAt = time.UnixMicro(int64(number(7))).UTC() //nolint:gosec // microseconds fit
	if err != nil {
		return remote.State{}, false, err
	}
	return s, true, nil
}
