package stream_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/stream"
)

// moments collects when things happen.
type moments struct {
	mu  sync.Mutex // guards the field below
	all []time.Time
}

func (m *moments) add() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all = append(m.all, time.Now())
}

// most returns how many of them lie in the fullest span of this length, and how many there are.
func (m *moments) most(span time.Duration) (most, of int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	slices.SortFunc(m.all, time.Time.Compare)
	for i, begin := range m.all {
		n := 0
		for _, at := range m.all[i:] {
			if at.Sub(begin) < span {
				n++
			}
		}
		most = max(most, n)
	}
	return most, len(m.all)
}

// Invariants 41 to 43: streams are told and ended spread over the window, clients learn that it is a planned close, GracefulStop
// returns, and the drain takes its window.
func TestDrain(t *testing.T) {
	t.Parallel()
	const streams, window = 200, 2 * time.Second
	synctest.Test(t, func(t *testing.T) {
		var told, ended moments
		d := stream.NewDrainer(stream.DrainWindow(window))
		w, first := raw(t, func(s bidi) error {
			if err := s.Send(frame{}.response()); err != nil {
				return err
			}
			<-stream.Draining(s.Context())
			told.add()
			<-s.Context().Done()
			ended.add()
			if !errors.Is(context.Cause(s.Context()), stream.ErrDrained) {
				return errNever
			}
			return nil
		}, stream.WithDrainer(d))
		all := []testpb.TestService_FullDuplexCallClient{first}
		for range streams - 1 {
			s, err := testpb.NewTestServiceClient(w.conn).FullDuplexCall(t.Context())
			require.NoError(t, err)
			all = append(all, s)
		}
		for _, s := range all {
			_, err := s.Recv()
			require.NoError(t, err)
		}
		began := time.Now()
		require.NoError(t, within(t, async(func() error { return d.Drain(t.Context(), w.server) }), "Drain"))
		require.LessOrEqual(t, time.Since(began), window*11/10)
		for what, m := range map[string]*moments{"told": &told, "ended": &ended} {
			most, of := m.most(100 * time.Millisecond)
			require.Equal(t, streams, of, what)
			require.LessOrEqual(t, most, streams*15/100, "no 100 ms with more than 15 %% of what is %s", what)
		}
		for _, s := range all {
			end := endOf(t, s)
			require.Equal(t, codes.Unavailable, end.Code())
			require.NotEmpty(t, end.Details(), "RetryInfo")
			require.Equal(t, []string{"drained"}, s.Trailer().Get("streamsafe-end"))
		}
	})
}

// Invariant 44: every stream counts, and none keeps GracefulStop from returning.
func TestDrainEndsHealthWatches(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		checks := health.NewServer()
		d := stream.NewDrainer(stream.DrainFirst(checks.Shutdown))
		w := newWorld(t, &feed{handler: func(s bidi) error { <-s.Context().Done(); return nil }})
		server := grpc.NewServer(grpc.StreamInterceptor(stream.ServerInterceptor(stream.WithDrainer(d))))
		healthpb.RegisterHealthServer(server, checks)
		testpb.RegisterTestServiceServer(server, w.feed)
		w.server.Stop()
		w.server = server
		listener := w.Listener()
		go func() { _ = server.Serve(listener) }() // ends with the server, which the drain stops
		watch, err := healthpb.NewHealthClient(w.conn).Watch(t.Context(), &healthpb.HealthCheckRequest{Service: "nobody knows it"},
			grpc.WaitForReady(true))
		require.NoError(t, err)
		answer, err := watch.Recv()
		require.NoError(t, err)
		require.Equal(t, healthpb.HealthCheckResponse_SERVICE_UNKNOWN, answer.GetStatus())
		s, err := testpb.NewTestServiceClient(w.conn).FullDuplexCall(t.Context())
		require.NoError(t, err)
		require.NoError(t, s.Send(frame{}.request()))
		time.Sleep(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		require.NoError(t, d.Drain(ctx, server))
		require.Equal(t, codes.Unavailable, endOf(t, s).Code())
		check, err := checks.Check(t.Context(), &healthpb.HealthCheckRequest{})
		require.NoError(t, err)
		require.Equal(t, healthpb.HealthCheckResponse_NOT_SERVING, check.GetStatus())
	})
}

// Streams that are opened while a drain starts are refused or told, each of them.
func TestStreamsThatComeDuringADrain(t *testing.T) {
	t.Parallel()
	var ran, told atomic.Int64
	d := stream.NewDrainer(stream.DrainWindow(200 * time.Millisecond))
	h := hosts(t, func(s bidi) error {
		ran.Add(1)
		<-s.Context().Done()
		select {
		case <-stream.Draining(s.Context()):
			told.Add(1)
		default:
		}
		return nil
	}, stream.WithDrainer(d))
	stop, stopped := make(chan struct{}), make(chan map[codes.Code]int)
	go func() { // ends with stop
		ends := map[codes.Code]int{}
		var all []testpb.TestService_FullDuplexCallClient
		for {
			select {
			case <-stop:
				for _, s := range all {
					_, err := s.Recv()
					ends[status.Code(err)]++
				}
				stopped <- ends
				return
			default:
			}
			if s, err := h.client.FullDuplexCall(t.Context()); err == nil {
				all = append(all, s)
			}
			time.Sleep(100 * time.Microsecond)
		}
	}()
	require.Eventually(t, func() bool { return ran.Load() > 20 }, patience(), time.Millisecond)
	require.NoError(t, within(t, async(func() error { return d.Drain(t.Context()) }), "Drain, without a server: admission stays open at grpc"))
	close(stop)
	ends := within(t, stopped, "the ends of all streams")
	require.Equal(t, ran.Load(), told.Load())
	for code, n := range ends {
		require.Equal(t, codes.Unavailable, code, "%d streams", n)
	}
}

// Invariant 43: a drain waits for handlers that grpc does not see any more.
func TestDrainWaitsForAbandonedHandlers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := stream.NewDrainer(stream.DrainWindow(time.Second))
		w, s := raw(t, func(s bidi) error {
			<-s.Context().Done()
			time.Sleep(3 * time.Second)
			return nil
		}, stream.WithDrainer(d))
		require.NoError(t, s.Send(frame{}.request()))
		time.Sleep(time.Second)
		began := time.Now()
		require.NoError(t, d.Drain(t.Context(), w.server))
		require.GreaterOrEqual(t, time.Since(began), 3*time.Second)
	})
}

// A drain whose time is over says what is left, and ends everything at once.
func TestDrainWhoseTimeIsOver(t *testing.T) {
	t.Parallel()
	for name, hang := range map[string]time.Duration{"handlers hang": time.Hour, "the caller gives up": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d := stream.NewDrainer(stream.DrainWindow(10 * time.Second))
				w, s := raw(t, func(s bidi) error {
					<-s.Context().Done()
					time.Sleep(hang)
					return nil
				}, stream.WithDrainer(d))
				require.NoError(t, s.Send(frame{}.request()))
				time.Sleep(time.Second)
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				if hang == 0 {
					time.AfterFunc(time.Second, cancel)
				}
				began := time.Now()
				err := d.Drain(ctx, w.server)
				require.ErrorContains(t, err, "1 handlers of streams have not returned")
				require.ErrorIs(t, err, ctx.Err())
				require.LessOrEqual(t, time.Since(began), 5*time.Second)
				require.Equal(t, codes.Unavailable, endOf(t, s).Code())
				require.NoError(t, d.Drain(t.Context(), w.server), "another call waits for what is left")
			})
		})
	}
}

func TestTwoDrainsAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		d := stream.NewDrainer(stream.DrainWindow(2*time.Second), stream.DrainGrace(0), stream.DrainRetryAfter(time.Second), nil,
			stream.DrainFirst(func() { calls++ }))
		w, s := raw(t, func(s bidi) error { <-s.Context().Done(); return nil }, stream.WithDrainer(d))
		require.NoError(t, s.Send(frame{}.request()))
		time.Sleep(time.Second)
		first := async(func() error { return d.Drain(t.Context(), w.server) })
		second := async(func() error { return d.Drain(t.Context(), w.server) })
		require.NoError(t, within(t, first, "the first"))
		require.NoError(t, within(t, second, "the second"))
		require.Equal(t, 1, calls)
		require.Equal(t, codes.Unavailable, endOf(t, s).Code())
	})
}

func TestDrainOfNothing(t *testing.T) {
	t.Parallel()
	require.NoError(t, stream.NewDrainer().Drain(t.Context()))
	require.Nil(t, stream.Draining(t.Context()))
}
