package stream_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/stream"
)

// A drain of 1,000 streams over real TCP ends all of them within its window, spread over it.
func TestDrainOfManyStreamsOverTCP(t *testing.T) { //nolint:paralleltest // it takes the time
	if testing.Short() {
		t.Skip("it opens 1,000 streams")
	}
	const streams, window, tries = 1000, 2 * time.Second, 5
	for try := range tries { // a machine that stands still for a while makes what comes after it come at once
		took, most := drainMany(t, streams, window)
		t.Logf("%d streams in %v, at most %d in 100 ms", streams, took, most)
		if most <= streams*15/100 && took <= window*11/10 {
			return
		}
		require.Less(t, try, tries-1, "each time more than 15 percent in 100 ms, or the window passed by more than a tenth")
	}
}

// drainMany drains so many streams, and returns how long that took, and how many ended within 100 ms at the most.
func drainMany(t *testing.T, streams int, window time.Duration) (took time.Duration, most int) {
	t.Helper()
	d := stream.NewDrainer(stream.DrainWindow(window))
	h := hosts(t, func(s bidi) error {
		if err := s.Send(frame{}.response()); err != nil {
			return err
		}
		_, err := s.Recv()
		return err
	}, stream.WithDrainer(d))
	var ended moments
	var clients sync.WaitGroup
	for range streams / 100 {
		_, client := h.dial()
		for range 100 {
			s, err := client.FullDuplexCall(t.Context())
			require.NoError(t, err)
			_, err = s.Recv()
			require.NoError(t, err)
			clients.Go(func() { // ends with the stream
				_, _ = s.Recv()
				ended.add()
			})
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	began := time.Now()
	require.NoError(t, d.Drain(ctx, h.server))
	took = time.Since(began)
	clients.Wait()
	most, of := ended.most(100 * time.Millisecond)
	require.Equal(t, streams, of)
	return took, most
}
