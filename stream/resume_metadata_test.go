package stream_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream"
)

// withPositions are callbacks of a client that tells its position by metadata alone.
func withPositions() callbacks {
	return callbacks{Checkpoint: func(m *response) (checkpoint.Position, bool) {
		return checkpoint.Position{Lineage: "l", Seq: frameOf(m).seq, Token: "t"}, true
	}}
}

// resumesByMetadata is a handler that goes on where the metadata says, and breaks the attempt after so many messages. It notes where each
// attempt began.
func resumesByMetadata(total uint64, breaksAfter func(attempt uint64) uint64, began *[]checkpoint.Position) func(bidi) error {
	return func(s bidi) error {
		from, ok := stream.ResumeFrom(s.Context())
		attempt, told := stream.AttemptFrom(s.Context())
		if !ok || !told {
			return status.Error(codes.FailedPrecondition, "no metadata")
		}
		*began = append(*began, from)
		for n := uint64(0); from.Seq+n < total; n++ {
			if n == breaksAfter(attempt.Epoch) {
				return errRestart
			}
			if err := s.Send(frame{kind: data, seq: from.Seq + n + 1}.response()); err != nil {
				return err
			}
		}
		return nil
	}
}

// A stream that breaks after every possible number of messages comes through without a message of its protocol for that.
func TestResumptionByMetadataAlone(t *testing.T) {
	t.Parallel()
	const total = 12
	for n := range uint64(total) {
		synctest.Test(t, func(t *testing.T) {
			var began []checkpoint.Position
			w := newWorld(t, &feed{
				handler: resumesByMetadata(total, func(uint64) uint64 { return n + 1 }, &began),
				options: []grpc.ServerOption{grpc.StreamInterceptor(stream.ServerInterceptor())},
			})
			s := w.mustDial(withPositions(), stream.WithResumeMetadata())
			for seq := uint64(1); seq <= total; seq++ {
				mustReceive(t, s, seq)
			}
			_, err := s.Recv()
			require.ErrorIs(t, err, io.EOF)
			require.Equal(t, checkpoint.Position{}, began[0], "the beginning")
			for i, from := range began[1:] {
				require.Equal(t, checkpoint.Position{Lineage: "l", Seq: uint64(i+1) * (n + 1), Token: "t"}, from)
			}
		})
	}
}

// A peer without streamsafe is served as before, both ways.
func TestMetadataAndStockPeers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &feed{handler: sends(nil, numbered(1)...)}) // a stock server
		mustReceive(t, w.mustDial(withPositions(), stream.WithResumeMetadata()), 1)
	})
	synctest.Test(t, func(t *testing.T) {
		_, s := raw(t, func(s bidi) error { // a stock client
			_, resumes := stream.ResumeFrom(s.Context())
			_, told := stream.AttemptFrom(s.Context())
			if resumes || told {
				return errNever
			}
			return nil
		})
		require.Equal(t, "EOF", endOf(t, s).Message())
	})
}

func TestAPositionTooLargeForMetadata(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &feed{handler: inOrder(sends(errRestart, numbered(1)...))})
		cb := callbacks{Checkpoint: func(m *response) (checkpoint.Position, bool) {
			return checkpoint.Position{Seq: frameOf(m).seq, Token: strings.Repeat("t", 4096)}, true
		}}
		s := w.mustDial(cb, stream.WithResumeMetadata())
		mustReceive(t, s, 1)
		_, err := s.Recv()
		var e *stream.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, stream.ReasonOptions, e.Reason)
		require.Equal(t, codes.InvalidArgument, status.Code(err))
		require.ErrorContains(t, err, "WithResumeMetadata")
		require.ErrorContains(t, err, "Callbacks.Resume")
	})
}

func TestMalformedMetadataIsRefused(t *testing.T) {
	t.Parallel()
	h := hosts(t, func(bidi) error { return errNever })
	s, err := h.client.FullDuplexCall(outgoing(t.Context(), "0f", 1))
	require.NoError(t, err)
	end := endOf(t, s)
	require.Equal(t, codes.InvalidArgument, end.Code())
	require.Contains(t, end.Message(), "streamsafe-stream is not 32 hexadecimal digits")
}

// What uses positions may be the metadata.
func TestMetadataUsesPositions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &feed{handler: func(s bidi) error {
			from, _ := stream.ResumeFrom(s.Context())
			if from.Seq != 7 {
				return errNever
			}
			return nil
		}})
		_, err := w.dial(context.Background(), withPositions())
		require.ErrorContains(t, err, "WithResumeMetadata", "the way out is named")
		s := w.mustDial(withPositions(), stream.WithResumeMetadata(), stream.WithPosition(checkpoint.Position{Seq: 7}))
		_, err = s.Recv()
		require.True(t, errors.Is(err, io.EOF), err)
	})
}
