package stream_test

import (
	"errors"
	"io"
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
	"github.com/stretchr/testify/require"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/streamsafe/streamsafe/internal/verify"
	"github.com/streamsafe/streamsafe/stream"
)

// echo answers each message with a message of the same number, which acknowledges it.
func echo(s bidi) error {
	for {
		m, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.Send(frame{kind: data, seq: frameOf(m).seq}.response()); err != nil {
			return err
		}
	}
}

// A message there and back allocates nothing beyond what it does on a bare stream of the same server; with WithReplay
// one object more, the kept bytes.
func TestAllocations(t *testing.T) { //nolint:paralleltest // it counts the allocations of the whole process
	if verify.Enabled {
		t.Skip("the race detector changes what is allocated")
	}
	w := newWorld(t, &feed{handler: echo})
	bare, err := testpb.NewTestServiceClient(w.conn).FullDuplexCall(t.Context())
	require.NoError(t, err)
	base := roundTripAllocations(t, bare)

	cb := positions()
	acks := cb
	acks.Acked = func(m *response) (uint64, bool) { return frameOf(m).seq, true }
	limits := []stream.ClientOption{
		stream.WithAtMostOnceSends(), stream.WithIdleTimeout(time.Minute), stream.WithSendTimeout(time.Minute),
	}
	policies := func() []failsafe.Policy[any] {
		return []failsafe.Policy[any]{
			stream.NewCircuitBreakerBuilder().Build(),
			ratelimiter.NewSmoothBuilderWithMaxRate[any](time.Nanosecond).WithMaxWaitTime(time.Minute).Build(),
		}
	}
	for _, c := range []struct {
		name      string
		callbacks callbacks
		opts      []stream.ClientOption
		added     float64
	}{
		{"with positions", cb, []stream.ClientOption{stream.WithAtMostOnceSends()}, 0},
		{"with time limits", cb, limits, 0},
		{"with policies", cb, []stream.ClientOption{
			stream.WithAtMostOnceSends(), stream.WithRecvPolicies(policies()...), stream.WithSendPolicies(policies()...),
		}, 0},
		{"with replay", acks, []stream.ClientOption{withReplay()}, 1},
	} {
		s := w.mustDial(c.callbacks, c.opts...)
		require.LessOrEqual(t, roundTripAllocations(t, s)-base, c.added, c.name)
	}
}

// roundTripAllocations returns how many objects a Send and a Recv allocate, both ends and the network together.
func roundTripAllocations(t *testing.T, s testpb.TestService_FullDuplexCallClient) float64 {
	t.Helper()
	m := frame{kind: data}.request()
	var seq uint64
	least := 1e9
	for range 5 { // what else runs only adds
		least = min(least, testing.AllocsPerRun(500, func() {
			seq++
			m.Payload.Body = frame{kind: data, seq: seq}.payload().Body
			if err := s.Send(m); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Recv(); err != nil {
				t.Fatal(err)
			}
		}))
	}
	return least
}
