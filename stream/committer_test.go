package stream_test

import (
	"context"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream"
)

// onceExiting is a store whose first Commit ends the goroutine.
type onceExiting struct {
	checkpoint.Memory
	calls int
}

func (s *onceExiting) Commit(ctx context.Context, key string, epoch uint64, p checkpoint.Position) error {
	if s.calls++; s.calls == 1 {
		runtime.Goexit()
	}
	return s.Memory.Commit(ctx, key, epoch, p)
}

// A store that ends the goroutine once has failed once.
func TestACommitThatEndsTheGoroutineIsTriedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &onceExiting{}
		w := scripted(t, stays(numbered(upTo(1000)...)...))
		d := &diary{}
		s := w.mustDial(positions(), stream.WithObserver(d), stream.WithStore(store, "k", stream.CommitEvery(1), stream.CommitInterval(time.Second)))
		for seq := uint64(1); seq <= 1000; seq++ {
			mustReceive(t, s, seq)
			rest(time.Second)
		}
		t.Log(s.State(), d.of("commit failed"))
		r, err := store.Load(t.Context(), "k")
		require.NoError(t, err)
		require.Positive(t, r.Position.Seq, "committed in 1000 s, of 1000 messages")
	})
}
