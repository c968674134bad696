package nats

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/streamsafe/streamsafe/checkpoint/internal/remote"
)

// bucket is a [remote.Backend] in a key-value bucket: a stream with a subject for each key, and one message for each subject.
type bucket struct {
	js       jetstream.JetStream // set at construction, then read only, as the next three are
	name     string
	replicas int
	perTry   time.Duration

	checked atomic.Pointer[jetstream.Stream] // the stream, once its settings were found to be right
}

func (b *bucket) streamName() string { return "KV_" + b.name }

// subject keeps any bytes apart: a token of a subject may have letters, digits, - and _.
func (b *bucket) subject(key string) string {
	return "$KV." + b.name + "." + base64.RawURLEncoding.EncodeToString([]byte(key))
}

// create makes the stream of a bucket as jetstream.CreateKeyValue does, but for AllowDirect: see check.
func (b *bucket) create(ctx context.Context) error {
	if _, err := b.open(ctx); err == nil || !errors.Is(err, jetstream.ErrStreamNotFound) {
		return err
	}
	made, err := b.js.CreateStream(ctx, jetstream.StreamConfig{
		Name:              b.streamName(),
		Description:       "positions of streams",
		Subjects:          []string{"$KV." + b.name + ".>"},
		MaxMsgsPerSubject: 1,
		MaxBytes:          -1,
		MaxMsgSize:        -1,
		MaxMsgs:           -1,
		MaxConsumers:      -1,
		Storage:           jetstream.FileStorage,
		Replicas:          b.replicas,
		Discard:           jetstream.DiscardNew,
		Duplicates:        2 * time.Minute,
		AllowRollup:       true,
		DenyDelete:        true,
	})
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // somebody was faster, with other settings
		_, err = b.open(ctx)
		return err
	}
	if err != nil {
		return err
	}
	return check(made.CachedInfo().Config)
}

// open returns the stream.
func (b *bucket) open(ctx context.Context) (jetstream.Stream, error) { //nolint:ireturn // jetstream has no struct for it
	if s := b.checked.Load(); s != nil {
		return *s, nil
	}
	s, err := b.js.Stream(ctx, b.streamName())
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, fmt.Errorf("%w: there is no bucket %q, call Create: %w", ErrBucket, b.name, err)
	}
	if err != nil {
		return nil, &notSentError{err}
	}
	if err := check(s.CachedInfo().Config); err != nil {
		return nil, err
	}
	b.checked.Store(&s)
	return s, nil
}

// check returns an error if records could vanish, or be read as they were some time ago.
func check(c jetstream.StreamConfig) error {
	switch {
	case c.MaxAge > 0:
		return fmt.Errorf("%w: records would vanish after %v: it needs max_age 0", ErrBucket, c.MaxAge)
	case c.MaxMsgs > 0 && c.Discard != jetstream.DiscardNew, c.MaxBytes > 0 && c.Discard != jetstream.DiscardNew:
		return fmt.Errorf("%w: records would vanish when it is full: it needs discard new", ErrBucket)
	case c.Mirror != nil:
		return fmt.Errorf("%w: it is a mirror, which nobody can write to", ErrBucket)
	case c.AllowDirect && c.Replicas > 1:
		return fmt.Errorf("%w: a server that is behind could answer: with more than one replica it needs allow_direct false", ErrBucket)
	}
	return nil
}

// Read implements [remote.Backend].
func (b *bucket) Read(ctx context.Context, key string) (remote.State, bool, error) {
	s, err := b.read(ctx, key)
	return s, s.Epoch != 0, err
}

// read returns the record. If there is none, its epoch is zero, and its revision is what a first write replaces.
func (b *bucket) read(ctx context.Context, key string) (remote.State, error) {
	ctx, cancel := context.WithTimeout(ctx, b.perTry)
	defer cancel()
	s, err := b.open(ctx)
	if err != nil {
		return remote.State{}, err
	}
	m, err := s.GetLastMsgForSubject(ctx, b.subject(key))
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return remote.State{}, nil
	case err != nil:
		return remote.State{}, err
	case len(m.Data) == 0 && len(m.Header) > 0: // somebody has deleted or purged the key by other means than the store
		return remote.State{Revision: m.Sequence}, nil
	}
	state, err := decode(m.Data)
	if err != nil {
		return remote.State{}, err
	}
	state.Revision = m.Sequence
	if m.Time.After(state.UpdatedAt) { // what was encoded is that of the record before: the clock may have been set back
		state.UpdatedAt = m.Time.UTC()
	}
	return state, nil
}

// Swap implements [remote.Backend].
func (b *bucket) Swap(ctx context.Context, key string, from, to remote.State) (uint64, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, b.perTry)
	defer cancel()
	if _, err := b.open(ctx); err != nil {
		return 0, false, err
	}
	to.UpdatedAt = from.UpdatedAt
	ack, err := b.js.PublishMsg(ctx, &nats.Msg{Subject: b.subject(key), Data: encode(to)},
		jetstream.WithExpectLastSequencePerSubject(from.Revision), jetstream.WithExpectStream(b.streamName()), jetstream.WithRetryAttempts(0))
	if isConflict(err) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	return ack.Sequence, true, nil
}

var errNoEpoch = errors.New("no epoch is left for another owner")

// Acquire implements [remote.Backend]. Who meets a conflict reads again: somebody else has made progress.
func (b *bucket) Acquire(ctx context.Context, key string, owner, write uint64) (remote.State, error) {
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		from, err := b.read(ctx, key)
		if err != nil {
			return remote.State{}, &notSentError{err}
		}
		if from.Epoch == math.MaxUint64 {
			return remote.State{}, errNoEpoch
		}
		to := from
		to.Epoch, to.Deleted, to.Owner, to.Write = from.Epoch+1, false, owner, write
		_, swapped, err := b.Swap(ctx, key, from, to)
		if err != nil {
			return remote.State{}, err
		}
		if swapped {
			return b.written(ctx, key, owner, to)
		}
		timer := time.NewTimer(rand.N(wait))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return remote.State{}, &notSentError{ctx.Err()}
		}
	}
}

// written reads the record again: an acknowledgement does not tell when the server has written it.
func (b *bucket) written(ctx context.Context, key string, owner uint64, to remote.State) (remote.State, error) {
	now, err := b.read(ctx, key)
	switch {
	case err != nil:
		return remote.State{}, err
	case now.Owner == owner && now.Epoch == to.Epoch && !now.Deleted:
		return now, nil
	}
	to.Revision = 0 // another owner has the key already; the next commit finds out
	return to, nil
}
