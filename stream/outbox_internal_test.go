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
	first := &request{Payload: &testpb.Payload{Body: []byte("first")}}
	second := &request{Payload: &testpb.Payload{Body: []byte("second")}}

	ticket, err := o.begin(first, 0)
	require.NoError(t, err)
	_, number := o.encoded(first)
	require.Equal(t, uint64(1), number, "the codec begins to encode the first message")
	require.NoError(t, o.done(first, ticket), "and the stream does not wait for it")
	ticket, err = o.begin(second, 0)
	require.NoError(t, err)
	o.keep(number, mem.BufferSlice{mem.SliceBuffer("late")})
	require.NoError(t, o.done(second, ticket))

	for i, want := range []*request{first, second} {
		var got request
		require.NoError(t, o.codec.Unmarshal(o.kept.at(i).data, &got))
		require.Equal(t, want.GetPayload().GetBody(), got.GetPayload().GetBody(), "message %d as it was sent", i+1)
	}
}
