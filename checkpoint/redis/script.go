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

// Three scripts are all that the store asks of Redis. Each is short, as its server has one thread. They do not compare epochs: the number
// of the write that is to be replaced tells a record from all others. Numbers are compared as text, since Lua has no integers of 64
// bits. Times have 16 digits, so they are compared as text too.
//
// The first write of a script is one that Redis refuses if its memory is full; it allows those after it.
const (
	// readScript returns the record. HDEL of a field that is never there changes nothing, and fails on a replica: a replica has
	// the records of some time ago.
	readScript = `
redis.call('HDEL', KEYS[1], '-')
return redis.call('HMGET', KEYS[1], ` + fields + `)`

	// acquireScript makes a new owner: owner, write.
	acquireScript = `
local before = redis.call('HMGET', KEYS[1], 'updated')[1]` + clock + `
redis.call('HINCRBY', KEYS[1], 'epoch', 1)
redis.call('HSET', KEYS[1], 'deleted', '0', 'owner', ARGV[1], 'write', ARGV[2], 'updated', now)
return redis.call('HMGET', KEYS[1], ` + fields + `)`

	// swapScript replaces a record: the write that is there, the new one, seq, token, and, if they change, lineage and deleted.
	swapScript = `
local record = redis.call('HMGET', KEYS[1], 'write', 'updated')
if record[1] ~= ARGV[1] then
	return 0
end
local before = record[2]` + clock + `
redis.call('HSET', KEYS[1], 'write', ARGV[2], 'seq', ARGV[3], 'token', ARGV[4], 'updated', now)
if ARGV[5] then
	redis.call('HSET', KEYS[1], 'lineage', ARGV[5], 'deleted', ARGV[6])
end
return 1`

	// fields are those that parse takes.
	fields = `'epoch', 'lineage', 'seq', 'token', 'deleted', 'owner', 'write', 'updated'`

	// clock sets now: the time in microseconds, which does not go back.
	clock = `
local time = redis.call('TIME')
local now = time[1] .. string.sub('00000' .. time[2], -6)
if before and before > now then
	now = before
end`
)

// server is a [remote.Backend] on Redis.
type server struct {
	process func(context.Context, redis.Cmder) error // set at construction, then read only, as the rest is
	prefix  string

	read, acquire, swap script
}

// script is a script, and the name that Redis gives it.
type script struct{ text, sha string }

func newScript(text string) script {
	sum := sha1.Sum([]byte(text)) //nolint:gosec // as above
	return script{text: text, sha: hex.EncodeToString(sum[:])}
}

func newServer(process func(context.Context, redis.Cmder) error, prefix string) *server {
	return &server{
		process: process, prefix: prefix,
		read: newScript(readScript), acquire: newScript(acquireScript), swap: newScript(swapScript),
	}
}

// once is a command that go-redis does not repeat by itself: it would not know what became of the first one.
type once struct{ *redis.Cmd }

// NoRetry implements [redis.Cmder].
func (once) NoRetry() bool { return true }

// run calls a script.
func (s *server) run(ctx context.Context, script script, key string, args ...any) (any, error) {
	answer, err := s.eval(ctx, "evalsha", script.sha, key, args)
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		answer, err = s.eval(ctx, "eval", script.text, key, args)
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
	answer, err := s.run(ctx, s.read, key)
	if err != nil {
		return remote.State{}, false, err
	}
	return parse(answer)
}

// Acquire implements [remote.Backend].
func (s *server) Acquire(ctx context.Context, key string, owner, write uint64) (remote.State, error) {
	answer, err := s.run(ctx, s.acquire, key, owner, write)
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
	args := []any{from.Write, to.Write, to.Position.Seq, to.Position.Token}
	if to.Position.Lineage != from.Position.Lineage || to.Deleted != from.Deleted {
		deleted := "0"
		if to.Deleted {
			deleted = "1"
		}
		args = append(args, to.Position.Lineage, deleted)
	}
	answer, err := s.run(ctx, s.swap, key, args...)
	return 0, answer == int64(1), err
}

// Judge implements [remote.Backend].
func (s *server) Judge(err error) remote.Verdict { return judge(err) }

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
