package nats

import (
	"errors"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/streamsafe/streamsafe/checkpoint/internal/remote"
)

// notSentError is an error from before anything was written.
type notSentError struct{ error }

func (e *notSentError) Unwrap() error { return e.error }

// Judge implements [remote.Backend] (invariant 55).
func (b *bucket) Judge(err error) remote.Verdict {
	for _, final := range []error{
		ErrBucket, errNoEpoch, errFormat,
		nats.ErrConnectionClosed, nats.ErrInvalidConnection, nats.ErrConnectionDraining, nats.ErrMaxPayload,
		nats.ErrAuthorization, nats.ErrPermissionViolation, jetstream.ErrJetStreamNotEnabledForAccount,
	} {
		if errors.Is(err, final) {
			return remote.Final
		}
	}
	told, ok := errors.AsType[*jetstream.APIError](err)
	notSent := &notSentError{}
	switch {
	case ok && told.Code >= 400 && told.Code < 500:
		return remote.Final // the request is wrong
	case errors.As(err, &notSent),
		errors.Is(err, nats.ErrNoResponders), errors.Is(err, jetstream.ErrNoStreamResponse), // there is no leader
		errors.Is(err, nats.ErrReconnectBufExceeded):
		return remote.Again
	}
	return remote.Doubt
}

// isConflict tells whether the record is not at the revision any more.
func isConflict(err error) bool {
	told, ok := errors.AsType[*jetstream.APIError](err)
	return ok && (told.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence ||
		told.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}
