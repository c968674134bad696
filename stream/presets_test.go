package stream_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/stream"
)

func ExampleWatchOptions() {
	fmt.Println(stream.WatchOptions())
	// Output:
	// watch
	//   WithEndless()
	//   WithFirstMessageTimeout(30s)
	//   WithOpenTimeout(20s)
	//   WithStableFor(10s)
}

func ExampleLinkOptions() {
	fmt.Println(stream.LinkOptions())
	// Output:
	// link
	//   WithReplay(ReplayLimits{Messages: 4096, Bytes: 8388608})
	//   WithAckTimeout(15s)
	//   WithSendTimeout(15s)
	//   WithOpenTimeout(20s)
	//   WithStableFor(10s)
}

// Each preset is a set of options that fit together, and a later option overrides its own.
func TestPresets(t *testing.T) {
	t.Parallel()
	for _, preset := range []stream.Preset{
		stream.WatchOptions(), stream.FeedOptions(), stream.LinkOptions(), stream.UploadOptions(),
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, &feed{total: 3})
			s := w.mustOpen(stream.Options(preset, stream.WithReplay(stream.ReplayLimits{Messages: 1, FailWhenFull: true})))
			mustReceive(t, s, 1, 2, 3)
			require.NotEmpty(t, preset.String())
		})
	}
	synctest.Test(t, func(t *testing.T) {
		var d diary
		w := scripted(t, stays(numbered(1)...), stays(numbered(2)...))
		s := w.mustDial(positions(), stream.Options(stream.FeedOptions(), stream.WithIdleTimeout(5*time.Second)), stream.WithObserver(&d))
		began := time.Now()
		mustReceive(t, s, 1, 2)
		require.Less(t, time.Since(began), 10*time.Second, "the later option counts")
	})
	synctest.Test(t, func(t *testing.T) {
		s := scripted(t, stays(numbered(1)...), stays(numbered(2)...)).mustDial(positions(), stream.FeedOptions())
		began := time.Now()
		mustReceive(t, s, 1, 2)
		require.InDelta(t, time.Minute, time.Since(began), float64(10*time.Second))
	})
	_, err := scripted(t, stays()).dial(t.Context(), positions(), stream.Options(nil))
	requireReason(t, err, stream.ReasonOptions, "a nil option")
}
