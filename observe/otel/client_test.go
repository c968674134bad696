package otel_test

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"

	streamotel "github.com/streamsafe/streamsafe/observe/otel"
	"github.com/streamsafe/streamsafe/stream"
)

func drain(t *testing.T, s *stream.ClientStream[request, response]) (n int) {
	t.Helper()
	for {
		if _, err := s.Recv(); err != nil {
			require.ErrorIs(t, err, io.EOF)
			return n
		}
		n++
	}
}

func TestAStreamThatBreaksAndEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := start(t, []func(bidi) error{sends(3, errGone), sends(2, nil)})
		s := w.dial(t.Context())
		require.Equal(t, 5, drain(t, s))
		synctest.Wait() // until the observer knows
		method := attrs("grpc.method", fullDuplex)
		require.Equal(t, map[attribute.Set]float64{
			attrs("grpc.method", fullDuplex, "grpc.status", "UNAVAILABLE"): 1,
		}, w.collect("streamsafe.client.attempt.lost"))
		require.Equal(t, map[attribute.Set]float64{
			attrs("grpc.method", fullDuplex, "grpc.status", "OK", "streamsafe.reason", "ok"): 1,
		}, w.collect("streamsafe.client.stream.duration"))
		require.Equal(t, map[attribute.Set]float64{
			attribute.NewSet(attribute.String("grpc.method", fullDuplex), attribute.Bool("streamsafe.recovered", true)): 1,
		}, w.collect("streamsafe.client.outage.duration"))
		require.Equal(t, map[attribute.Set]float64{method: 2}, w.collect("streamsafe.client.attempts"))
		require.Equal(t, map[attribute.Set]float64{method: 1}, w.collect("streamsafe.client.resumes"))
		require.InDelta(t, 5, w.collect("streamsafe.client.messages")[attrs("grpc.method", fullDuplex, "streamsafe.messages", "received")], 0)
		for set, n := range w.collect("streamsafe.client.streams") {
			require.Zero(t, n, set)
		}
		require.Empty(t, w.collect("grpc.client.attempt.started"), "grpc's stats/opentelemetry makes it")
		require.Empty(t, w.collect("grpc.client.call.duration"), "a stream's lifetime is no latency of calls")
	})
}

// A server that refuses each attempt keeps the stream away, though gRPC opens the attempts: that is one outage.
func TestAnAttemptThatIsRefusedEndsNoOutage(t *testing.T) {
	t.Parallel()
	recovered := func(yes bool) attribute.Set {
		return attribute.NewSet(attribute.String("grpc.method", fullDuplex), attribute.Bool("streamsafe.recovered", yes))
	}
	refused := sends(0, errGone)
	for name, c := range map[string]struct {
		handlers []func(bidi) error
		want     map[attribute.Set]float64
	}{
		"an attempt brings something": {
			[]func(bidi) error{sends(3, errGone), refused, refused, refused, sends(2, nil)}, map[attribute.Set]float64{recovered(true): 1},
		},
		"an attempt lasts": {
			[]func(bidi) error{sends(3, errGone), refused, refused, refused, lasts(time.Minute)}, map[attribute.Set]float64{recovered(true): 1},
		},
		"the stream ends": {
			[]func(bidi) error{sends(3, errGone), refused, refused, refused, sends(0, errFinal)}, map[attribute.Set]float64{recovered(false): 1},
		},
		"no attempt has worked": {[]func(bidi) error{refused, refused, sends(0, errFinal)}, map[attribute.Set]float64{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := start(t, c.handlers)
				s := w.dial(t.Context())
				for err := error(nil); err == nil; {
					_, err = s.Recv()
				}
				synctest.Wait() // until the observer knows
				require.Equal(t, c.want, w.collect("streamsafe.client.outage.duration"))
				require.InDelta(t, float64(len(c.handlers)), w.collect("streamsafe.client.attempts")[attrs("grpc.method", fullDuplex)], 0)
			})
		})
	}
}

// The time of an outage ends when the attempt that works was attached, whenever that is known.
func TestAnOutageLastsUntilTheAttemptThatWorks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := start(t, []func(bidi) error{sends(1, errGone), stays(0)})
		s := w.dial(t.Context(), stream.WithStreamPolicies(stream.NewRetryPolicyBuilder().WithDelay(3*time.Second).WithJitter(0).Build()))
		t.Cleanup(func() { _ = s.Close() })
		ended := make(chan error, 1)
		go func() {
			_, err := s.Recv()
			for err == nil {
				_, err = s.Recv()
			}
			ended <- err
		}()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		require.Empty(t, w.collect("streamsafe.client.outage.duration"), "it may still be refused")
		time.Sleep(10 * time.Second)
		require.Len(t, w.collect("streamsafe.client.outage.duration"), 1)
		require.InDelta(t, 3, w.seconds("streamsafe.client.outage.duration"), 0.5)
		require.NoError(t, s.Close())
		require.Error(t, <-ended)
	})
}

// The number of streams comes back to 0, however they end and whoever looks (invariant 52).
func TestStreamsGoDownOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := start(t, []func(bidi) error{stays(1)})
		state := func(state string) float64 {
			return w.collect("streamsafe.client.streams")[attrs("grpc.method", fullDuplex, "streamsafe.state", state)]
		}
		s := w.dial(t.Context())
		_, err := s.Recv()
		require.NoError(t, err)
		synctest.Wait()
		require.InDelta(t, 1, state("attached"), 0)
		require.InDelta(t, 1, w.collect("streamsafe.server.streams")[attrs("grpc.method", fullDuplex)], 0)
		before := w.collect("streamsafe.client.messages")
		var ends sync.WaitGroup
		for range 4 {
			ends.Go(func() { _ = s.Close() })
		}
		ends.Wait()
		synctest.Wait()
		require.Zero(t, state("attached"))
		require.Zero(t, w.collect("streamsafe.server.streams")[attrs("grpc.method", fullDuplex)])
		require.Equal(t, before, w.collect("streamsafe.client.messages"), "a counter does not go down with its stream")
		for set := range w.collect("streamsafe.server.stream.duration") {
			end, _ := set.Value("streamsafe.end")
			require.Equal(t, "returned", end.AsString())
		}
		require.InDelta(t, 1, w.collect("streamsafe.server.messages")[attrs("grpc.method", fullDuplex, "streamsafe.messages", "sent")], 0)
	})
}

// A program may give each stream a name of its own, and a peer any method (invariant 52).
func TestNamesAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := start(t, []func(bidi) error{sends(0, nil)}, streamotel.WithStreamNames())
		for i := range 1100 {
			drain(t, w.dial(t.Context(), stream.WithName(time.Duration(i).String())))
		}
		synctest.Wait()
		durations := w.collect("streamsafe.client.stream.duration")
		require.Len(t, durations, 1001)
		require.InDelta(t, 100, durations[attrs("grpc.method", fullDuplex, "grpc.status", "OK", "streamsafe.reason", "ok", "streamsafe.stream", "other")], 0)
	})
}

func TestTheInstrumentsOfGRPCAreAnOption(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := start(t, []func(bidi) error{sends(1, errGone), sends(1, nil)}, streamotel.WithGRPCMetrics(), streamotel.WithTarget("dns:///prices"))
		drain(t, w.dial(t.Context()))
		synctest.Wait()
		started := attrs("grpc.method", fullDuplex, "grpc.target", "dns:///prices")
		require.Equal(t, map[attribute.Set]float64{started: 2}, w.collect("grpc.client.attempt.started"))
		require.Equal(t, map[attribute.Set]float64{
			attrs("grpc.method", fullDuplex, "grpc.target", "dns:///prices", "grpc.status", "UNAVAILABLE"): 1,
			attrs("grpc.method", fullDuplex, "grpc.target", "dns:///prices", "grpc.status", "OK"):          1,
		}, w.collect("grpc.client.attempt.duration"))
		require.Equal(t, map[attribute.Set]float64{attrs("grpc.method", fullDuplex): 2}, w.collect("grpc.server.call.started"))
	})
}

// Who collects before the method is known does not decide what a stream is counted under.
func TestTheMethodIsLookedForUntilItIsKnown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := start(t, []func(bidi) error{sends(1, nil)})
		drain(t, w.dial(t.Context(), stream.WithObserver(taker{func(context.Context, *stream.Observed) {
			require.Empty(t, w.collect("streamsafe.client.attempts")[attrs("grpc.method", fullDuplex)]) //nolint:contextcheck // it is the one of the test
		}})))
		synctest.Wait()
		require.Equal(t, map[attribute.Set]float64{attrs("grpc.method", fullDuplex): 1}, w.collect("streamsafe.client.attempts"))
	})
}

func TestAfterCloseNothingIsCollected(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := start(t, []func(bidi) error{sends(1, nil)})
		drain(t, w.dial(t.Context()))
		synctest.Wait()
		require.NotEmpty(t, w.collect("streamsafe.client.attempts"))
		require.NoError(t, w.observer.Close())
		require.Empty(t, w.collect("streamsafe.client.attempts"))
	})
}

func TestARefusalIsNotCountedByMethod(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := start(t, []func(bidi) error{sends(1, nil)})
		w.observer.OnServerRefused(stream.ServerInfo{Method: "/any/thing"}, errors.New("no"))
		require.Equal(t, map[attribute.Set]float64{attrs("grpc.status", "UNKNOWN"): 1}, w.collect("streamsafe.server.refused"))
	})
}
