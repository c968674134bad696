package stream_test

import (
	"context"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/internal/testnet"
	"github.com/streamsafe/streamsafe/stream"
)

type countedHeader struct {
	grpc.ClientStream
	calls *atomic.Int64
}

func (s countedHeader) Header() (metadata.MD, error) {
	if s.calls.Add(1) > 10_000 { // give up: the bubble's clock stands still
		runtime.Goexit()
	}
	return s.ClientStream.Header()
}

// Header does not ask a dead attempt again and again.
func TestHeaderAfterCloseWhileACallbackRuns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		w := newWorld(t, &feed{handler: stays()}, wrapped(func(_ context.Context, s grpc.ClientStream) grpc.ClientStream {
			return countedHeader{s, &calls}
		}))
		returns := make(chan struct{})
		cb := acking()
		cb.Replay = func(m *request, _ uint64) *request { <-returns; return m }
		s := w.mustDial(cb, withReplay())
		mustSend(t, s, 1, 1)
		receiving(s)
		w.Cut(testnet.RST)
		rest(time.Minute)
		require.Equal(t, stream.Attached, s.State(), "Replay runs")
		require.NoError(t, s.Close())
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = s.Header()
		}()
		synctest.Wait()
		n := calls.Load()
		close(returns)
		<-done
		require.Less(t, n, int64(10), "calls of Header")
	})
}

// What Close lets go was not handed over: the position that Lost tells then is not processed.
func TestCloseWhileLostRuns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var store checkpoint.Memory
		w := scripted(t, sends(status.Error(codes.OutOfRange, "compacted"), numbered(1, 2, 3)...), stays())
		cb := positions()
		asked, returns := make(chan struct{}), make(chan struct{})
		cb.Lost = func(context.Context, checkpoint.Position, error) (stream.Recovery, error) {
			close(asked)
			<-returns
			return stream.RestartFrom(checkpoint.Position{Seq: 100}), nil
		}
		s := w.mustDial(cb, stream.WithAtMostOnceSends(), stream.WithStore(&store, "k", stream.CommitInterval(time.Hour)))
		rest(time.Second)
		go func() { _ = s.Send(frame{kind: data}.request()) }() // finds the attempt dead; nobody has called Recv yet
		<-asked
		require.Equal(t, 3, s.Stats().Waiting, "messages that wait for Recv")
		require.NoError(t, s.Close())
		close(returns)
		rest(time.Minute)
		require.Equal(t, stream.Closed, s.State())
		record, err := store.Load(t.Context(), "k")
		require.NoError(t, err)
		require.Zero(t, record.Position.Seq, "committed; nothing was handed over")
	})
}

// A listener of a policy held for life ends the goroutine.
func TestAListenerThatDoesNotReturn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		limit := bulkhead.NewBuilder[any](1).OnFull(func(failsafe.ExecutionEvent[any]) { runtime.Goexit() }).Build()
		require.True(t, limit.TryAcquirePermit())
		s, err := scripted(t, stays()).dial(t.Context(), positions(), stream.WithStreamPolicies(limit))
		require.True(t, s != nil || err != nil, "Resilient returned nil, nil")
		require.Error(t, err)
	})
}

// Observers are told of the end that the application is told of.
func TestCloseInARuleThatSaysYes(t *testing.T) {
	t.Parallel()
	for name, opt := range map[string]func(f func(error) bool) stream.ClientOption{
		"WithResumable":    func(f func(error) bool) stream.ClientOption { return stream.WithResumable(f) },
		"WithPositionLost": func(f func(error) bool) stream.ClientOption { return stream.WithPositionLost(f) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := scripted(t, lasts(time.Second, errGone))
				d := &diary{}
				var s *client
				s = w.mustDial(positions(), stream.WithObserver(d), opt(func(error) bool { _ = s.Close(); return true }))
				mustSend(t, s, 1, 1)
				err := <-receiving(s)
				wantEnd(t, err, stream.ReasonClosed, codes.Canceled, "Recv")
				rest(time.Minute)
				wantEnd(t, d.of("closed")[0].cause, stream.ReasonClosed, codes.Canceled, "OnClosed")
			})
		})
	}
}

// Recv repeats its error, whatever waits.
func TestRecvTellsTheSameEndAfterClose(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, stays(numbered(1, 2, 3)...))
		cb := positions()
		cb.Resume = delivers(3)
		ctx, cancel := context.WithCancel(t.Context())
		s, err := w.dial(ctx, cb)
		require.NoError(t, err)
		mustReceive(t, s, 1)
		cancel()
		rest(time.Second)
		_, err = s.Recv()
		wantEnd(t, err, stream.ReasonContext, codes.Canceled, "the context")
		require.NoError(t, s.Close())
		_, err = s.Recv()
		wantEnd(t, err, stream.ReasonContext, codes.Canceled, "the same error")
	})
}
