package stream_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/stream"
)

// keptAfter returns the numbers of what a window has after seq, and sees that each message is the right one.
func keptAfter(t require.TestingT, w *stream.Window[response], seq uint64) []uint64 {
	all, err := w.After(seq)
	require.NoError(t, err)
	var numbers []uint64
	for n, m := range all {
		require.Equal(t, n, frameOf(m).seq)
		numbers = append(numbers, n)
	}
	return numbers
}

func TestWindow(t *testing.T) {
	t.Parallel()
	w := stream.NewWindow[response](0, stream.ReplayLimits{Messages: 3})
	m := frame{kind: data}.response()
	for n := uint64(1); n <= 3; n++ {
		require.False(t, w.IsFull())
		copy(m.Payload.Body, frame{kind: data, seq: n}.payload().GetBody()) // the same object: it is kept as it is now
		seq, err := w.Add(m)
		require.NoError(t, err)
		require.Equal(t, n, seq)
	}
	require.True(t, w.IsFull())
	_, err := w.Add(m)
	require.Equal(t, codes.ResourceExhausted, status.Code(err))
	require.ErrorContains(t, err, "3 messages of")
	require.Equal(t, []uint64{1, 2, 3}, keptAfter(t, w, 0))
	require.Equal(t, []uint64{3}, keptAfter(t, w, 2))
	require.Empty(t, keptAfter(t, w, 3))
	require.NoError(t, w.Confirm(2))
	require.NoError(t, w.Confirm(1), "that changes nothing")
	require.Equal(t, uint64(2), w.Confirmed())
	require.Equal(t, []uint64{3}, keptAfter(t, w, 2))
	for _, seq := range []uint64{0, 1, 4} {
		_, err = w.After(seq)
		require.Equal(t, codes.OutOfRange, status.Code(err), "after %d", seq)
	}
	require.Equal(t, codes.InvalidArgument, status.Code(w.Confirm(4)))
	seq, err := w.Add(frame{kind: data, seq: 4}.response())
	require.NoError(t, err)
	require.Equal(t, uint64(4), seq, "what was refused has no number")
	require.Equal(t, []uint64{3, 4}, keptAfter(t, w, 2))
	for n := range w2(t, w) {
		require.Equal(t, uint64(3), n, "an iteration may stop")
		break
	}
}

func w2(t *testing.T, w *stream.Window[response]) func(func(uint64, *response) bool) {
	t.Helper()
	all, err := w.After(2)
	require.NoError(t, err)
	return all
}

func TestWindowGoesOn(t *testing.T) {
	t.Parallel()
	w := stream.NewWindow[response](7, stream.ReplayLimits{})
	require.Empty(t, keptAfter(t, w, 7))
	seq, err := w.Add(frame{seq: 8}.response())
	require.NoError(t, err)
	require.Equal(t, uint64(8), seq)
	require.Equal(t, uint64(8), w.Last())
	_, err = w.After(6)
	require.Equal(t, codes.OutOfRange, status.Code(err))
	_, err = stream.NewWindow[int](0, stream.ReplayLimits{}).Add(new(int))
	require.Equal(t, codes.Internal, status.Code(err), "no protobuf")
}
