package stream_test

import (
	"context"
	"runtime"
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
	const streams, window = 1000, 2 * time.Second
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
	took := time.Since(began)
	clients.Wait()
	t.Logf("%d streams in %v, %d goroutines left", streams, took, runtime.NumGoroutine())
	most, of := ended.most(100 * time.Millisecond)
	require.Equal(t, streams, of)
	require.LessOrEqual(t, most, streams*15/100)
	require.LessOrEqual(t, took, window*11/10+time.Second, "and a second for a machine that is busy")
}
