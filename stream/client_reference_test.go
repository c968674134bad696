package stream_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream"
)

// What a broken or hostile server may say: any positions, lineages, anchors and acknowledgements, in any order, over any number of
// attempts. A server plays a script that the fuzzer writes, through a real client and a real network, and a reference says what
// has to come of it. It is a second opinion about internal/inbox and internal/outbox, written from their tables.

// referenceSends is how many messages the client sends before the script begins.
const referenceSends = 3

// outcome is how a stream went.
type outcome struct {
	delivered []utterance
	from      []checkpoint.Position // where the attempts began
	reason    stream.Reason         // zero if the stream has ended well
	text      string                // in the error, if that has to name something
	acked     uint64
}

// reference is what has to come of a script.
type reference struct {
	outcome

	gaps      bool // they are looked for
	stands    checkpoint.Position
	uncovered int
	gapped    bool
	atStart   bool
}

func (r *reference) ends(reason stream.Reason, format string, args ...any) {
	r.reason, r.text = reason, fmt.Sprintf(format, args...)
}

// play plays acts, and the end with OK of the attempts after them.
func (r *reference) play(acts []act) {
	for i := 0; ; i++ {
		a := act{ack: referenceSends}
		if i < len(acts) {
			a = acts[i]
		}
		if i == 0 {
			a.ack = 0
		}
		r.from = append(r.from, r.stands)
		again, over := r.attempt(a)
		if over || !again {
			return
		}
		r.uncovered = 0
	}
}

// attempt plays one attempt. It reports whether another one follows, or all is over.
func (r *reference) attempt(a act) (again, over bool) {
	if a.anchored && !r.anchor(a.anchor) || !r.ack(a.ack) {
		return false, true
	}
	for _, m := range a.says {
		lost, over := r.take(m)
		if over || lost {
			return lost, over
		}
	}
	switch {
	case a.end == codes.OK && r.acked < referenceSends:
		r.ends(stream.ReasonUnacked, "")
		return false, true
	case a.end == codes.OK:
		return false, true
	case stream.Resumable(status.Error(a.end, "")):
		return true, false
	case a.end == codes.OutOfRange:
		r.ends(stream.ReasonPositionLost, "the script's end")
		return false, true
	default:
		r.ends(stream.ReasonServer, "the script's end")
		return false, true
	}
}

func (r *reference) anchor(p checkpoint.Position) bool {
	have := r.stands
	switch placed := have.Seq != 0 || r.atStart; {
	case !have.IsZero() && p.Lineage != have.Lineage:
		r.ends(stream.ReasonPositionLost, "lineage %q was replaced by %q", have.Lineage, p.Lineage)
		return false
	case p.Seq == math.MaxUint64:
		r.ends(stream.ReasonProtocol, "none follows")
		return false
	case !placed:
		r.stands, r.uncovered, r.gapped, r.atStart = p, 0, false, p.Seq == 0
		return true
	case p.Seq > have.Seq:
		r.ends(stream.ReasonPositionLost, "the stream begins at %d, past %d", p.Seq, have.Seq)
		return false
	default:
		return true
	}
}

func (r *reference) ack(seq uint64) bool {
	if seq > referenceSends {
		r.ends(stream.ReasonProtocol, "message %d is acknowledged, and %d is the last one sent", seq, referenceSends)
		return false
	}
	r.acked = max(r.acked, seq)
	return true
}

// take takes in one message. It reports whether that loses the attempt, or ends the stream.
func (r *reference) take(m utterance) (lost, over bool) {
	p, have := m.position(), r.stands
	switch {
	case m.kind == empty:
		return false, false
	case m.kind == ack:
		return false, !r.ack(m.seq)
	case m.kind == fragment, p.IsZero() && m.kind == data:
		r.uncovered++
		r.delivered = append(r.delivered, m)
		return false, false
	case p.IsZero():
		return false, false
	case !have.IsZero() && p.Lineage != have.Lineage:
		r.ends(stream.ReasonPositionLost, "lineage %q was replaced by %q", have.Lineage, p.Lineage)
		return false, true
	case p.Seq == math.MaxUint64:
		r.ends(stream.ReasonProtocol, "none follows")
		return false, true
	case p.Seq != 0 && p.Seq <= have.Seq:
		if m.kind == bookmark && p.Seq == have.Seq && r.uncovered == 0 {
			r.stands = p
		}
		return false, false
	case m.kind == data && r.gaps && p.Seq != 0 && (have.Seq > 0 || r.atStart) && p.Seq != have.Seq+1:
		if r.gapped {
			r.ends(stream.ReasonGap, "sequence number %d came after %d", p.Seq, have.Seq)
			return false, true
		}
		r.gapped = true
		return true, false
	default:
		if m.kind == data {
			r.delivered = append(r.delivered, m)
		}
		r.gapped = r.gapped && p.Seq == have.Seq
		r.stands, r.uncovered = p, 0
		return false, false
	}
}

// playing is the server's side of the acts.
type playing struct {
	acts []act

	mu       sync.Mutex // guards the field below
	handlers int
}

func (h *playing) handle(s bidi) error {
	h.mu.Lock()
	n := h.handlers
	h.handlers++
	h.mu.Unlock()
	a := act{ack: referenceSends}
	if n < len(h.acts) {
		a = h.acts[n]
	}
	if n == 0 {
		a.ack = 0
	}
	if _, err := s.Recv(); err != nil {
		return err
	}
	greeting := frame{kind: hello, seq: a.ack}.response()
	if a.anchored {
		greeting.Payload.Body = binary.BigEndian.AppendUint64(greeting.Payload.Body, a.anchor.Seq)
		greeting.Payload.Body = append(greeting.Payload.Body, a.anchor.Lineage...)
	}
	if err := s.Send(greeting); err != nil {
		return err
	}
	for range referenceSends {
		if n > 0 {
			break
		}
		if _, err := s.Recv(); err != nil {
			return err
		}
	}
	for _, m := range a.says {
		if err := s.Send(m.response()); err != nil {
			return err
		}
	}
	return status.Error(a.end, "the script's end") // nil for OK
}

// met runs a client against the acts, and tells what came of it.
func met(t *testing.T, acts []act, opts ...stream.ClientOption) (got outcome, err error) {
	t.Helper()
	h := &playing{acts: acts}
	w := newWorld(t, &feed{handler: h.handle})
	cb := callbacks{
		Resume: func(_ context.Context, r *resumption) error {
			got.from = append(got.from, r.Position())
			if err := r.Send(frame{kind: hello}.request()); err != nil {
				return err
			}
			m, err := r.Recv()
			if err != nil {
				return err
			}
			if body := m.GetPayload().GetBody()[9:]; len(body) > 0 {
				r.StartsAt(checkpoint.Position{Seq: binary.BigEndian.Uint64(body), Lineage: string(body[8:])})
			}
			r.Acknowledge(frameOf(m).seq)
			return nil
		},
		Checkpoint: func(m *response) (checkpoint.Position, bool) {
			h := heard(m)
			return h.position(), h.kind == data || h.kind == bookmark
		},
		Control: func(m *response) bool { k := frameOf(m).kind; return k != data && k != fragment },
		Acked: func(m *response) (uint64, bool) {
			f := frameOf(m)
			return f.seq, f.kind == ack
		},
	}
	s, err := w.dial(t.Context(), cb, append(opts, withReplay())...)
	if err != nil {
		return got, err
	}
	closeAtTheEnd(t, s)
	for seq := uint64(1); seq <= referenceSends; seq++ {
		if err := s.Send(frame{kind: data, seq: seq}.request()); err != nil {
			return got, fmt.Errorf("message %d: %w", seq, err)
		}
	}
	if err := s.CloseSend(); err != nil {
		return got, err
	}
	for {
		m, err := s.Recv()
		if err != nil {
			got.acked = s.Stats().Acked
			return got, err
		}
		got.delivered = append(got.delivered, heard(m))
	}
}

// judge compares what came of the acts with what had to.
func judge(t *testing.T, acts []act, gaps bool) {
	t.Helper()
	want := reference{gaps: gaps}
	want.play(acts)
	var opts []stream.ClientOption
	if gaps {
		opts = append(opts, stream.WithGapDetection())
	}
	got, err := met(t, acts, opts...)
	require.Equal(t, want.from, got.from, "where the attempts begin: %+v", acts)
	require.Equal(t, want.delivered, got.delivered, "what is handed over: %+v", acts)
	if want.reason == stream.ReasonUnknown {
		require.Equal(t, io.EOF, err, "%+v", acts)
		require.EqualValues(t, referenceSends, got.acked, "an end with OK: all that was sent is acknowledged")
		return
	}
	var e *stream.Error
	require.ErrorAs(t, err, &e, "%+v", acts)
	require.Equal(t, want.reason.String(), e.Reason.String(), "%v: %+v", err, acts)
	require.ErrorContains(t, err, want.text, "the error names the fault: %+v", acts)
	require.NotErrorIs(t, err, io.EOF)
}

// Invariants 7, 16 and 17, and no silent loss: whatever a server says, each message is handed over once and in order, or an error
// names the fault.
func FuzzAgainstReference(f *testing.F) {
	script := func(ops ...byte) []byte { return ops }
	eight := func(op byte, n uint64) []byte { return binary.BigEndian.AppendUint64([]byte{op}, n) }
	for _, gaps := range []bool{false, true} {
		f.Add(script(), gaps)
		f.Add(script(opNext, opNext, opFragment, opBreak, 3, 0, opNext, opAck, 3), gaps)
		f.Add(script(opNext, opSkip, 6, opBreak, 1, 1, opSkip, 2, opNext), gaps)
		f.Add(script(opNext, opSkip, 1, opSkip, 3, opNext), gaps)
		f.Add(script(opAck, 7), gaps)
		f.Add(script(opAck, 3, opAck, 1, opAck, 0, opBreak, 7), gaps)
		f.Add(eight(opAckAbsolute, math.MaxUint64), gaps)
		f.Add(eight(opAbsolute, math.MaxUint64), gaps)
		f.Add(append(eight(opAbsolute, math.MaxUint64-1), opNext, opNext, opNext), gaps)
		f.Add(append(eight(opAbsolute, 1<<63), opBreak, 0, 0, opNext, opSkip, 0), gaps)
		f.Add(script(opSkip, 2), gaps) // the highest number, and one below zero
		f.Add(script(opNext, opOther, 1, 'b', opNext), gaps)
		f.Add(script(opNext, opBreak, 0, 1, opOther, 1, 'b', opAnchor, 3), gaps)
		f.Add(script(opOther, 0, opUnordered, opNext, opUnordered), gaps)
		f.Add(script(opUnordered, opUnordered, opNext, opUnordered, opBreak, 3, 0, opUnordered), gaps)
		f.Add(script(opNext, opFragment, opBookmark, 2, opBookmark, 1, opBookmark, 5, opFragment, opBreak, 2, 0), gaps)
		f.Add(script(opAnchor, 2, opNext), gaps) // a stream that begins where no number follows
		f.Add(script(opAnchor, 7, opNext, opNext, opBreak, 0, 0, opAnchor, 7, opNext), gaps)
		f.Add(script(opNext, opBreak, 0, 1, opAnchor, 7), gaps)
		f.Add(script(opRaw, 0, opRaw, 7, 1, 2, 3, 4, 5, 6, 7, opNext, opEnd, 3, 0), gaps)
		f.Add(script(opNext, opEnd, 7, 4, opNext), gaps)
		f.Add(script(opBreak, 0, opBreak, 0, opBreak, 0, opBreak, 0, opBreak, 0, opNext), gaps)
	}
	f.Fuzz(func(t *testing.T, in []byte, gaps bool) {
		synctest.Test(t, func(t *testing.T) { judge(t, scriptOf(in), gaps) })
	})
}
