package tap_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go/ratelimiter"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/tap"
)

// journal notes what an observer is told.
type journal struct {
	mu   sync.Mutex // guards the field below
	seen []string
	hold chan struct{} // a call waits for it, where it is not nil
}

func (j *journal) note(s string) {
	if j.hold != nil {
		<-j.hold
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.seen = append(j.seen, s)
}

func (j *journal) OnAdmitted(info tap.Info) { j.note("admitted " + info.Method) }

func (j *journal) OnRefused(info tap.Info, reason tap.Reason, err error) {
	j.note("refused " + info.Method + " " + reason.String() + " " + status.Code(err).String())
}

func (j *journal) OnEnded(info tap.Info, took time.Duration, err error) {
	j.note("ended " + info.Method + " " + took.String() + " " + status.Code(err).String())
}

func TestAnObserverIsToldInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var j journal
		a := accountant(t, tap.WithObserver(&j), tap.WithObserver(onlyRefused{}), tap.WithPolicies(ratelimiter.NewBursty[any](2, time.Hour)))
		answers := make(chan error, 2)
		answers <- nil
		answers <- status.Error(codes.NotFound, "")
		conn := serve(t, &service{unary: func(context.Context) error { time.Sleep(time.Second); return <-answers }}, a.ServerOptions()...)
		for range 3 {
			_ = call(t.Context(), conn)
		}
		synctest.Wait()
		require.Equal(t, []string{
			"admitted " + unaryCall, "ended " + unaryCall + " 1s OK",
			"admitted " + unaryCall, "ended " + unaryCall + " 1s NotFound",
			"refused " + unaryCall + " rate limiter ResourceExhausted",
		}, j.seen)
		require.Equal(t, 2*time.Second, a.Stats().Time)
	})
}

type onlyRefused struct{}

func (onlyRefused) OnRefused(tap.Info, tap.Reason, error) {}

// The tap runs under the lock of a connection: an observer that hangs must not stop it.
func TestAnObserverThatHangsDelaysNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		j := journal{hold: make(chan struct{})}
		var counters tap.Counters
		handle := tap.ServerInHandle(tap.WithObserver(&j), tap.WithCounters(&counters))
		for range 5000 {
			require.NoError(t, knock(handle, unaryCall))
		}
		close(j.hold)
		synctest.Wait()
		require.Equal(t, uint64(5000), counters.Stats().Admitted, "counters miss nothing")
		require.LessOrEqual(t, len(j.seen), 2*1024, "what waits is bounded")
		require.GreaterOrEqual(t, len(j.seen), 1024)
	})
}

func TestNilCountersCountNothing(t *testing.T) {
	t.Parallel()
	var c *tap.Counters
	require.Empty(t, c.Stats().Refused)
	for r := tap.ReasonRateLimiter; r <= tap.ReasonMisconfigured; r++ {
		require.NotEqual(t, "unknown", r.String())
	}
	require.Equal(t, "unknown", (tap.ReasonMisconfigured + 1).String())
}
