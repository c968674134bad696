package stream

import (
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/mem"
	"pgregory.net/rapid"
)

// An interceptor may send in a goroutine of its own, and so encode a message when the next one is in hand. The next one
// must not get its bytes (invariant 29).
func TestBytesThatComeLateAreNotKeptForTheNextMessage(t *testing.T) {
	t.Parallel()
	type request = testpb.StreamingOutputCallRequest
	o := &outbox[request, testpb.StreamingOutputCallResponse]{
		replay: true, limits: ReplayLimits{}.withDefaults(), codec: codecOf(nil),
		attempt: newAttempt[request, testpb.StreamingOutputCallResponse](t.Context(), 1, nil),
	}
	o.wake.L = &o.mu
	m := &request{Payload: &testpb.Payload{Body: []byte("first")}}
	first, err := o.begin(m, 0)
	require.NoError(t, err)
	_, early := o.encoded(m)
	o.forget(first) // the interceptor has refused it: the next message has its number

	m.Payload.Body = []byte("second") // the caller uses it again
	second, err := o.begin(m, 0)
	require.NoError(t, err)
	o.keep(m, early, mem.BufferSlice{mem.SliceBuffer("late")})
	_, late := o.encoded(m)
	require.NoError(t, o.done(m, second), "and the stream does not wait for it")

	m.Payload.Body = []byte("third")
	third, err := o.begin(m, 0)
	require.NoError(t, err)
	o.keep(m, late, mem.BufferSlice{mem.SliceBuffer("late")})
	o.keep(&request{}, o.turn.Load(), mem.BufferSlice{mem.SliceBuffer("another")})
	require.NoError(t, o.done(m, third))

	require.Equal(t, 2, o.kept.len())
	for i, want := range []string{"second", "third"} {
		var got request
		require.NoError(t, o.codec.Unmarshal(o.kept.at(i).data, &got))
		require.Equal(t, want, string(got.GetPayload().GetBody()), "message %d as it was sent", i+1)
	}
}

func TestReplayLimitsDefaults(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ given, want ReplayLimits }{
		"zero":            {ReplayLimits{}, ReplayLimits{Messages: 16_384, Bytes: 16 << 20}},
		"given":           {ReplayLimits{Messages: 3, Bytes: 5}, ReplayLimits{Messages: 3, Bytes: 5}},
		"bytes alone":     {ReplayLimits{Messages: -1, Bytes: 160}, ReplayLimits{Messages: 11, Bytes: 160}},
		"messages alone":  {ReplayLimits{Messages: 3, Bytes: -1}, ReplayLimits{Messages: 3, Bytes: math.MaxInt}},
		"bytes, defaults": {ReplayLimits{Messages: -1}, ReplayLimits{Messages: 1<<20 + 1, Bytes: 16 << 20}},
	}
	for name, test := range tests {
		require.Equal(t, test.want, test.given.withDefaults(), name)
	}
}

// What Replay drops is dropped in one pass. What is acknowledged since is gone already, and what is newer stays.
func TestDiscard(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		o := &outbox[int, int]{}
		o.wake.L = &o.mu
		last := uint64(rapid.IntRange(1, 40).Draw(t, "kept")) //nolint:gosec // not negative
		for seq := range last {
			o.kept.push(keptMessage{seq: seq + 1, size: 10})
			o.bytes += 10
		}
		o.last = last
		dropped := rapid.SliceOfNDistinct(rapid.Uint64Range(1, last), 0, int(last), rapid.ID).Draw(t, "dropped") //nolint:gosec // small
		slices.Sort(dropped)
		acked := rapid.Uint64Range(0, last).Draw(t, "acknowledged since")
		require.True(t, o.acknowledge(acked))
		var want, got []uint64
		for seq := acked + 1; seq <= last; seq++ {
			if !slices.Contains(dropped, seq) {
				want = append(want, seq)
			}
		}
		o.discard(dropped)
		require.Equal(t, 10*len(want), o.bytes)
		for o.kept.len() > 0 {
			got = append(got, o.kept.popFront().seq)
		}
		require.Equal(t, want, got)
	})
}
