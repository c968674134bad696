package stream

import (
	"fmt"
	"iter"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/internal/outbox"
)

// Window keeps the messages that a server has sent until the client has confirmed them, so that they can be sent again after a
// break. Messages have numbers, from 1. Keep one for each session of a client, as long as the session lives. It is safe for
// concurrent use, but for Add: one goroutine at a time may call that. See [NewWindow].
type Window[M any] struct {
	// set at construction, then read only
	out    *outbox.Outbox[int]
	codec  encoding.CodecV2
	limits ReplayLimits
}

// NewWindow returns an empty window for messages of protobuf type M. The first message that is added has the number after last:
// zero for a new session. limits are those of WithReplay, with the same defaults; FailWhenFull has no effect.
func NewWindow[M any](last uint64, limits ReplayLimits) *Window[M] {
	limits = limits.withDefaults()
	w := &Window[M]{
		out:    outbox.New[int](outbox.Config{Replay: true, Messages: limits.Messages, Bytes: limits.Bytes, FailWhenFull: true}),
		codec:  encoding.GetCodecV2(proto.Name),
		limits: limits,
	}
	w.out.AcknowledgeStart(last)
	w.out.Attach(1, true)
	return w
}

// Add keeps m, as it is now, and returns its number. If the window is full, the error has the status RESOURCE_EXHAUSTED: the
// client does not confirm what it gets. If m cannot be encoded, the error has the status INTERNAL. In both cases m has no number.
func (w *Window[M]) Add(m *M) (seq uint64, err error) {
	data, err := w.codec.Marshal(m)
	if err != nil {
		return 0, status.Error(codes.Internal, "stream: window: "+err.Error())
	}
	ticket, verdict := w.out.Begin(m, 0, false)
	if verdict != outbox.Go {
		data.Free()
		counts := w.out.Stats()
		return 0, status.Error(codes.ResourceExhausted,
			fmt.Sprintf("stream: window: %d messages of %d bytes are not confirmed", counts.Unacked, counts.UnackedSize))
	}
	if _, missed := w.out.Settle(ticket, outbox.OK); missed {
		w.out.Complete(m, ticket, data, true)
	}
	return w.out.Stats().LastSeq, nil
}

// IsFull reports whether Add would find the window full. Ask before you take in what needs an answer.
func (w *Window[M]) IsFull() bool {
	counts := w.out.Stats()
	return counts.Unacked >= w.limits.Messages || counts.UnackedSize >= w.limits.Bytes
}

// Confirm drops the messages up to seq: the client has them, and will never ask for them again. A lower number than before
// changes nothing. A number that was never added is an error, whose status is INVALID_ARGUMENT.
func (w *Window[M]) Confirm(seq uint64) error {
	if w.out.Acknowledge(seq) {
		return nil
	}
	return status.Error(codes.InvalidArgument, fmt.Sprintf("stream: window: message %d is confirmed, and %d is the last one", seq, w.Last()))
}

// After returns the messages after the number seq, in order, each with its number. Each is a message of its own. What is added
// while the caller iterates comes too. If some of them were confirmed before, or if seq was never added, the error has the status
// OUT_OF_RANGE: the position of the client is lost.
func (w *Window[M]) After(seq uint64) (iter.Seq2[uint64, *M], error) {
	if counts := w.out.Stats(); seq < counts.Acked || seq > counts.LastSeq {
		return nil, status.Error(codes.OutOfRange,
			fmt.Sprintf("stream: window: position %d is not between %d and %d", seq, counts.Acked, counts.LastSeq))
	}
	return func(yield func(uint64, *M) bool) {
		for {
			kept, _, ok := w.out.Next(seq)
			if !ok {
				return
			}
			m, err := w.decode(kept.Data)
			if seq = kept.Seq; err != nil || !yield(seq, m) {
				return
			}
		}
	}, nil
}

func (w *Window[M]) decode(data mem.BufferSlice) (*M, error) {
	defer data.Free()
	m := new(M)
	return m, w.codec.Unmarshal(data, m)
}

// Last returns the number of the newest message.
func (w *Window[M]) Last() uint64 { return w.out.Stats().LastSeq }

// Confirmed returns the number up to which messages are confirmed.
func (w *Window[M]) Confirmed() uint64 { return w.out.Stats().Acked }
