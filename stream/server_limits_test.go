package stream_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/stream"
)

// raw opens a bare stream in a world whose server runs handler under an interceptor.
func raw(t *testing.T, handler func(bidi) error, opts ...stream.ServerOption) (*world, testpb.TestService_FullDuplexCallClient) {
	t.Helper()
	w := newWorld(t, &feed{handler: handler, options: []grpc.ServerOption{grpc.StreamInterceptor(stream.ServerInterceptor(opts...))}})
	s, err := testpb.NewTestServiceClient(w.conn).FullDuplexCall(t.Context())
	require.NoError(t, err)
	return w, s
}

// A client that sends now and then is not idle; one that stops is, and no handler that does not wait is cut.
func TestServerIdleTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var last time.Time
		_, s := raw(t, func(s bidi) error {
			for {
				if _, err := s.Recv(); err != nil {
					requireLimit(t, 8*time.Second, time.Since(last))
					requireEnded(t, err, stream.EndIdle)
					requireEnded(t, context.Cause(s.Context()), stream.EndIdle)
					return err
				}
				last = time.Now()
			}
		}, stream.WithIdleTimeout(8*time.Second))
		for range 10 {
			time.Sleep(7 * time.Second)
			require.NoError(t, s.Send(frame{kind: data}.request()))
		}
		end := endOf(t, s)
		require.Equal(t, codes.Unavailable, end.Code())
		require.Contains(t, end.Message(), "WithIdleTimeout")
		require.NotEmpty(t, end.Details(), "RetryInfo")
	})
}

func TestAHandlerThatDoesNotWaitIsNotIdle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, s := raw(t, func(s bidi) error {
			if _, err := s.Recv(); err != nil {
				return err
			}
			time.Sleep(time.Minute)
			return s.Send(frame{kind: data, seq: 1}.response())
		}, stream.WithIdleTimeout(time.Second), stream.WithSendTimeout(time.Second))
		require.NoError(t, s.Send(frame{kind: data}.request()))
		m, err := s.Recv()
		require.NoError(t, err)
		require.Equal(t, uint64(1), frameOf(m).seq)
		require.Equal(t, "EOF", endOf(t, s).Message())
	})
}

// Invariant 51: a slow consumer is told. The others do not notice.
func TestASlowConsumerIsEndedAndTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		ended := map[error]int{}
		w, slow := raw(t, func(s bidi) error {
			for {
				if err := s.Send(frame{kind: data, size: 8 << 10}.response()); err != nil {
					mu.Lock()
					ended[err]++
					mu.Unlock()
					return err
				}
				select {
				case <-time.After(100 * time.Millisecond): //nolint:forbidigo // in a bubble
				case <-s.Context().Done():
				}
			}
		}, stream.WithSendTimeout(4*time.Second))
		var quick []testpb.TestService_FullDuplexCallClient
		for range 10 {
			s, err := testpb.NewTestServiceClient(w.conn).FullDuplexCall(t.Context())
			require.NoError(t, err)
			quick = append(quick, s)
		}
		began := time.Now()
		for time.Since(began) < 30*time.Second {
			for _, s := range quick {
				_, err := s.Recv()
				require.NoError(t, err, "the others do not notice")
			}
		}
		mu.Lock()
		require.Len(t, ended, 1)
		for err := range ended {
			requireEnded(t, err, stream.EndSlow)
		}
		mu.Unlock()
		end := endOf(t, slow)
		require.Equal(t, codes.ResourceExhausted, end.Code())
		require.Contains(t, end.Message(), "WithSendTimeout")
		require.True(t, stream.Resumable(end.Err()), "the server said when to come again")
	})
}

// A limit on a stream that was wrapped by hand cancels its context.
func TestWrapServerStream(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &feed{handler: func(ss bidi) error {
			s := stream.WrapServerStream(ss, stream.WithSendTimeout(time.Second))
			if err := s.RecvMsg(new(request)); err != nil {
				return err
			}
			go func() { // ends with the stream
				for s.SendMsg(frame{size: 64 << 10}.response()) == nil {
				}
			}()
			<-s.Context().Done()
			err := context.Cause(s.Context())
			requireEnded(t, err, stream.EndSlow)
			requireEnded(t, s.RecvMsg(new(request)), stream.EndSlow)
			return err
		}})
		s, err := testpb.NewTestServiceClient(w.conn).FullDuplexCall(t.Context())
		require.NoError(t, err)
		require.NoError(t, s.Send(frame{}.request()))
		time.Sleep(2 * time.Second)
		require.Equal(t, codes.ResourceExhausted, endOf(t, s).Code())
	})
}

func TestServerMaxAge(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, s := raw(t, func(s bidi) error { <-s.Context().Done(); return nil }, stream.WithMaxAge(10*time.Second, 5*time.Second))
		began := time.Now()
		end := endOf(t, s)
		require.Equal(t, codes.Unavailable, end.Code())
		require.Contains(t, end.Message(), "WithMaxAge")
		require.Equal(t, []string{"aged"}, s.Trailer().Get("streamsafe-end"))
		require.GreaterOrEqual(t, time.Since(began), 5*time.Second)
		require.LessOrEqual(t, time.Since(began), 10*time.Second)
	})
}

// A stream that ends at any moment of a Send loop ends well, over the server of net/http too.
func TestMaxAgeInTheMiddleOfSends(t *testing.T) {
	t.Parallel()
	for transport, start := range transports {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			h := start(t, func(s bidi) error {
				for {
					if err := s.Send(frame{kind: data, size: 100}.response()); err != nil {
						return err
					}
				}
			}, stream.WithAuthorizationUntil(func(context.Context) (time.Time, bool) {
				return time.Now().Add(5 * time.Millisecond), true
			}))
			var rounds sync.WaitGroup
			for range 10 {
				rounds.Go(func() { // ends after its rounds
					for range 100 {
						s, err := h.client.FullDuplexCall(t.Context())
						if assert.NoError(t, err) {
							assert.Equal(t, codes.Unauthenticated, endOf(t, s).Code())
						}
					}
				})
			}
			rounds.Wait()
		})
	}
}

func TestAClientThatLeaves(t *testing.T) {
	t.Parallel()
	causes := make(chan error, 1)
	h := hosts(t, func(s bidi) error {
		_, err := s.Recv()
		causes <- context.Cause(s.Context())
		return err
	}, early()...)
	ctx, cancel := context.WithCancel(t.Context())
	s := h.call(ctx)
	cancel()
	require.Equal(t, codes.Canceled, endOf(t, s).Code())
	require.Equal(t, context.Canceled, within(t, causes, "the cause"), "invariant 30: it is the client's cancel")
	require.Equal(t, codes.Canceled, status.Code(status.FromContextError(context.Canceled).Err()))
}
