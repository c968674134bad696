package stream_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/stream"
)

// Reading the clock is a good part of what a message costs, so it is read only where somebody has asked.
func TestLastMessageIsKeptFromTheFirstCallOfStats(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		next := make(chan struct{})
		w := newWorld(t, &feed{handler: func(s bidi) error {
			for seq := uint64(1); ; seq++ {
				select {
				case <-next:
				case <-s.Context().Done():
					return nil
				}
				if err := s.Send(frame{kind: data, seq: seq}.response()); err != nil {
					return err
				}
			}
		}})
		callbacks := w.feed.callbacks()
		callbacks.Resume = saysNothing
		s := w.mustDial(callbacks)
		recv := func() {
			next <- struct{}{}
			_, err := s.Recv()
			require.NoError(t, err)
		}
		recv()
		require.Zero(t, s.Stats().LastMessage, "nobody had asked when it came")
		time.Sleep(time.Minute)
		recv()
		came := time.Now()
		time.Sleep(time.Minute)
		require.WithinDuration(t, came, s.Stats().LastMessage, 0, "when the second message came")
		require.Equal(t, stream.Attached, s.State())
	})
}
