package stream_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/failsafe-go/failsafe-go/timeout"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream"
)

// slowStore takes its time to commit.
type slowStore struct{ checkpoint.Memory }

func (s *slowStore) Commit(ctx context.Context, key string, epoch uint64, p checkpoint.Position) error {
	<-ctx.Done()
	return ctx.Err()
}

// A timeout at stream scope that fires as the attempt becomes stable leaves one attempt, not two.
func TestATimeoutAsTheAttemptBecomesStable(t *testing.T) {
	t.Parallel()
	for range 200 {
		synctest.Test(t, func(t *testing.T) {
			w := scripted(t, stays())
			p := retrypolicy.NewBuilder[any]().WithMaxRetries(3).WithDelay(time.Second).Build()
			s := w.mustDial(positions(), stream.WithStreamPolicies(p, timeout.New[any](5*time.Second)), stream.WithStableFor(5*time.Second))
			go func() { _, _ = s.Recv() }()
			for range 8 {
				time.Sleep(2 * time.Second)
				synctest.Wait()
				if n := active(w); n > 1 {
					t.Fatalf("%d attempts are alive", n)
				}
			}
		})
	}
}

// Who has left does not wait for the store.
func TestRecvReturnsAtOnceThoughTheStoreHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, stays(numbered(1)...))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		s, err := w.dial(ctx, positions(), stream.WithStore(&slowStore{}, "k"))
		require.NoError(t, err)
		mustReceive(t, s, 1)
		time.AfterFunc(10*time.Second+500*time.Millisecond, cancel)
		began := time.Now()
		_, err = s.Recv()
		require.Error(t, err)
		took := time.Since(began) - 10500*time.Millisecond
		_ = s.Close()
		require.Less(t, took, time.Second, "after the context was done")
	})
}

// Invariant 8: an empty message takes memory, too.
func TestHeldMessagesWithoutASizeAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const n = 100_000
		w := scripted(t, func(s bidi) error {
			for range n {
				if err := s.Send(&response{}); err != nil {
					return err
				}
			}
			<-s.Context().Done()
			return nil
		})
		cb := callbacks{
			Resume:     saysNothing,
			Checkpoint: func(*response) (checkpoint.Position, bool) { return checkpoint.Position{}, false },
		}
		s := w.mustDial(cb, stream.HoldUntilCheckpoint(1000, stream.OverflowFail))
		go func() { _, _ = s.Recv() }()
		time.Sleep(time.Minute)
		require.Less(t, s.Stats().Held, n)
	})
}

// The trailer may still be on its way; -race tells.
func TestTrailerAfterClose(t *testing.T) {
	t.Parallel()
	for range 300 {
		end := make(chan struct{})
		w := newWorld(t, &feed{handler: func(s bidi) error {
			s.SetTrailer(metadata.Pairs("a", "b"))
			_ = s.Send(frame{kind: data, seq: 1}.response())
			<-end
			return errGone
		}})
		s := w.mustDial(positions())
		mustReceive(t, s, 1)
		go close(end)
		_ = s.Close()
		_, err := s.Recv()
		require.Error(t, err)
		_ = s.Trailer()
	}
}

// The time in which nobody received does not count while the cause is looked for.
func TestTheLastWordIsNotAnIdleTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, lasts(10*time.Second, status.Error(codes.PermissionDenied, "no"), numbered(1, 2)...), stays())
		cb := positions()
		inner := cb.Checkpoint
		cb.Checkpoint = func(m *response) (checkpoint.Position, bool) {
			if frameOf(m).seq == 2 {
				time.Sleep(200 * time.Millisecond) // well within the limit
			}
			return inner(m)
		}
		s := w.mustDial(cb, stream.WithIdleTimeout(time.Second), stream.WithAtMostOnceSends())
		mustReceive(t, s, 1)
		time.Sleep(11900 * time.Millisecond)
		go func() { _ = s.Send(frame{kind: data, seq: 1}.request()) }()
		time.Sleep(time.Minute)
		require.Equal(t, stream.Closed, s.State(), "attempts %d, %v", s.Stats().Attempts, s.Stats().LastError)
	})
}

// Invariant 16: a retry policy for opening does not try again what the server has refused for good.
func TestOpenPoliciesMindTheLastWord(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, func(bidi) error { return status.Error(codes.PermissionDenied, "no") })
		cb := positions()
		cb.Resume = func(_ context.Context, r *resumption) error { _, err := r.Recv(); return err }
		_, err := w.dial(t.Context(), cb, stream.WithOpenPolicies(retrypolicy.NewBuilder[any]().WithMaxRetries(3).WithDelay(time.Second).Build()))
		require.Equal(t, codes.PermissionDenied, status.Code(err))
		require.Equal(t, 1, handled(w), "invariant 16: classified alike in every phase")
	})
}

// What Resume delivers counts with its own size.
func TestSizesOfDeliveredMessages(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, stays(frame{kind: fragment, seq: 1, size: 10000}, frame{kind: fragment, seq: 2}))
		cb := positions()
		cb.Resume = func(_ context.Context, r *resumption) error {
			for range 2 {
				m, err := r.Recv()
				if err != nil {
					return err
				}
				r.Deliver(m)
			}
			return nil
		}
		s := w.mustDial(cb, stream.HoldUntilCheckpoint(1000, stream.OverflowFail))
		_, err := s.Recv()
		wantEnd(t, err, stream.ReasonHeldOverflow, codes.ResourceExhausted, "the first is larger than the limit")
	})
}

// Invariant 19: an RST_STREAM is resumable whatever code it becomes, but for one that will not get better.
func TestRSTStreamIsResumable(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		code codes.Code
		name string
	}{{codes.ResourceExhausted, "ENHANCE_YOUR_CALM"}, {codes.Internal, "PROTOCOL_ERROR"}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := scripted(t, sends(status.Error(c.code, "stream terminated by RST_STREAM with error code: "+c.name)), lasts(time.Second, nil, numbered(1)...))
				mustReceive(t, w.mustDial(positions()), 1)
			})
		})
	}
}
