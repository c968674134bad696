package stream_test

import (
	"context"
	"encoding/json"
	"io"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"

	"github.com/streamsafe/streamsafe/stream"
)

// letter is a message of a codec that does not reset what it decodes into, as JSON's does not.
type letter struct {
	Seq  uint64 `json:"seq,omitempty"`
	Ack  uint64 `json:"ack,omitempty"`
	Text string `json:"text,omitempty"`
}

// letters is an attempt that brings these, in JSON, and ends.
type letters struct {
	grpc.ClientStream
	ctx  context.Context
	from []string
}

func (s *letters) Send(*letter) error { return nil }

func (s *letters) Recv() (*letter, error) {
	m := new(letter)
	return m, s.RecvMsg(m)
}

func (s *letters) RecvMsg(m any) error {
	if len(s.from) == 0 {
		return io.EOF
	}
	next := s.from[0]
	s.from = s.from[1:]
	return json.Unmarshal([]byte(next), m)
}

func (s *letters) Trailer() metadata.MD { return nil }

func (s *letters) Context() context.Context { return s.ctx }

// A message of the protocol leaves nothing in the one that RecvMsg fills after it.
func TestRecvMsgHasNothingOfAControlMessage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		open := func(ctx context.Context, _ ...grpc.CallOption) (*letters, error) {
			return &letters{ctx: ctx, from: []string{`{"ack":7,"text":"of the protocol"}`, `{"seq":1}`, `{"seq":2}`}}, nil
		}
		s, err := stream.Resilient(t.Context(), open, stream.Callbacks[letter, letter]{
			Control: func(m *letter) bool { return m.Ack > 0 },
		})
		require.NoError(t, err)
		for seq := uint64(1); seq <= 2; seq++ {
			var m letter
			require.NoError(t, s.RecvMsg(&m))
			require.Equal(t, letter{Seq: seq}, m)
		}
		require.ErrorIs(t, s.RecvMsg(new(letter)), io.EOF)
		require.NoError(t, s.Close())
	})
}

// Nor does anything stay of what the caller's message had before, wherever the new one was kept meanwhile.
func TestRecvMsgHasNothingOfTheMessageBefore(t *testing.T) {
	t.Parallel()
	options := map[string]stream.ClientOption{
		"received into it":        stream.DeliverImmediately(),
		"held":                    stream.HoldUntilCheckpoint(1<<20, stream.OverflowFail),
		"after a control message": stream.WithName("control"),
	}
	for name, opt := range options {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				frames := []frame{{kind: fragment, seq: 11}, {kind: data, seq: 1}}
				if name == "after a control message" {
					frames = []frame{{kind: ack}, {kind: fragment, seq: 11}, {kind: ack}, {kind: data, seq: 1}}
				}
				s := scripted(t, sends(nil, frames...)).mustDial(positions(), opt)
				m := &response{Payload: &testpb.Payload{Type: 7}}
				for _, seq := range []uint64{11, 1} {
					require.NoError(t, s.RecvMsg(m))
					require.Equal(t, seq, frameOf(m).seq)
					require.Zero(t, m.GetPayload().GetType())
					m.Payload.Type = 7
				}
				require.ErrorIs(t, s.RecvMsg(m), io.EOF)
			})
		})
	}
}
