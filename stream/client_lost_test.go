package stream_test

import (
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream"
)

// Invariants 2 and 3: the position that Lost tells is behind what has arrived before, and was not handed over yet.
//
//  1. Messages 1 to 3 arrive, and nobody receives them. A Send finds the attempt dead, and they wait for Recv.
//  2. The server says that the position is lost, and Lost tells 100.
//  3. The application receives message 1. It stands at 1, and not at 100.
func TestTheRestartIsBehindWhatWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := new(checkpoint.Memory)
		goes := make(chan struct{})
		w := scripted(t, sends(errCompacted, numbered(1, 2, 3)...), when(goes, sends(nil, numbered(101)...)))
		cb := positions()
		cb.Lost = func(context.Context, checkpoint.Position, error) (stream.Recovery, error) {
			return stream.RestartFrom(at(100)), nil
		}
		s := w.mustDial(cb, stream.WithAtMostOnceSends(), stream.WithStore(store, "key", stream.CommitInterval(time.Second)))
		synctest.Wait() // the first attempt is dead
		sent := async(func() error { return s.Send(frame{kind: data}.request()) })
		rest(time.Minute)
		require.NoError(t, within(t, sent, "the Send that finds the attempt dead"))
		require.Equal(t, uint64(2), s.Stats().Attempts)
		require.Equal(t, 4, s.Stats().Waiting, "three messages wait, and the new position behind them")
		require.Zero(t, s.Stats().Delivered, "nothing was handed over")
		require.Zero(t, s.Stats().Processed, "nothing was handed over")
		for seq := uint64(1); seq <= 3; seq++ {
			mustReceive(t, s, seq)
			rest(time.Minute)
			require.Equal(t, at(seq), s.Stats().Delivered)
			require.Equal(t, seq-1, s.Stats().Processed.Seq, "message %d is in the application's hands", seq)
			require.Equal(t, seq-1, committed(t, store), "message %d is in the application's hands", seq)
		}
		close(goes)
		got, err := receiveAll(s)
		require.Equal(t, io.EOF, err)
		require.Equal(t, []uint64{101}, got)
		require.Equal(t, uint64(101), committed(t, store))
	})
}
