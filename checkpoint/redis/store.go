package redis

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/checkpoint/internal/remote"
)

const name = "checkpoint/redis"

// ErrLostWrites means that the server has less than this process has written to it: a failover or a crash has lost writes,
// or a backup was restored. Only Acquire returns it. To call Acquire again accepts what the server has.
var ErrLostWrites = remote.ErrLostWrites

// ErrNotWriter means that the server is a replica, and stayed one for as long as the call has tried.
var ErrNotWriter = errors.New("the server is a replica")

// ErrEvicts means that the server may drop positions when its memory is full.
var ErrEvicts = errors.New("maxmemory-policy evicts keys without a time limit: set noeviction")

// Store is a [checkpoint.Store] in Redis. It must not be copied.
type Store struct {
	remote  *remote.Store // set at construction, then read only, as the rest is
	masters func(context.Context, func(context.Context, *redis.Client) error) error
}

var _ checkpoint.Store = (*Store)(nil)

// New returns a store on one server, or on one that Sentinel watches. The client stays the caller's: the store does not
// close it. It needs Options.ContextTimeoutEnabled, since otherwise nothing would bound a call. New does not connect. The
// error is about the client or an option.
func New(client *redis.Client, opts ...Option) (*Store, error) {
	if client == nil {
		return nil, errors.New(name + ": the client is nil")
	}
	one := func(ctx context.Context, f func(context.Context, *redis.Client) error) error { return f(ctx, client) }
	return newStore(client.Process, one, client.Options().ContextTimeoutEnabled, opts)
}

// NewCluster is New for a cluster. Each key of the store is one key of Redis, so a call never crosses slots.
//
// There is no store on a redis.Ring. If a server of a Ring is down, another one takes its keys, without what they hold.
func NewCluster(client *redis.ClusterClient, opts ...Option) (*Store, error) {
	if client == nil {
		return nil, errors.New(name + ": the client is nil")
	}
	return newStore(client.Process, client.ForEachMaster, client.Options().ContextTimeoutEnabled, opts)
}

func newStore(
	process func(context.Context, redis.Cmder) error,
	masters func(context.Context, func(context.Context, *redis.Client) error) error,
	bounded bool, opts []Option,
) (*Store, error) {
	o := options{prefix: DefaultPrefix}
	if err := remote.Apply(name, &o, opts); err != nil {
		return nil, err
	}
	if !bounded {
		return nil, errors.New(name + ": set ContextTimeoutEnabled in the options of the client: without it a call does not end with its context")
	}
	s := newServer(func(ctx context.Context, cmd redis.Cmder) error { return named(process(ctx, cmd)) }, o.prefix)
	return &Store{remote: remote.New(name, s, o.timeout), masters: masters}, nil
}

// Create sees that the server, or each master of the cluster, evicts no positions. It changes nothing: Redis needs no
// schema. It needs the right to call INFO. Errors: [ErrEvicts], and those of the server.
func (s *Store) Create(ctx context.Context) error {
	err := s.remote.Bounded(ctx, func(ctx context.Context) error {
		return s.masters(ctx, func(ctx context.Context, client *redis.Client) error {
			info, err := client.Info(ctx, "memory").Result()
			if err == nil && strings.Contains(info, "maxmemory_policy:allkeys") {
				err = ErrEvicts
			}
			return err
		})
	})
	if err != nil {
		return fmt.Errorf("%s: create: %w", name, err)
	}
	return nil
}

// Acquire implements [checkpoint.Store]. It may also return [ErrLostWrites].
func (s *Store) Acquire(ctx context.Context, key string) (checkpoint.Record, error) {
	return s.remote.Acquire(ctx, key)
}

// Commit implements [checkpoint.Store].
func (s *Store) Commit(ctx context.Context, key string, epoch uint64, p checkpoint.Position) error {
	return s.remote.Commit(ctx, key, epoch, p)
}

// Load implements [checkpoint.Store]. It asks the master, and needs the right to write.
func (s *Store) Load(ctx context.Context, key string) (checkpoint.Record, error) {
	return s.remote.Load(ctx, key)
}

// Delete implements [checkpoint.Store].
func (s *Store) Delete(ctx context.Context, key string) error { return s.remote.Delete(ctx, key) }

// DefaultPrefix is what the names of keys in Redis begin with, if WithPrefix gives nothing else.
const DefaultPrefix = "streamsafe:checkpoint:"

// Option configures a store. A nil Option is an error.
type Option func(*options)

type options struct {
	prefix  string
	timeout time.Duration
}

// WithPrefix sets what the names of keys in Redis begin with. The key of the store follows, as it is. Default:
// DefaultPrefix. Empty: nothing.
func WithPrefix(prefix string) Option { return func(o *options) { o.prefix = prefix } }

// WithTimeout limits each call, whatever its context allows, with everything that it tries again. Default, and zero or less:
// 5 s.
func WithTimeout(d time.Duration) Option { return func(o *options) { o.timeout = d } }
