package stream_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/streamsafe/streamsafe/checkpoint"
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

func TestStatsAgreeWithWhatHappened(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t,
			lasts(time.Second, errGone, append(numbered(1, 2), frame{kind: bookmark, seq: 5})...),
			stays(append(numbered(5, 6), frame{kind: ack, seq: 1})...),
		)
		cb := w.feed.callbacks()
		cb.Resume = saysNothing
		s := w.mustDial(cb, stream.WithReplay(stream.ReplayLimits{}))
		require.Equal(t, stream.Stats{State: stream.Attached, Attempts: 1}, s.Stats(), "nothing happened yet")
		for seq := uint64(1); seq <= 3; seq++ {
			require.NoError(t, s.Send(frame{kind: data, seq: seq}.request()))
		}
		began := time.Now()
		mustReceive(t, s, 1, 2, 6)
		go func() { _, _ = s.Recv() }() // ends with the stream
		synctest.Wait()
		st := s.Stats()
		require.Equal(t, codes.Unavailable, codeOf(st.LastError))
		require.InDelta(t, time.Second, st.LastMessage.Sub(began), float64(200*time.Millisecond))
		st.LastError, st.LastMessage = nil, time.Time{}
		require.Equal(t, stream.Stats{
			State: stream.Attached, Attempts: 2, Outages: 1, Resumes: 1,
			Sent: 3, Replayed: 3, LastSeq: 3, Acked: 1, Unacked: 2, UnackedSize: 2 * frameSize(frame{}),
			Received: 6, Deliveries: 3, Duplicates: 1,
			Delivered: at(6), Processed: at(6),
		}, st)
		mustClose(t, s, "called by the test")
		require.Equal(t, stream.Closed, s.Stats().State)
	})
}

// An application that commits by itself needs the epoch that the stream holds (invariant 24).
func TestStatsTellTheStoreEpoch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var store checkpoint.Memory
		for epoch := uint64(1); epoch <= 3; epoch++ {
			s := scripted(t, stays()).mustDial(positions(), stream.WithStore(&store, "key"), stream.WithManualCommit())
			require.Equal(t, epoch, s.Stats().StoreEpoch)
			require.NoError(t, store.Commit(t.Context(), "key", s.Stats().StoreEpoch, at(epoch)))
			mustClose(t, s, "called by the test")
			record, err := store.Load(t.Context(), "key")
			require.NoError(t, err)
			require.Equal(t, at(epoch), record.Position, "what the application has committed stays")
		}
	})
}
