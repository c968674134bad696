package stream_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/stream"
)

var (
	oneStream   = strings.Repeat("01", 16)
	otherStream = strings.Repeat("02", 16)
)

// outgoing is the context of an attempt of a stream.
func outgoing(ctx context.Context, id string, epoch uint64) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "streamsafe-stream", id, "streamsafe-attempt", strconv.FormatUint(epoch, 10))
}

// attempt opens an attempt of a stream and waits until its handler runs, if it is accepted.
func (h *host) attempt(id string, epoch uint64) testpb.TestService_FullDuplexCallClient {
	h.t.Helper()
	s, err := h.client.FullDuplexCall(outgoing(h.t.Context(), id, epoch))
	require.NoError(h.t, err)
	return s
}

// accepted is attempt, and waits for the first message.
func (h *host) accepted(id string, epoch uint64) testpb.TestService_FullDuplexCallClient {
	h.t.Helper()
	s := h.attempt(id, epoch)
	err := within(h.t, async(func() error { _, err := s.Recv(); return err }), fmt.Sprint("the first message of attempt ", epoch))
	require.NoError(h.t, err, "attempt %d", epoch)
	return s
}

// greetsThen is a handler that says that it runs, and does then what the function for its attempt does.
func greetsThen(then func(s bidi, epoch uint64) error) func(bidi) error {
	return func(s bidi) error {
		if err := s.Send(frame{kind: hello}.response()); err != nil {
			return err
		}
		attempt, _ := stream.AttemptFrom(s.Context())
		return then(s, attempt.Epoch)
	}
}

// requireSuperseded sees that an attempt has ended since another one has come.
func requireSuperseded(t *testing.T, s testpb.TestService_FullDuplexCallClient, by uint64) {
	t.Helper()
	end := endOf(t, s)
	require.Equal(t, codes.Aborted, end.Code(), end.Message())
	require.Contains(t, end.Message(), "superseded by attempt "+strconv.FormatUint(by, 10))
	require.Equal(t, []string{"superseded"}, s.Trailer().Get("streamsafe-end"))
	require.False(t, stream.Resumable(end.Err()), "invariant 46: nothing retries it by itself")
}

// Over real TCP, the old handler receives nothing after the new attempt was accepted, though the client has sent a lot.
func TestTheFenceStopsZombies(t *testing.T) {
	t.Parallel()
	var received, atFence atomic.Int64
	ended := make(chan error, 1)
	h := hosts(t, greetsThen(func(s bidi, epoch uint64) error {
		if epoch == 2 {
			atFence.Store(received.Load())
			return s.Send(frame{kind: data}.response())
		}
		for {
			_, err := s.Recv()
			if err != nil {
				ended <- err
				return err
			}
			received.Add(1)
			time.Sleep(time.Millisecond)
		}
	}))
	s := h.accepted(oneStream, 1)
	for range 2000 { // the window takes them
		require.NoError(t, s.Send(frame{kind: data}.request()))
	}
	require.Eventually(t, func() bool { return received.Load() > 5 }, patience(), time.Millisecond, "the old handler receives")
	began := time.Now()
	second := h.accepted(oneStream, 2)
	err := within(t, ended, "the old handler")
	require.ErrorIs(t, err, stream.ErrSuperseded)
	require.Less(t, time.Since(began), 5*time.Second)
	require.LessOrEqual(t, received.Load(), atFence.Load()+1, "at most the one that it had in hand already")
	require.Equal(t, "EOF", endOf(t, second).Message())
	requireSuperseded(t, s, 2)
}

// slowStream is a stream whose RecvMsg returns a message when it is told to.
type slowStream struct {
	grpc.ServerStream
	ctx     context.Context
	arrives chan struct{}
}

func (s slowStream) Context() context.Context { return s.ctx }

func (s slowStream) RecvMsg(any) error { <-s.arrives; return nil }

func (s slowStream) SetTrailer(metadata.MD) {}

// A message that was on its way to the old handler when the new attempt was accepted is not delivered.
func TestTheFenceHoldsInTheMiddleOfACall(t *testing.T) {
	t.Parallel()
	intercept := stream.ServerInterceptor()
	arrives, received, accepted := make(chan struct{}), make(chan error, 1), make(chan struct{})
	attempt := func(epoch uint64, handler grpc.StreamHandler) <-chan error {
		md, _ := metadata.FromOutgoingContext(outgoing(t.Context(), oneStream, epoch))
		ss := slowStream{ctx: metadata.NewIncomingContext(t.Context(), md), arrives: arrives}
		return async(func() error { return intercept(nil, ss, &grpc.StreamServerInfo{}, handler) })
	}
	calling := make(chan struct{})
	first := attempt(1, func(_ any, ss grpc.ServerStream) error {
		close(calling)
		received <- ss.RecvMsg(nil)
		return nil
	})
	within(t, calling, "the old handler")
	second := attempt(2, func(any, grpc.ServerStream) error { close(accepted); return nil })
	within(t, accepted, "the new handler")
	close(arrives)
	require.ErrorIs(t, within(t, received, "the old handler"), stream.ErrSuperseded)
	require.Equal(t, codes.Aborted, status.Code(within(t, first, "the first attempt")))
	require.NoError(t, within(t, second, "the second attempt"))
}

// A handler that is blocked in any call returns when it is superseded, and at once.
func TestASupersededHandlerReturns(t *testing.T) {
	t.Parallel()
	for name, block := range blocks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ended := make(chan error, 1)
			h := hosts(t, greetsThen(func(s bidi, epoch uint64) error {
				if epoch == 1 {
					err := block(s)
					ended <- context.Cause(s.Context())
					return err
				}
				return nil
			}))
			s := h.accepted(oneStream, 1)
			h.accepted(oneStream, 2)
			require.ErrorIs(t, within(t, ended, "the old handler"), stream.ErrSuperseded)
			requireSuperseded(t, s, 2)
		})
	}
}

func TestOlderAttemptsAreRefused(t *testing.T) {
	t.Parallel()
	h := hosts(t, greetsThen(func(s bidi, _ uint64) error { <-s.Context().Done(); return nil }))
	h.accepted(oneStream, 5)
	h.accepted(otherStream, 1) // another stream is another matter
	for _, epoch := range []uint64{1, 4, 5} {
		requireSuperseded(t, h.attempt(oneStream, epoch), 5)
	}
	h.accepted(oneStream, 6)
}

// Invariant 45: an old handler that returns late does not make the server forget the newer one.
func TestAHandlerThatReturnsLate(t *testing.T) {
	t.Parallel()
	first, late := make(chan struct{}), make(chan struct{})
	ended := make(chan uint64, 3)
	h := hosts(t, greetsThen(func(s bidi, epoch uint64) error {
		<-s.Context().Done()
		if epoch == 1 {
			<-first
			defer close(late)
		}
		ended <- epoch
		return nil
	}))
	h.accepted(oneStream, 1)
	second := h.accepted(oneStream, 2)
	close(first)
	within(t, late, "the first handler")
	require.Equal(t, uint64(1), within(t, ended, "the first handler"))
	third := h.accepted(oneStream, 3)
	require.Equal(t, uint64(2), within(t, ended, "the second handler, fenced by the third attempt"))
	requireSuperseded(t, second, 3)
	require.NoError(t, third.CloseSend())
}

// Entries go when handlers end: an id may be used again.
func TestTheFenceForgets(t *testing.T) {
	t.Parallel()
	h := hosts(t, greetsThen(func(bidi, uint64) error { return nil }))
	for range 3 {
		require.Equal(t, "EOF", endOf(t, h.accepted(oneStream, 7)).Message())
		require.Equal(t, "EOF", endOf(t, h.accepted(oneStream, 1)).Message())
	}
}

// Another caller cannot take the place of a stream that it does not own.
func TestAnotherCallerDoesNotFence(t *testing.T) {
	t.Parallel()
	h := hosts(t, greetsThen(func(s bidi, _ uint64) error { <-s.Context().Done(); return nil }),
		stream.WithOwner(func(ctx context.Context) string {
			return strings.Join(metadata.ValueFromIncomingContext(ctx, "user"), "")
		}))
	as := func(user string, epoch uint64) testpb.TestService_FullDuplexCallClient {
		s, err := h.client.FullDuplexCall(metadata.AppendToOutgoingContext(outgoing(t.Context(), oneStream, epoch), "user", user))
		require.NoError(t, err)
		return s
	}
	alice := as("alice", 1)
	_, err := alice.Recv()
	require.NoError(t, err)
	end := endOf(t, as("mallory", 2))
	require.Equal(t, codes.PermissionDenied, end.Code())
	require.Contains(t, end.Message(), "another caller")
	_, err = as("alice", 2).Recv()
	require.NoError(t, err)
	requireSuperseded(t, alice, 2)
}

// Handlers that do not return are bounded for each stream.
func TestAbandonedHandlersAreBounded(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	h := hosts(t, greetsThen(func(bidi, uint64) error {
		<-release
		return nil
	}))
	for epoch := uint64(1); epoch <= 16; epoch++ {
		h.accepted(oneStream, epoch)
	}
	end := endOf(t, h.attempt(oneStream, 17))
	require.Equal(t, codes.ResourceExhausted, end.Code())
	require.Contains(t, end.Message(), "16 handlers of older attempts have not returned")
	require.True(t, stream.Resumable(end.Err()), "the client comes again")
	h.accepted(otherStream, 1) // invariant 9
	close(release)
	require.Eventually(t, func() bool { return endOf(t, h.attempt(oneStream, 18)).Message() == "EOF" }, patience(), time.Millisecond)
}

func TestTakeover(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		hangs bool
		wait  time.Duration
	}{"the old one returns": {false, time.Hour}, "the old one hangs": {true, 50 * time.Millisecond}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			release := make(chan struct{})
			defer close(release)
			var running, overlaps atomic.Int64
			h := hosts(t, greetsThen(func(s bidi, epoch uint64) error {
				if running.Add(1) > 1 {
					overlaps.Add(1)
				}
				defer running.Add(-1)
				if epoch == 1 {
					<-s.Context().Done()
					time.Sleep(50 * time.Millisecond)
				}
				if epoch == 1 && c.hangs {
					<-release
				}
				return nil
			}), stream.WithTakeover(c.wait))
			h.accepted(oneStream, 1)
			require.Equal(t, "EOF", endOf(t, h.accepted(oneStream, 2)).Message())
			require.Equal(t, c.hangs, overlaps.Load() > 0, "the new handler waits for the old one, and not for ever")
		})
	}
}

func TestWithoutFencing(t *testing.T) {
	t.Parallel()
	h := hosts(t, greetsThen(func(s bidi, _ uint64) error { _, err := s.Recv(); return err }), stream.WithoutFencing())
	first := h.accepted(oneStream, 1)
	h.accepted(oneStream, 2)
	require.NoError(t, first.CloseSend())
	require.Equal(t, "EOF", endOf(t, first).Message())
}
