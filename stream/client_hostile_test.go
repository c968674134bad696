package stream_test

import (
	"context"
	"errors"
	"io"
	"math"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream"
)

// A server that is broken, or hostile, may say anything in place of positions, lineages and acknowledgements. The stream goes on or ends
// with an error that names the fault. It does not panic, does not hang, and loses nothing silently (invariants 4, 7, 17 and 32).

// said is one thing that a hostile server says or does.
type said struct {
	frame   frame
	lineage byte
	ends    error // the handler ends with it, nil for OK; only if over
	over    bool
}

// hostile is a server that follows a script, over all attempts. When the script is over, it says its last word.
type hostile struct {
	mu     sync.Mutex // guards the fields below
	script []said
	acked  []uint64 // what it has said as an acknowledgement, in any phase
}

// errScriptOver is a last word.
var errScriptOver = status.Error(codes.DataLoss, "the script is over")

// readScript makes a script of bytes: three for each thing that is said.
func readScript(script []byte) (all []said) {
	special := []uint64{math.MaxUint64, 1 << 63, math.MaxUint64 / 2, math.MaxUint64/2 + 1, 1 << 32, math.MaxUint64 - 1}
	for ; len(script) >= 3 && len(all) < 64; script = script[3:] {
		seq := uint64(script[1])
		if n := 255 - int(script[1]); n < len(special) {
			seq = special[n]
		}
		s := said{frame: frame{seq: seq}, lineage: script[2] % 3}
		switch what := script[0] % 10; what {
		case 6:
			s.over = true
		case 7:
			s.over, s.ends = true, errGone
		case 8:
			s.over, s.ends = true, errCompacted
		case 9:
			s.frame.kind = empty
		default:
			s.frame.kind = kind(what)
		}
		s.frame.size = int(s.lineage)
		all = append(all, s)
	}
	return all
}

// next returns what is said next.
func (h *hostile) next() said {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.script) == 0 {
		return said{over: true, ends: errScriptOver}
	}
	s := h.script[0]
	h.script = h.script[1:]
	if s.frame.kind == ack || s.frame.kind == hello {
		h.acked = append(h.acked, s.frame.seq)
	}
	return s
}

func (h *hostile) handle(s bidi) error {
	go func() { // ends with the stream
		for {
			if _, err := s.Recv(); err != nil {
				return
			}
		}
	}()
	for {
		says := h.next()
		if says.over {
			return says.ends
		}
		if err := s.Send(says.frame.response()); err != nil {
			return err
		}
		if err := takes(s.Context(), 3*time.Millisecond, nil); err != nil {
			return err
		}
	}
}

// lineages are what the size of a frame stands for.
func lineageOf(f frame) string { return []string{"", "a", "b"}[f.size%3] }

// hostileCallbacks trust the server in all it says.
func hostileCallbacks() callbacks {
	position := func(f frame) checkpoint.Position { return checkpoint.Position{Lineage: lineageOf(f), Seq: f.seq} }
	return callbacks{
		Resume: func(_ context.Context, r *resumption) error {
			if err := r.Send(frame{kind: hello, seq: r.Position().Seq}.request()); err != nil {
				return err
			}
			m, err := r.Recv()
			if err != nil {
				return err
			}
			if f := frameOf(m); f.kind == hello {
				r.Acknowledge(f.seq)
				if f.size > 0 {
					r.StartsAt(position(f))
				}
			} else {
				r.Deliver(m)
			}
			return nil
		},
		Checkpoint: func(m *response) (checkpoint.Position, bool) {
			f := frameOf(m)
			return position(f), f.kind == data || f.kind == bookmark
		},
		Control: func(m *response) bool { k := frameOf(m).kind; return k != data && k != fragment },
		Acked: func(m *response) (uint64, bool) {
			f := frameOf(m)
			return f.seq, f.kind == ack
		},
		Err: tells(stream.ErrPositionLost),
	}
}

// face runs a stream against a hostile server, and holds what came of it against what is promised.
func face(t *testing.T, script []byte, gaps, holding, stored bool) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := &hostile{script: readScript(script)}
		w := newWorld(t, &feed{handler: h.handle})
		opts := []stream.ClientOption{withReplay(), stream.WithMaxOutage(time.Hour), stream.WithStableFor(time.Millisecond)}
		if gaps {
			opts = append(opts, stream.WithGapDetection())
		}
		if holding {
			opts = append(opts, stream.HoldUntilCheckpoint(1000, stream.OverflowFail))
		}
		store := new(checkpoint.Memory)
		if stored {
			opts = append(opts, stream.WithStore(store, "key", stream.CommitEvery(1)))
		}
		s, err := w.dial(t.Context(), hostileCallbacks(), opts...)
		if err != nil {
			namesTheFault(t, err)
			return
		}
		defer func() { _ = s.Close() }()
		var accepted []uint64
		sent := async(func() error {
			for range 20 {
				if err := s.Send(frame{kind: data}.request()); err != nil {
					return err
				}
				accepted = append(accepted, s.Stats().LastSeq)
				time.Sleep(time.Millisecond)
			}
			return nil
		})
		var got []frame
		for err == nil {
			var m *response
			if m, err = s.Recv(); err == nil {
				got = append(got, frameOf(m))
			}
		}
		namesTheFault(t, err)
		if sendErr := within(t, sent, "the end of sending"); sendErr != nil && !errors.Is(sendErr, io.EOF) {
			namesTheFault(t, sendErr)
		}

		h.mu.Lock()
		defer h.mu.Unlock()
		st := s.Stats()
		require.LessOrEqual(t, st.Acked, st.LastSeq, "invariant 7")
		if st.Acked > 0 {
			require.Contains(t, h.acked, st.Acked, "nothing is acknowledged that the server has not acknowledged")
		}
		require.True(t, slices.IsSorted(accepted), "the numbers of sent messages rise: %v", accepted)
		missing, _ := keptBy(s)
		unacked := slices.DeleteFunc(accepted, func(seq uint64) bool { return seq <= st.Acked })
		require.Equal(t, len(unacked), len(missing), "each accepted message is acknowledged or kept: %v, %v", unacked, missing)
		for i := range unacked {
			require.Equal(t, unacked[i], missing[i], "what is kept (invariant 32)")
		}
		if err == io.EOF { //nolint:errorlint // it is bare
			require.Empty(t, missing, "OK is no receipt (invariant 32)")
		}
		inOrder := slices.DeleteFunc(got, func(f frame) bool { return f.kind != data || f.seq == 0 && f.size == 0 })
		for i := 1; i < len(inOrder); i++ {
			before, f := inOrder[i-1], inOrder[i]
			require.Equal(t, lineageOf(before), lineageOf(f), "one lineage (invariant 17)")
			require.Greater(t, f.seq, before.seq, "what was handed over: no duplicate, in order")
			if gaps {
				require.Equal(t, before.seq+1, f.seq, "no hole (invariant 4)")
			}
		}
	})
}

// namesTheFault sees that err says what has happened.
func namesTheFault(t *testing.T, err error) {
	t.Helper()
	if err == io.EOF { //nolint:errorlint // it is bare
		return
	}
	var e *stream.Error
	if !assert.ErrorAs(t, err, &e, "an error of this package") {
		return
	}
	text := map[stream.Reason]string{
		stream.ReasonProtocol: `message \d+ is acknowledged, and|sequence number \d+`, stream.ReasonGap: "came after", stream.ReasonUnacked: "acknowledged",
		stream.ReasonPositionLost: "", stream.ReasonServer: "script", stream.ReasonHeldOverflow: "", stream.ReasonPoison: "",
		stream.ReasonNoCheckpoint: "", stream.ReasonResume: "", stream.ReasonMessage: "number", stream.ReasonClosed: "",
	}
	want, known := text[e.Reason]
	assert.True(t, known, "an end for this reason: %v", err)
	assert.Regexp(t, want, err.Error(), "the text of the error names the fault")
}

// FuzzHostileServer has a server say anything.
func FuzzHostileServer(f *testing.F) {
	const none = byte(0)
	for _, script := range [][]byte{
		{0, 0, none, 1, 1, none, 1, 2, none, 6, 0, none},             // an honest start, and OK in the middle
		{0, 0, none, 1, 1, none, 1, 3, none, 7, 0, none, 0, 0, none}, // a hole, and a break
		{0, 0, none, 1, 2, none, 1, 1, none, 1, 2, none},             // back, and duplicates
		{0, 0, none, 1, 5, 1, 1, 6, 2, 7, 0, none, 0, 0, 2},          // another lineage
		{0, 0, 1, 1, 1, none, 3, 9, 2, 1, 10, none},                  // a bookmark of another lineage
		{0, 0, none, 2, 255, none},                                   // an acknowledgement of what was never sent
		{0, 255, none}, {0, 253, none}, {0, 252, none, 1, 1, none},   // a start at the end of all numbers
		{0, 3, none, 2, 1, none, 2, 3, none, 2, 5, none, 7, 0, none, 0, 2, none, 2, 4, none},   // acknowledgements that go back
		{0, 0, none, 1, 255, none, 1, 0, none, 1, 255, none, 7, 0, none, 0, 0, none},           // the last number, and none
		{0, 0, none, 4, 1, none, 4, 2, none, 4, 3, none, 1, 1, none, 4, 4, none, 7, 0, none},   // fragments
		{1, 7, none, 5, 0, none, 0, 0, none, 8, 0, none, 8, 0, none},                           // data in the handshake, and lost positions
		{9, 0, none, 9, 0, none, 6, 0, none}, {7, 0, none, 7, 0, none, 7, 0, none, 0, 0, none}, // no messages of the protocol, and breaks
		{0, 0, 1, 1, 1, 1, 7, 0, none, 0, 0, 2, 1, 1, 2}, // the server starts from another history
		{},
	} {
		for flags := range uint8(8) {
			f.Add(script, flags)
		}
	}
	f.Fuzz(func(t *testing.T, script []byte, flags uint8) {
		face(t, script, flags&1 > 0, flags&2 > 0, flags&4 > 0)
	})
}
