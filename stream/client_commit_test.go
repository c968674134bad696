package stream_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream"
)

// Invariant 25: when a stream has ended, what is processed is written, though nobody calls Recv, Commit or Close any more.
func TestTheEndIsCommittedThoughNobodyAsks(t *testing.T) {
	t.Parallel()
	ends := map[string]error{"with OK": nil, "with the server's last word": errLastWord}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store := new(checkpoint.Memory)
				goes := make(chan struct{})
				w := scripted(t, func(s bidi) error {
					if err := sends(nil, numbered(1, 2, 3)...)(s); err != nil {
						return err
					}
					return when(goes, sends(end))(s)
				})
				s := w.mustDial(positions(), stream.WithAtMostOnceSends(),
					stream.WithStore(store, "key", stream.CommitEvery(1000), stream.CommitInterval(24*time.Hour)))
				mustReceive(t, s, 1, 2, 3)
				close(goes)
				synctest.Wait()
				sent := async(func() error { return s.Send(frame{kind: data}.request()) })
				require.Error(t, within(t, sent, "the Send that finds the end"))
				synctest.Wait()
				require.Equal(t, stream.Closed, s.State())
				require.Equal(t, uint64(2), committed(t, store), "the third is still in the application's hands")
			})
		})
	}
}

// One write at a time, whoever asks for it: the application, several times at once, the interval, and Close.
func TestOneWriteAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := new(faultyStore)
		store.set(nil, 3*time.Second)
		s := scripted(t, stays(numbered(upTo(20)...)...)).mustDial(positions(),
			stream.WithStore(store, "key", stream.CommitEvery(1), stream.CommitInterval(time.Second), stream.CommitTimeout(time.Minute)))
		var commits []<-chan error
		for seq := uint64(1); seq <= 20; seq++ {
			mustReceive(t, s, seq)
			commits = append(commits, async(func() error { return s.Commit(t.Context()) }))
			rest(500 * time.Millisecond)
		}
		mustClose(t, s, "while others write")
		for i, commit := range commits {
			require.NoError(t, within(t, commit, "Commit"), "Commit after message %d", i+1)
		}
		writes, most := store.writes()
		require.Equal(t, 1, most, "writes at the same time")
		require.IsIncreasing(t, writes, "a write of an older position, or of one that is written")
		require.Equal(t, uint64(20), committed(t, store))
	})
}
