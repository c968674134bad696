package stream

import (
	"context"
	"math"
	"runtime"
	"sort"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"pgregory.net/rapid"

	"github.com/streamsafe/streamsafe/internal/inbox"
)

// A call can have begun anywhere in its tick.
func TestALimitInTicks(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		anyLimit := rapid.Int64Range(1, int64(time.Hour))
		limit, other := time.Duration(anyLimit.Draw(t, "limit")), time.Duration(anyLimit.Draw(t, "other"))
		tick := tickOf(limit, other)
		n, found := sort.Find(int(limit/tick)+3, func(n int) int {
			if passed(uint64(n), tick, limit) { //nolint:gosec // not negative
				return 0
			}
			return 1
		})
		require.True(t, found)
		shortest, longest := time.Duration(n-1)*tick, time.Duration(n)*tick
		require.GreaterOrEqual(t, shortest, limit, "not cut short")
		require.LessOrEqual(t, longest, limit+2*tick)
		require.LessOrEqual(t, tick, max(min(limit, other)/ticksOfLimit+1, time.Millisecond))
	})
	require.False(t, passed(1000, time.Second, 0), "no limit")
	require.False(t, passed(1000, time.Second, -1), "no limit")
	require.Zero(t, tickOf(0, -1), "no limit, no tick")
	require.Greater(t, tickOf(math.MaxInt64), time.Hour, "for ever")
	require.False(t, passed(ticksOfLimit, tickOf(math.MaxInt64), math.MaxInt64))
}

// A limit on the first message alone leaves nothing to watch for once that has come.
func TestTheFirstMessageEndsItsWatch(t *testing.T) {
	t.Parallel()
	in := inbox.New[int, int](inbox.Config{})
	in.Attach(1)
	limit := limits{firstMessage: time.Second}
	next, _ := limit.tickRecv(in, time.Second)
	require.Equal(t, time.Second, next)
	require.True(t, in.Claim(1, true))
	in.Arrived(1, &inbox.Arrival[int]{Message: new(int)}, true)
	next, _ = limit.tickRecv(in, time.Second)
	require.Zero(t, next)
}

// A short limit on the first message is not the pace at which a long idle limit is watched.
func TestTheFirstMessageSlowsTheWatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := limits{idle: time.Hour, firstMessage: 80 * time.Millisecond}
		in := inbox.New[int, int](inbox.Config{})
		in.Attach(1)
		require.True(t, in.Claim(1, true))
		in.Arrived(1, &inbox.Arrival[int]{Message: new(int)}, true)
		require.True(t, in.Claim(1, true), "the first message has come, and the next one is waited for")
		fired := make(chan int, 1)
		ticks := 0
		began := time.Now()
		stop := every(tickOf(l.idle, l.firstMessage), func(tick time.Duration) time.Duration {
			ticks++
			next, now := l.tickRecv(in, tick)
			if passed(now.ticks, tick, now.limit) {
				fired <- ticks
				return 0
			}
			return next
		})
		defer stop()
		require.LessOrEqual(t, <-fired, ticksOfLimit+2)
		tooLate := time.Since(began) - l.idle
		require.Positive(t, tooLate)
		require.LessOrEqual(t, tooLate, l.idle/ticksOfLimit+l.firstMessage)
	})
}

// deaf is an attempt that takes everything and brings nothing until it is broken.
type deaf struct {
	grpc.ClientStream
	ctx    context.Context
	broken chan struct{}
}

func (d deaf) Send(*testpb.SimpleRequest) error { return nil }

func (d deaf) Recv() (*testpb.SimpleResponse, error) {
	select {
	case <-d.broken:
		return nil, status.Error(codes.Unavailable, "broken")
	case <-d.ctx.Done():
		return nil, status.FromContextError(d.ctx.Err()).Err()
	}
}

func (d deaf) Trailer() metadata.MD { return nil }

func (d deaf) Context() context.Context { return d.ctx }

// The timers of an attempt end with the stream, also where a callback has ended the lifecycle goroutine.
func TestTheWatchEndsWithTheStream(t *testing.T) {
	t.Parallel()
	for name, exits := range map[string]bool{"Close": false, "Goexit in Replay": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				broken := make(chan struct{})
				open := func(ctx context.Context, _ ...grpc.CallOption) (deaf, error) {
					d := deaf{ctx: ctx, broken: broken}
					broken = nil // the attempts after it last
					return d, nil
				}
				breaks := broken
				s, err := Resilient(t.Context(), open, Callbacks[testpb.SimpleRequest, testpb.SimpleResponse]{
					Acked: func(*testpb.SimpleResponse) (uint64, bool) { return 0, false },
					Replay: func(m *testpb.SimpleRequest, _ uint64) *testpb.SimpleRequest {
						if exits {
							runtime.Goexit()
						}
						return m
					},
				}, WithReplay(ReplayLimits{}), WithSendTimeout(time.Second), WithIdleTimeout(24*time.Hour))
				require.NoError(t, err)
				require.NoError(t, s.Send(&testpb.SimpleRequest{}))
				ended := make(chan error, 1)
				go func() { // ends with the stream
					_, err := s.Recv()
					ended <- err
				}()
				synctest.Wait()
				close(breaks)
				time.Sleep(time.Minute)
				if !exits {
					require.NoError(t, s.Close())
				}
				require.Error(t, <-ended)
				require.Equal(t, uint64(2), s.Stats().Attempts)
				ticks := func() [2]uint64 { return [2]uint64{s.inbox.Stats().Ticks, s.outbox.Stats().Ticks} }
				before := ticks()
				time.Sleep(10 * 24 * time.Hour)
				require.Equal(t, before, ticks(), "ticks counted by now")
			})
		})
	}
}
