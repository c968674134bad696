package stream_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/streamsafe/streamsafe/stream"
)

// registry is an observer of servers.
type registry struct {
	mu        sync.Mutex // guards the fields below
	opened    int
	refused   []error
	ended     []stream.ServerSummary
	abandoned []error
	methods   map[string]bool
	changed   chan struct{}
}

func newRegistry() *registry {
	return &registry{methods: map[string]bool{}, changed: make(chan struct{}, 1000)}
}

func (l *registry) note(info stream.ServerInfo, f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.methods[info.Method] = true
	f()
	l.changed <- struct{}{}
}

func (l *registry) OnServerOpened(info stream.ServerInfo) { l.note(info, func() { l.opened++ }) }

func (l *registry) OnServerRefused(info stream.ServerInfo, cause error) {
	l.note(info, func() { l.refused = append(l.refused, cause) })
}

func (l *registry) OnServerEnded(info stream.ServerInfo, summary stream.ServerSummary) {
	l.note(info, func() { l.ended = append(l.ended, summary) })
}

func (l *registry) OnServerAbandoned(info stream.ServerInfo, late time.Duration, panicked *stream.PanicError) {
	l.note(info, func() { l.abandoned = append(l.abandoned, fmt.Errorf("%v, panicked: %v", late > 0, panicked != nil)) })
}

var (
	_ stream.ServerOpenedObserver    = (*registry)(nil)
	_ stream.ServerRefusedObserver   = (*registry)(nil)
	_ stream.ServerEndedObserver     = (*registry)(nil)
	_ stream.ServerAbandonedObserver = (*registry)(nil)
)

const fullDuplex = "/grpc.testing.TestService/FullDuplexCall"

// Each stream that is let in is told of once, and once more when it ends, in whatever way; and so are the counters.
func TestServerObserversAndCounters(t *testing.T) {
	t.Parallel()
	for kind, opts := range map[string][]stream.ServerOption{"apart": early(), "in place": nil} {
		for name, c := range map[string]struct {
			handler func(bidi) error
			end     stream.End
		}{
			"returns": {func(s bidi) error { return s.Send(frame{}.response()) }, stream.EndReturned},
			"fails":   {func(bidi) error { return errNever }, stream.EndReturned},
			"panics":  {handlerThatPanics, stream.EndPanicked},
			"exits":   {func(bidi) error { runtime.Goexit(); return nil }, stream.EndExited},
		} {
			t.Run(kind+", "+name, func(t *testing.T) {
				t.Parallel()
				l, counters := newRegistry(), new(stream.ServerCounters)
				h := hosts(t, c.handler, append(opts, stream.WithObserver(l), stream.WithServerCounters(counters))...)
				endOf(t, h.call(t.Context()))
				within(t, l.changed, "opened")
				within(t, l.changed, "ended")
				l.mu.Lock()
				defer l.mu.Unlock()
				require.Equal(t, 1, l.opened)
				require.Len(t, l.ended, 1)
				require.Equal(t, c.end, l.ended[0].End)
				require.Equal(t, name != "returns", l.ended[0].Err != nil)
				require.Equal(t, map[string]bool{fullDuplex: true}, l.methods)
				stats := counters.Stats()
				require.Equal(t, uint64(1), stats.Opened)
				require.Equal(t, map[stream.End]uint64{c.end: 1}, stats.Ended)
				require.Empty(t, stats.Active)
				require.Zero(t, stats.Abandoned)
				if name == "returns" {
					require.Equal(t, uint64(1), stats.Sent)
					require.Equal(t, uint64(1), l.ended[0].Sent)
				}
			})
		}
	}
}

// A stream that was ended early is told of when the client is told, and its handler when it returns.
func TestAnAbandonedHandlerIsTold(t *testing.T) {
	t.Parallel()
	l, counters, release := newRegistry(), new(stream.ServerCounters), make(chan struct{})
	h := hosts(t, func(s bidi) error {
		if _, err := s.Recv(); err != nil {
			return err
		}
		<-release
		panic("late") //nolint:forbidigo // that is the test
	}, stream.WithObserver(l), stream.WithServerCounters(counters),
		stream.WithAuthorizationUntil(func(context.Context) (time.Time, bool) { return time.Now().Add(200 * time.Millisecond), true }))
	s := h.call(t.Context())
	require.NoError(t, s.Send(frame{}.request()))
	within(t, l.changed, "opened")
	require.Equal(t, map[string]int{fullDuplex: 1}, counters.Stats().Active)
	require.Equal(t, codes.Unauthenticated, endOf(t, s).Code())
	within(t, l.changed, "ended")
	stats := counters.Stats()
	require.Empty(t, stats.Active)
	require.Equal(t, 1, stats.Abandoned)
	require.Equal(t, uint64(1), stats.Received)
	require.Equal(t, map[stream.End]uint64{stream.EndUnauthorized: 1}, stats.Ended)
	close(release)
	within(t, l.changed, "abandoned")
	require.Eventually(t, func() bool { return counters.Stats().Abandoned == 0 }, patience(), time.Millisecond)
	l.mu.Lock()
	defer l.mu.Unlock()
	require.EqualError(t, l.abandoned[0], "true, panicked: true")
	requireEnded(t, l.ended[0].Err, stream.EndUnauthorized)
	require.Equal(t, uint64(1), l.ended[0].Received)
}

func TestRefusalsAreTold(t *testing.T) {
	t.Parallel()
	full := bulkhead.New[any](1)
	require.True(t, full.TryAcquirePermit())
	l, counters := newRegistry(), new(stream.ServerCounters)
	h := hosts(t, func(bidi) error { return nil }, stream.WithObserver(l), stream.WithServerCounters(counters), stream.WithServerPolicies(full))
	require.Equal(t, codes.ResourceExhausted, endOf(t, h.call(t.Context())).Code())
	s, err := h.client.FullDuplexCall(outgoing(t.Context(), "0f", 1))
	require.NoError(t, err)
	require.Equal(t, codes.InvalidArgument, endOf(t, s).Code())
	l.mu.Lock()
	defer l.mu.Unlock()
	require.Len(t, l.refused, 2)
	require.ErrorIs(t, l.refused[0], bulkhead.ErrFull)
	require.Zero(t, l.opened)
	require.Empty(t, l.ended, "what was not let in has not ended")
	require.Equal(t, uint64(2), counters.Stats().Refused)
}

// panickyObserver panics in each of its methods.
type panickyObserver struct{}

func (panickyObserver) OnServerOpened(stream.ServerInfo)         { panic("an observer") } //nolint:forbidigo // that is the test
func (panickyObserver) OnServerRefused(stream.ServerInfo, error) { panic("an observer") } //nolint:forbidigo // that is the test
func (panickyObserver) OnServerEnded(stream.ServerInfo, stream.ServerSummary) {
	panic("an observer") //nolint:forbidigo // that is the test
}

func TestAnObserverThatPanics(t *testing.T) {
	t.Parallel()
	for kind, opts := range map[string][]stream.ServerOption{"apart": early(), "in place": nil} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			room := bulkhead.New[any](1)
			h := hosts(t, func(bidi) error { return nil },
				append(opts, stream.WithObserver(panickyObserver{}), stream.WithServerPolicies(room))...)
			require.Equal(t, "EOF", endOf(t, h.call(t.Context())).Message())
			require.Eventually(t, room.TryAcquirePermit, patience(), time.Millisecond)
			require.Equal(t, codes.ResourceExhausted, endOf(t, h.call(t.Context())).Code())
		})
	}
}
