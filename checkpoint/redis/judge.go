package redis

import (
	"errors"
	"net"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/streamsafe/streamsafe/checkpoint/internal/remote"
)

// judge says what an error of a command means (invariant 55). If Redis has answered, nothing was written.
func judge(err error) remote.Verdict {
	var dial *net.OpError
	_, answered := errors.AsType[redis.Error](err)
	foreign := &foreignError{}
	switch {
	case errors.Is(err, redis.ErrClosed), errors.As(err, &foreign):
		return remote.Final
	case answered:
		return judgeAnswer(err.Error())
	case errors.Is(err, redis.ErrPoolTimeout), errors.As(err, &dial) && dial.Op == "dial":
		return remote.Again
	}
	return remote.Doubt
}

// judgeAnswer knows Redis 5 to 8. Before Redis 7 an error in a script stood inside another one.
func judgeAnswer(text string) remote.Verdict {
	for _, again := range []string{
		readOnly, "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "NOREPLICAS", "BUSY", "MOVED", "ASK", "NOSCRIPT",
		"max number of clients",
	} {
		if strings.Contains(text, again) {
			return remote.Again
		}
	}
	return remote.Final
}

const readOnly = "READONLY"

// named adds ErrNotWriter to what a replica answers.
func named(err error) error {
	if _, answered := errors.AsType[redis.Error](err); answered && strings.Contains(err.Error(), readOnly) {
		return &notWriterError{err}
	}
	return err
}

// notWriterError is the error of a replica.
type notWriterError struct{ error }

func (e *notWriterError) Error() string   { return ErrNotWriter.Error() + ": " + e.error.Error() }
func (e *notWriterError) Unwrap() []error { return []error{ErrNotWriter, e.error} }
