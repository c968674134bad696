package nats

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/checkpoint/internal/remote"
)

const name = "checkpoint/nats"

// ErrLostWrites means that the server has less than this process has written to it: it has lost writes, or a backup was
// restored. Only Acquire returns it. To call Acquire again accepts what the server has.
var ErrLostWrites = remote.ErrLostWrites

// ErrBucket means that there is no bucket with the name, or that it has a setting that no store can live with. The text
// names the setting.
var ErrBucket = errors.New("wrong bucket")

// Store is a [checkpoint.Store] in a bucket of JetStream. It must not be copied.
type Store struct {
	remote *remote.Store // set at construction, then read only
	bucket *bucket
}

var _ checkpoint.Store = (*Store)(nil)

// New returns a store in the bucket. js and its connection stay the caller's: the store does not close them. New does not
// ask the server. The error is about an argument.
func New(js jetstream.JetStream, bucketName string, opts ...Option) (*Store, error) {
	if js == nil {
		return nil, errors.New(name + ": js is nil")
	}
	if !validBucket(bucketName) {
		return nil, fmt.Errorf("%s: %q is no name of a bucket: letters, digits, - and _", name, bucketName)
	}
	o := options{timeout: remote.DefaultTimeout, replicas: 1}
	if err := remote.Apply(name, &o, opts); err != nil {
		return nil, err
	}
	if o.replicas < 1 || o.replicas > 5 {
		return nil, fmt.Errorf("%s: %d replicas; WithReplicas takes 1 to 5", name, o.replicas)
	}
	b := &bucket{js: js, name: bucketName, replicas: o.replicas, perTry: max(o.timeout/4, time.Millisecond)}
	return &Store{remote: remote.New(name, b, o.timeout), bucket: b}, nil
}

// validBucket tells whether name can be a bucket's.
func validBucket(name string) bool {
	return regexp.MustCompile(`^[a-zA-Z0-9_-]+$`).MatchString(name)
}

// Create makes the bucket, if there is none with its name. A bucket that is there is left as it is. If it has a setting
// that no store can live with, the error matches [ErrBucket].
func (s *Store) Create(ctx context.Context) error {
	err := s.remote.Bounded(ctx, s.bucket.create)
	if err != nil {
		return fmt.Errorf("%s: create the bucket %q: %w", name, s.bucket.name, err)
	}
	return nil
}

// Acquire implements [checkpoint.Store]. It may also return [ErrLostWrites], and like the others [ErrBucket].
func (s *Store) Acquire(ctx context.Context, key string) (checkpoint.Record, error) {
	return s.remote.Acquire(ctx, key)
}

// Commit implements [checkpoint.Store].
func (s *Store) Commit(ctx context.Context, key string, epoch uint64, p checkpoint.Position) error {
	return s.remote.Commit(ctx, key, epoch, p)
}

// Load implements [checkpoint.Store].
func (s *Store) Load(ctx context.Context, key string) (checkpoint.Record, error) {
	return s.remote.Load(ctx, key)
}

// Delete implements [checkpoint.Store].
func (s *Store) Delete(ctx context.Context, key string) error { return s.remote.Delete(ctx, key) }

// Option configures a store. A nil Option is an error.
type Option func(*options)

type options struct {
	timeout  time.Duration
	replicas int
}

// WithTimeout limits each call, whatever its context allows, with everything that it tries again. Default, and zero or less:
// 5 s.
func WithTimeout(d time.Duration) Option {
	return func(o *options) {
		if d > 0 {
			o.timeout = d
		}
	}
}

// WithReplicas sets how many servers have the bucket that Create makes, 1 to 5. Default: 1. Use 3 in a cluster.
func WithReplicas(n int) Option { return func(o *options) { o.replicas = n } }
