package stream_test

import (
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream"
)

// What counts as progress, and so as no poison, beside what TestPoisonLimit has.

// A stream that only sends makes progress by what the server acknowledges.
func TestAcknowledgementsAreProgress(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &feed{}
		attempts := 0 // handlers come one after the other
		f.handler = func(s bidi) error {
			if attempts++; attempts > 10 {
				return f.serve(s)
			}
			if err := greet(s, f.last()); err != nil {
				return err
			}
			m, err := s.Recv()
			if err != nil {
				return err
			}
			f.store(frameOf(m).seq)
			return sends(errGone, frame{kind: ack, seq: f.last()})(s)
		}
		s := newWorld(t, f).mustOpen(withReplay(), stream.WithPoisonLimit(2))
		_, sendErr, recvErr := exchange(s, 20)
		require.NoError(t, sendErr)
		require.Equal(t, io.EOF, recvErr)
		require.Equal(t, upTo(20), f.stored)
	})
}

// More messages past the position are progress. The same ones, handed over again and again, are not.
func TestMessagesPastThePositionAreProgress(t *testing.T) {
	t.Parallel()
	part := func(n int) func(bidi) error {
		unit := []frame{{kind: data, seq: 1}, {kind: fragment, seq: 21}, {kind: fragment, seq: 22}, {kind: fragment, seq: 23}, {kind: fragment, seq: 24}}
		return sends(errGone, unit[:1+n]...)
	}
	t.Run("more each time", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := scripted(t, part(1), part(2), part(3), part(4), sends(nil, numbered(2)...))
			_, err := receiveAll(w.mustDial(positions(), stream.WithPoisonLimit(2)))
			require.ErrorIs(t, err, io.EOF)
		})
	})
	t.Run("the same", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s := scripted(t, part(2), part(2), part(1)).mustDial(positions(), stream.WithPoisonLimit(4))
			got, err := receiveAll(s)
			wantEnd(t, err, stream.ReasonPoison, codes.Unavailable, "nothing new at position 1")
			require.Equal(t, []uint64{1, 21, 22, 21, 22, 21, 21}, got)
			require.Equal(t, uint64(4), s.Stats().Attempts)
		})
	})
}

// A message that grpc refuses costs an attempt. It is the application's fault, and says nothing of the place.
func TestABadMessageIsNoPoison(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var got []uint64
		w := newWorld(t, &feed{handler: reads(&got)})
		s := w.mustDial(acking(), withReplay(), stream.WithPoisonLimit(2), stream.WithCallOptions(grpc.MaxCallSendMsgSize(5000)))
		ended := receiving(s)
		for range 5 {
			requireReason(t, s.Send(frame{kind: data, seq: 99, size: 10_000}.request()), stream.ReasonMessage, "too large")
			rest(time.Minute)
		}
		mustSend(t, s, 1, 1)
		goesOn(t, ended)
		require.Equal(t, upTo(1), got)
		require.Equal(t, uint64(6), s.Stats().Attempts)
	})
}

// A position that is lost is no poison, and where the application restarts elsewhere, the count does too.
func TestALostPositionIsNoPoison(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, sends(errGone), sends(errCompacted), sends(errGone), sends(errCompacted), sends(nil, numbered(1)...))
		cb := positions()
		cb.Lost = func(context.Context, checkpoint.Position, error) (stream.Recovery, error) {
			return stream.RestartFrom(checkpoint.Position{}), nil
		}
		got, err := receiveAll(w.mustDial(cb, stream.WithPoisonLimit(2)))
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, upTo(1), got)
	})
}
