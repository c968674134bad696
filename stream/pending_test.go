//go:build pending

package stream_test

import (
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/stream"
)

// What is known to be wrong, and waits for its repair: go test -tags pending.

// Half of WithAckTimeout has passed and a Send waits for room: the stream receives in the application's place. It looks
// whether it has to from time to time, and not again and again without a pause. In a bubble it would never end, as no time
// passes; hence the real clock.
func TestAckTimeoutLooksFromTimeToTime(t *testing.T) { //nolint:paralleltest // it counts what the process allocates
	p := newPuppet() // acknowledges nothing
	s := newWorld(t, &feed{handler: p.handle}).mustOpen(
		stream.WithReplay(stream.ReplayLimits{Messages: 1}), stream.WithAckTimeout(4*time.Second))
	sent := async(func() error { mustSend(t, s, 1, 1); return s.Send(frame{kind: data, seq: 2}.request()) })
	pause := func(d time.Duration) {
		select {
		case err := <-sent:
			require.FailNow(t, "the Send that is to wait for room has returned", "%v", err)
		case <-time.After(d):
		}
	}
	allocations := func() uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		pause(200 * time.Millisecond)
		runtime.ReadMemStats(&after)
		return after.Mallocs - before.Mallocs
	}
	pause(time.Second)
	require.Less(t, allocations(), uint64(2000), "allocations in 200 ms, before half of the limit has passed")
	pause(1600 * time.Millisecond)
	require.Less(t, allocations(), uint64(2000), "allocations in 200 ms, after half of the limit has passed")
}
