package stream_test

import (
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream"
)

// Send finds the attempt dead while Recv has a message in hand, and then nobody receives: the cause is found all the same.
func TestCauseIsFoundThoughRecvWasBusy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		end := make(chan struct{})
		w := scripted(t, func(s bidi) error {
			if err := s.Send(frame{kind: data, seq: 1}.response()); err != nil {
				return err
			}
			<-end
			return errGone
		}, func(s bidi) error {
			for {
				if _, err := s.Recv(); err != nil {
					return err
				}
			}
		})
		cb := positions()
		gate := make(chan struct{})
		inner := cb.Checkpoint
		cb.Checkpoint = func(m *response) (checkpoint.Position, bool) {
			if frameOf(m).seq == 1 {
				<-gate
			}
			return inner(m)
		}
		s := w.mustDial(cb, stream.WithAtMostOnceSends())
		sent := make(chan error, 1)
		go func() {
			_, err := s.Recv() // message 1
			if err == nil {
				err = <-sent // and now waits for the sender, without receiving
			}
			sent <- err
		}()
		synctest.Wait() // Recv is busy with message 1
		close(end)      // the server goes away
		synctest.Wait()
		go func() { sent <- s.Send(frame{kind: data, seq: 1}.request()) }()
		synctest.Wait() // Send met io.EOF; the lifecycle goroutine saw that Recv is busy
		close(gate)     // Recv returns message 1
		time.Sleep(time.Hour)
		st := s.Stats()
		require.Equal(t, uint64(2), st.Attempts, "state %v: nobody finds out that the attempt is dead", st.State)
	})
}

// The limit is for the transport, not for acknowledgements.
func TestSendTimeoutDoesNotCountTheWaitForRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, func(s bidi) error {
			time.Sleep(5500 * time.Millisecond)
			if err := s.Send(frame{kind: ack, seq: 1}.response()); err != nil { // room
				return err
			}
			time.Sleep(time.Second) // flow control is stalled for one second more
			for {
				if _, err := s.Recv(); err != nil {
					return err
				}
			}
		})
		cb := positions()
		cb.Acked = (&feed{}).callbacks().Acked
		s := w.mustDial(cb, stream.WithReplay(stream.ReplayLimits{Messages: 1}), stream.WithSendTimeout(2*time.Second))
		go func() { _, _ = s.Recv() }()
		require.NoError(t, s.Send(frame{kind: data, seq: 1, size: 1 << 20}.request())) // fills the transport
		require.NoError(t, s.Send(frame{kind: data, seq: 2, size: 1 << 20}.request()))
		time.Sleep(10 * time.Second)
		synctest.Wait()
		require.Equal(t, uint64(1), s.Stats().Attempts, "the transport took 1 s, the limit is 2 s")
	})
}

// Nothing is written where the application has committed nothing.
func TestManualCommitKeepsWhatTheStoreHad(t *testing.T) {
	t.Parallel()
	for _, lineage := range []string{"", "x"} {
		t.Run("lineage "+lineage, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var store checkpoint.Memory
				r, err := store.Acquire(t.Context(), "k")
				require.NoError(t, err)
				require.NoError(t, store.Commit(t.Context(), "k", r.Epoch, checkpoint.Position{Lineage: lineage, Seq: 7}))
				w := scripted(t, stays())
				s := w.mustDial(positions(), stream.WithStore(&store, "k"), stream.WithManualCommit())
				time.Sleep(3 * time.Second)
				require.NoError(t, s.Close())
				r, err = store.Load(t.Context(), "k")
				require.NoError(t, err)
				require.Equal(t, uint64(7), r.Position.Seq, "nothing was committed by the application")
			})
		})
	}
}

// Invariant 19: only the transport makes an INTERNAL of it.
func TestAHandlersUnexpectedEOFIsItsLastWord(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, func(bidi) error { return io.ErrUnexpectedEOF })
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		s, err := w.dial(ctx, positions())
		require.NoError(t, err)
		_, err = s.Recv()
		wantEnd(t, err, stream.ReasonServer, codes.Unknown, "the handler's error")
		require.Equal(t, uint64(1), s.Stats().Attempts)
	})
}

// An attempt that is stable stays, whatever a policy makes of it.
func TestAPolicyThatRetriesASuccess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, stays())
		p := retrypolicy.NewBuilder[any]().WithMaxRetries(3).WithDelay(time.Second).
			HandleIf(func(_ any, err error) bool { return status.Code(err) != codes.PermissionDenied }).Build()
		s := w.mustDial(positions(), stream.WithStreamPolicies(p), stream.WithStableFor(5*time.Second))
		go func() { _, _ = s.Recv() }()
		for range 9 {
			time.Sleep(1500 * time.Millisecond)
			synctest.Wait()
			require.LessOrEqual(t, active(w), 1, "attempts that are alive")
		}
		require.Equal(t, stream.Attached, s.State())
	})
}

// The last attempt counts, also where it was never attached.
func TestTrailerOfTheLastAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, func(s bidi) error {
			s.SetTrailer(metadata.Pairs("attempt", "1"))
			return errGone
		}, func(s bidi) error {
			s.SetTrailer(metadata.Pairs("attempt", "2"))
			return status.Error(codes.PermissionDenied, "no")
		})
		cb := positions()
		cb.Resume = func(_ context.Context, r *resumption) error {
			if r.Attempt() == 1 {
				return nil
			}
			_, err := r.Recv()
			return err
		}
		s := w.mustDial(cb)
		_, err := s.Recv()
		require.Equal(t, codes.PermissionDenied, status.Code(err))
		require.Equal(t, []string{"2"}, s.Trailer().Get("attempt"))
	})
}

// A function that opens may close the stream, too.
func TestOpenCallsClose(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, lasts(time.Second, errGone), stays())
		var s *client
		n := 0
		open := func(ctx context.Context, opts ...grpc.CallOption) (grpc.BidiStreamingClient[request, response], error) {
			if n++; n > 1 {
				_ = s.Close()
			}
			return testpb.NewTestServiceClient(w.conn).FullDuplexCall(ctx, opts...)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var err error
		s, err = stream.Resilient(ctx, open, positions())
		require.NoError(t, err)
		done := make(chan struct{})
		go func() { _, _ = s.Recv(); close(done) }()
		time.Sleep(time.Hour)
		select {
		case <-done:
		default:
			t.Error("Close in open hangs")
		}
	})
}
