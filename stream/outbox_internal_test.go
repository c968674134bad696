package stream

import (
	"testing"

	"github.com/stretchr/testify/require"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/mem"
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
	ticket, err := o.begin(m, 0)
	require.NoError(t, err)
	_, number := o.encoded(m)
	require.Equal(t, uint64(1), number, "the codec begins to encode the first message")
	require.NoError(t, o.done(m, ticket), "and the stream does not wait for it")
	m.Payload.Body = []byte("second") // the caller uses it again
	ticket, err = o.begin(m, 0)
	require.NoError(t, err)
	o.keep(m, number, mem.BufferSlice{mem.SliceBuffer("late")})
	o.keep(&request{}, 2, mem.BufferSlice{mem.SliceBuffer("another")})
	require.NoError(t, o.done(m, ticket))

	for i, want := range []string{"first", "second"} {
		var got request
		require.NoError(t, o.codec.Unmarshal(o.kept.at(i).data, &got))
		require.Equal(t, want, string(got.GetPayload().GetBody()), "message %d as it was sent", i+1)
	}
}
