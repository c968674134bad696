package stream

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"

	"google.golang.org/grpc/metadata"

	"github.com/streamsafe/streamsafe/checkpoint"
)

// The metadata that a client with WithResumeMetadata sends on each attempt.
const (
	streamKey   = "streamsafe-stream"       // 32 hexadecimal digits
	attemptKey  = "streamsafe-attempt"      // decimal, from 1
	positionKey = "streamsafe-position-bin" // absent: the beginning
)

// maxMetadataPosition is the size of the largest position that is sent as metadata, encoded.
const maxMetadataPosition = 4 << 10

// StreamID names a logical stream: 128 random bits, which the client makes. It is a secret of the client: whoever knows it
// can take the place of the stream, if the server does not authenticate its clients. Do not log it.
type StreamID [16]byte //nolint:revive // an ID alone would say nothing of what it is the id of

// String returns the first four bytes, in hexadecimal digits: enough to tell streams apart in a log.
func (id StreamID) String() string { return hex.EncodeToString(id[:4]) + "…" }

// Hex returns the whole id, in hexadecimal digits.
func (id StreamID) Hex() string { return hex.EncodeToString(id[:]) }

func newStreamID() (id StreamID) {
	_, _ = rand.Read(id[:]) // it never fails
	return id
}

// Attempt is an attempt of a logical stream, as the client has named it.
type Attempt struct {
	// Stream is the logical stream. It stays the same when the client comes again.
	Stream StreamID
	// Epoch is the number of the attempt, from 1. The next attempt has a higher one. Use it as a fencing token in a database
	// of your own: refuse a write if a higher epoch of the same stream has written before.
	Epoch uint64
}

// WithResumeMetadata sends the id of the stream, the number of the attempt and the position as metadata, on each attempt. A
// server reads them with [ResumeFrom] and [AttemptFrom], so resuming needs no message of its own. A server with
// [ServerInterceptor] fences: when an attempt comes, the handlers of older ones are ended. A server without streamsafe ignores
// the metadata. Default: nothing is sent.
//
// A position of more than 4 KiB, encoded, is an error with ReasonOptions when the attempt is opened. Then tell the server
// with Callbacks.Resume.
func WithResumeMetadata() ClientOption {
	return clientOption(func(o *clientOptions) { o.streamID = newStreamID() })
}

// ResumeFrom returns the position that the client wants to go on from. ctx is the context of a handler. It is false if the
// client has sent none, because it does not use [WithResumeMetadata]. The zero Position is the beginning.
func ResumeFrom(ctx context.Context) (checkpoint.Position, bool) {
	told, err := metadataOf(ctx)
	return told.position, err == nil && told.told
}

// AttemptFrom returns the stream and the attempt of the client. ctx is the context of a handler. It is false if the client
// does not use [WithResumeMetadata].
func AttemptFrom(ctx context.Context) (Attempt, bool) {
	told, err := metadataOf(ctx)
	return told.attempt, err == nil && told.told
}

// resumeMetadata is what a client has told.
type resumeMetadata struct {
	told     bool
	attempt  Attempt
	position checkpoint.Position
}

var errMetadata = errors.New("stream: the metadata of the attempt is malformed")

// metadataOf reads what a client has told. Everything but what this package writes is an error.
func metadataOf(ctx context.Context) (resumeMetadata, error) {
	ids := metadata.ValueFromIncomingContext(ctx, streamKey)
	attempts := metadata.ValueFromIncomingContext(ctx, attemptKey)
	positions := metadata.ValueFromIncomingContext(ctx, positionKey)
	if len(ids)+len(attempts)+len(positions) == 0 {
		return resumeMetadata{}, nil
	}
	told := resumeMetadata{told: true}
	if len(ids) != 1 || len(attempts) != 1 || len(positions) > 1 {
		return resumeMetadata{}, fmt.Errorf("%w: it needs one %s, one %s and at most one %s", errMetadata, streamKey, attemptKey, positionKey)
	}
	if id, err := hex.DecodeString(ids[0]); err != nil || copy(told.attempt.Stream[:], id) != len(id) || len(id) != len(StreamID{}) {
		return resumeMetadata{}, fmt.Errorf("%w: %s is not 32 hexadecimal digits", errMetadata, streamKey)
	}
	epoch, err := strconv.ParseUint(attempts[0], 10, 64)
	if err != nil || epoch == 0 {
		return resumeMetadata{}, fmt.Errorf("%w: %s is not a number from 1", errMetadata, attemptKey)
	}
	told.attempt.Epoch = epoch
	if len(positions) == 1 {
		p, ok := decodePosition(positions[0])
		if !ok {
			return resumeMetadata{}, fmt.Errorf("%w: %s is no position", errMetadata, positionKey)
		}
		told.position = p
	}
	return told, nil
}

func (o *clientOptions) sendsMetadata() bool { return o.streamID != (StreamID{}) }

// withMetadata returns the context of an attempt that tells the server of it, if the options say so.
func (o *clientOptions) withMetadata(ctx context.Context, epoch uint64, from checkpoint.Position) (context.Context, error) {
	if !o.sendsMetadata() {
		return ctx, nil
	}
	ctx = metadata.AppendToOutgoingContext(ctx, streamKey, o.streamID.Hex(), attemptKey, strconv.FormatUint(epoch, 10))
	if from.IsZero() {
		return ctx, nil
	}
	encoded := encodePosition(from)
	if len(encoded) > maxMetadataPosition {
		return ctx, positionSizeError(len(encoded))
	}
	return metadata.AppendToOutgoingContext(ctx, positionKey, encoded), nil
}

// positionSizeError is a position that is too large for metadata.
type positionSizeError int

func (e positionSizeError) Error() string {
	return fmt.Sprintf("a position of %d bytes is more than WithResumeMetadata can send, which is %d: use Callbacks.Resume", int(e), maxMetadataPosition)
}

// encodePosition returns p as bytes: its Seq and the length of its Lineage as varints, the Lineage, and the Token.
func encodePosition(p checkpoint.Position) string {
	b := make([]byte, 0, 2*binary.MaxVarintLen64+len(p.Lineage)+len(p.Token))
	b = binary.AppendUvarint(b, p.Seq)
	b = binary.AppendUvarint(b, uint64(len(p.Lineage)))
	b = append(b, p.Lineage...)
	return string(append(b, p.Token...))
}

// decodePosition is the inverse. It allocates nothing: the parts of the position are parts of s.
func decodePosition(s string) (p checkpoint.Position, ok bool) {
	if len(s) > maxMetadataPosition {
		return p, false
	}
	seq, rest, ok := cutUvarint(s)
	if !ok {
		return p, false
	}
	size, rest, ok := cutUvarint(rest)
	if !ok || size > uint64(len(rest)) {
		return p, false
	}
	p = checkpoint.Position{Seq: seq, Lineage: rest[:size], Token: rest[size:]}
	return p, p.Validate() == nil
}

// cutUvarint cuts a varint off s, if that is the shortest one of its value.
func cutUvarint(s string) (v uint64, rest string, ok bool) {
	for i := range min(len(s), binary.MaxVarintLen64) {
		b := s[i]
		if i == binary.MaxVarintLen64-1 && b > 1 || i > 0 && b == 0 {
			return 0, "", false
		}
		v |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			return v, s[i+1:], true
		}
	}
	return 0, "", false
}
