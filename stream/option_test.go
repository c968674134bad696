package stream_test

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream"
)

// What is wrong with the options is said in one line, and is never a panic.
func TestWrongOptionsAreSaidInOneLine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &feed{})
		_, err := w.open(t.Context(), nil)
		wantEnd(t, err, stream.ReasonOptions, codes.InvalidArgument, "an option is nil")
		_, err = w.open(t.Context(), stream.WithStore(new(checkpoint.Memory), "key", stream.CommitEvery(1), nil))
		wantEnd(t, err, stream.ReasonOptions, codes.InvalidArgument, "an option of an option is nil")
		require.ErrorContains(t, err, "WithStore")
		_, err = w.dial(t.Context(), callbacks{}, stream.WithGapDetection(), stream.WithManualCommit())
		wantEnd(t, err, stream.ReasonOptions, codes.InvalidArgument, "two things")
		require.EqualError(t, err, "stream: open: wrong options (attempts: 0): WithGapDetection needs Callbacks.Checkpoint; "+
			"WithManualCommit needs WithStore")
		s := w.mustOpen()
		wantEnd(t, s.Commit(t.Context()), stream.ReasonOptions, codes.InvalidArgument, "Commit without a store")
	})
}
