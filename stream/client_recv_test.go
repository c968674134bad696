package stream_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream"
)

// inPortions returns a handler that goes on from the position it is told: it sends so many messages and fails, until all
// are through.
func inPortions(total, each uint64, size int) func(bidi) error {
	return func(s bidi) error {
		m, err := s.Recv()
		if err != nil {
			return err
		}
		last := min(frameOf(m).seq+each, total)
		for seq := frameOf(m).seq + 1; seq <= last; seq++ {
			if err := s.Send(frame{kind: data, seq: seq, size: size}.response()); err != nil {
				return err
			}
		}
		if last == total {
			return nil
		}
		return errGone
	}
}

// Invariant 8: where the application only sends, what is left of dead attempts waits for Recv, and not without bound.
// Where it is reached the next Send waits, until Recv goes on. Nothing is lost.
func TestWhatWaitsForRecvIsBounded(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		total, each uint64
		size        int
		waiting     int
	}{
		"in messages": {total: 80_000, each: 15_000, waiting: 1 << 16},
		"in bytes":    {total: 24, each: 5, size: 1 << 20, waiting: 16},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, &feed{handler: inPortions(test.total, test.each, test.size)},
					grpc.WithInitialWindowSize(16<<20), grpc.WithInitialConnWindowSize(64<<20)) // an attempt dies with all of it
				cb := positions()
				cb.Resume = greets
				s := w.mustDial(cb, stream.WithAtMostOnceSends())
				sent := make(chan struct{}, 1000)
				over := make(chan error, 1)
				go func() { // ends with the stream; the last lines wait for it
					for {
						if err := s.Send(frame{kind: data}.request()); err != nil {
							over <- err
							return
						}
						sent <- struct{}{}
						time.Sleep(time.Minute) // each of them finds the attempt dead
					}
				}()
				rest(time.Hour)
				require.Equal(t, test.waiting, s.Stats().Waiting, "messages that wait for Recv")
				before := len(sent)
				rest(time.Hour)
				require.Len(t, sent, before, "messages sent: the next one waits")
				require.Empty(t, over)
				require.Equal(t, test.waiting, s.Stats().Waiting, "messages that wait for Recv, an hour later")

				mustReceive(t, s, 1, 2, 3)
				rest(time.Minute)
				require.Equal(t, test.waiting, s.Stats().Waiting, "messages that wait: as many came after those taken")
				got, err := receiveAll(s)
				require.ErrorIs(t, err, io.EOF)
				require.Equal(t, test.total-3, uint64(len(got)))
				require.Equal(t, upTo(test.total)[3:], got, "in order, and nothing is lost")
				require.Zero(t, s.Stats().Duplicates)
				require.ErrorIs(t, within(t, over, "the end of the Send that waited"), io.EOF, "the Send that waited")
			})
		})
	}
}

// Who waits for room does not wait for ever: the end of the context is enough.
func TestASendThatWaitsForRecvEndsWithTheContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &feed{handler: inPortions(20, 20, 1<<20)},
			grpc.WithInitialWindowSize(32<<20), grpc.WithInitialConnWindowSize(64<<20))
		cb := positions()
		cb.Resume = greets
		s := w.mustDial(cb, stream.WithAtMostOnceSends())
		synctest.Wait()
		over := make(chan error, 1)
		go func() { over <- s.Send(frame{kind: data}.request()) }() // ends with the stream
		rest(time.Minute)
		require.Empty(t, over, "Send waits")
		require.Equal(t, 16, s.Stats().Waiting)
		mustClose(t, s, "called by the test")
		requireReason(t, within(t, over, "the end of the Send that waited"), stream.ReasonClosed, "the Send that waited")
	})
}

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
		mustClose(t, s, "called by the test")
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

func TestMessagesOfTheWrongKind(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, sends(nil, numbered(1)...))
		s := w.mustDial(positions(), stream.WithAtMostOnceSends())
		wantEnd(t, s.Send(nil), stream.ReasonMessage, codes.InvalidArgument, "nil")
		var none *request
		wantEnd(t, s.SendMsg(none), stream.ReasonMessage, codes.InvalidArgument, "a typed nil")
		wantEnd(t, s.SendMsg(42), stream.ReasonMessage, codes.InvalidArgument, "int")
		require.ErrorContains(t, s.SendMsg(42), "the message is a int, not a *grpc_testing.StreamingOutputCallRequest")
		wantEnd(t, s.SendMsg(nil), stream.ReasonMessage, codes.InvalidArgument, "nothing")
		wantEnd(t, s.RecvMsg(new(request)), stream.ReasonMessage, codes.InvalidArgument, "a request")
		var into *response
		wantEnd(t, s.RecvMsg(into), stream.ReasonMessage, codes.InvalidArgument, "a typed nil")
		require.Equal(t, stream.Attached, s.State(), "they break nothing")
		m := frame{kind: data, seq: 77, size: 9}.response()
		require.NoError(t, s.RecvMsg(m))
		require.Equal(t, frame{kind: data, seq: 1}, frameOf(m), "filled anew")
		require.ErrorIs(t, s.RecvMsg(m), io.EOF)
	})
}

// A dead attempt that only Send has noticed may have brought messages: they are kept for Recv, in order, and the next
// attempt starts after them.
func TestWhatADeadAttemptBroughtIsKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, sends(errGone, numbered(1, 2, 3)...), func(s bidi) error {
			m, err := s.Recv()
			if err != nil {
				return err
			}
			return lasts(30*time.Second, nil, numbered(frameOf(m).seq+1)...)(s) // until the Send below is through
		})
		cb := positions()
		cb.Resume = func(ctx context.Context, r *resumption) error {
			if r.Attempt() == 1 {
				return nil
			}
			return greets(ctx, r)
		}
		s := w.mustDial(cb, stream.WithAtMostOnceSends())
		time.Sleep(time.Second) // the attempt is dead
		for s.Stats().Outages == 0 {
			require.NoError(t, s.Send(frame{kind: data}.request()))
			synctest.Wait()
		}
		require.GreaterOrEqual(t, s.Stats().Waiting, 3, "kept for Recv")
		require.Equal(t, checkpoint.Position{}, s.Stats().Delivered, "invariant 2: and not handed over")
		time.Sleep(time.Minute)
		got, err := receiveAll(s)
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, upTo(4), got)
	})
}

func TestTheErrorIsRepeated(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, sends(status.Error(codes.NotFound, "no"), numbered(1)...))
		s := w.mustDial(positions())
		_, first := receiveAll(s)
		_, second := s.Recv()
		require.Same(t, first, second)
		require.Same(t, errors.Unwrap(first), errors.Unwrap(second))
		require.ErrorIs(t, s.Send(frame{kind: data}.request()), io.EOF, "the server ended it: Recv tells")
	})
}
