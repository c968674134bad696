package stream_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/internal/testnet"
	"github.com/streamsafe/streamsafe/stream"
)

// A stream that meets a black hole on a connection that was in use: each limit that can pass there finds it, and all streams on the
// connection come back (invariant 36).
func TestABlackHoleIsClosedByTheLimitsOfAnotherStream(t *testing.T) {
	t.Parallel()
	const limit = time.Second
	asks := greeting()
	asks.Resume = func(ctx context.Context, r *resumption) error {
		if err := greets(ctx, r); err != nil {
			return err
		}
		_, err := r.Recv() // the message is the callback's
		return err
	}
	receives := func(s *client) { _, _ = s.Recv() }
	floods := func(s *client) {
		for n := uint64(1); n <= 300; n++ { // more than the transport takes
			_ = s.Send(frame{kind: data, seq: n, size: 1000}.request())
		}
	}
	sendsAndReceives := func(s *client) {
		go floods(s) // ends with the stream
		receives(s)
	}
	for name, test := range map[string]struct {
		cb    callbacks
		limit stream.ClientOption
		then  func(*client) // until it has the first message
	}{
		"open":          {asks, stream.WithOpenTimeout(limit), func(*client) {}},
		"first message": {greeting(), stream.WithFirstMessageTimeout(limit), receives},
		"send":          {greeting(), stream.WithSendTimeout(limit), sendsAndReceives},
	} {
		for at := time.Duration(0); at < limit; at += 97 * time.Millisecond { // the limit's ticks begin at any time
			t.Run(fmt.Sprintf("%s, %v", name, at), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := dialled(t, &feed{handler: one})
					others := make(chan time.Time, 20)
					for range cap(others) {
						other := w.mustDial(greeting())
						mustReceive(t, other, 1)
						go func() { // ends with the second message
							_, _ = other.Recv()
							others <- time.Now()
						}()
					}
					synctest.Wait()
					w.Cut(testnet.BlackHole)
					time.Sleep(at)
					began := time.Now()
					var d diary
					s := w.mustDial(test.cb, test.limit, stream.WithAtMostOnceSends(), stream.WithObserver(&d))
					test.then(s)
					require.GreaterOrEqual(t, time.Since(began), limit, "the limit is not cut short")
					require.LessOrEqual(t, time.Since(began), limit+limit/8+400*time.Millisecond)
					for range cap(others) {
						require.LessOrEqual(t, (<-others).Sub(began), limit+limit/8+400*time.Millisecond, "a stream without a limit")
					}
					require.Equal(t, 2, w.Stats().Connections, "one connection was closed, and one made")
					synctest.Wait()
					lost := d.of("detached")
					require.Len(t, lost, 1)
					require.ErrorContains(t, lost[0].cause, "the connection is dead")
				})
			})
		}
	}
}
