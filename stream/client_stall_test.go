package stream_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/internal/testnet"
	"github.com/streamsafe/streamsafe/stream"
)

// stalling is a feed whose half-duplex call is that of a stream that stalls.
type stalling struct {
	*feed
	stalls func(bidi) error
}

func (s *stalling) HalfDuplexCall(b bidi) error { return s.stalls(b) }

// stall is a way in which a stream stalls.
type stall struct {
	serve     func(bidi) error // the server's half
	opts      []stream.ClientOption
	callbacks func(release <-chan struct{}) callbacks // nil: positions
	use       func(s *client) error                   // what the application does until it is stuck; nil: it does not receive
	hangs     int                                     // the open of this attempt hangs; zero: none does
}

// pours sends until it is held up.
func pours(s bidi) error {
	for seq := uint64(1); ; seq++ {
		if err := s.Send(frame{kind: data, seq: seq, size: 30_000}.response()); err != nil {
			return err
		}
	}
}

// trickles sends from time to time.
func trickles(s bidi) error {
	for seq := uint64(1); ; seq++ {
		if err := s.Send(frame{kind: data, seq: seq}.response()); err != nil {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// floodsServer sends until it is held up.
func floodsServer(s *client) error {
	for {
		if err := s.Send(frame{kind: data, size: 30_000}.request()); err != nil {
			return err
		}
	}
}

func stallsOf() map[string]stall {
	waiting := func(change func(cb *callbacks, release <-chan struct{})) func(<-chan struct{}) callbacks {
		return func(release <-chan struct{}) callbacks {
			cb := positions()
			change(&cb, release)
			return cb
		}
	}
	full := bulkhead.NewBuilder[any](1).WithMaxWaitTime(time.Hour).Build()
	atMostOnce := stream.WithAtMostOnceSends()
	return map[string]stall{
		"the application does not receive": {serve: pours, opts: []stream.ClientOption{atMostOnce}},
		"the handler does not receive":     {serve: stays(), opts: []stream.ClientOption{atMostOnce}, use: floodsServer},
		"the window is full": {
			serve: stays(), opts: []stream.ClientOption{stream.WithReplay(stream.ReplayLimits{Messages: 1})}, use: floodsServer,
			callbacks: waiting(func(cb *callbacks, _ <-chan struct{}) { cb.Acked = acking().Acked }),
		},
		"a policy waits": {
			serve: stays(), opts: []stream.ClientOption{atMostOnce, stream.WithSendPolicies(full)}, use: func(s *client) error {
				full.TryAcquirePermit()
				return floodsServer(s)
			},
		},
		"its limit passes, again and again": {
			serve: stays(), opts: []stream.ClientOption{stream.WithIdleTimeout(time.Second), atMostOnce}, use: drain,
		},
		"a callback hangs": {
			serve: trickles, opts: []stream.ClientOption{atMostOnce}, use: drain,
			callbacks: waiting(func(cb *callbacks, release <-chan struct{}) {
				cb.Control = func(*response) bool { <-release; return false }
			}),
		},
		"Resume hangs": {
			serve: trickles, opts: []stream.ClientOption{atMostOnce}, use: drain,
			callbacks: waiting(func(cb *callbacks, release <-chan struct{}) {
				cb.Resume = func(context.Context, *resumption) error { <-release; return errors.New("released") }
			}),
		},
		"an observer hangs": {
			serve: trickles, use: drain,
			opts: []stream.ClientOption{atMostOnce, stream.WithObserver(stream.Hooks{OnAttached: func(stream.Info, checkpoint.Position) { time.Sleep(time.Hour) }})},
		},
		"the store hangs": {
			serve: trickles, use: drain,
			opts: []stream.ClientOption{atMostOnce, stream.WithStore(&oddStore{commit: hanging}, "key", stream.CommitEvery(1))},
		},
		"the open hangs": {
			serve: trickles, opts: []stream.ClientOption{atMostOnce}, use: drain,
			hangs: 1,
		},
		"the next open hangs": {
			serve: trickles, opts: []stream.ClientOption{atMostOnce}, use: drain,
			hangs: 2,
		},
	}
}

// A stream that is stuck holds up no other one on its connection, whatever it is stuck in, neither while the connection lives nor
// when it comes back (invariant 9).
func TestAStalledStreamBlocksNoOther(t *testing.T) {
	t.Parallel()
	for name := range stallsOf() {
		for form, dials := range map[string]func(...grpc.DialOption) []grpc.DialOption{
			"plain": func(opts ...grpc.DialOption) []grpc.DialOption { return opts },
			"DialOptions": func(opts ...grpc.DialOption) []grpc.DialOption {
				return append(stream.DialOptions(insecureCredentials()), opts...) // an interceptor hangs where calls are opened
			},
		} {
			t.Run(name+"/"+form, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { stallsOf()[name].blocksNoOther(t, dials) })
			})
		}
	}
}

func (how stall) blocksNoOther(t *testing.T, dials func(...grpc.DialOption) []grpc.DialOption) {
	t.Helper()
	release := make(chan struct{})
	opens := 0 // the stalled stream opens one attempt after the other
	f := &feed{total: 30}
	w := newWorldOf(t, f, &stalling{f, how.serve}, dials(grpc.WithChainStreamInterceptor(func(
		ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, next grpc.Streamer, opts ...grpc.CallOption,
	) (grpc.ClientStream, error) {
		if method == testpb.TestService_HalfDuplexCall_FullMethodName {
			if opens++; opens == how.hangs {
				<-release
			}
		}
		return next(ctx, desc, conn, method, opts...)
	}))...)
	cb := positions()
	if how.callbacks != nil {
		cb = how.callbacks(release)
	}
	ctx, cancel := context.WithCancel(w.watch.context(t.Context()))
	stuck := async(func() error {
		s, err := stream.Resilient(ctx, testpb.NewTestServiceClient(w.conn).HalfDuplexCall, cb, how.opts...)
		if err != nil {
			return err
		}
		if how.use == nil {
			<-ctx.Done()
			return s.Close()
		}
		err = how.use(s)
		return errors.Join(err, s.Close())
	})
	rest(time.Second)

	s := w.mustOpen(withReplay())
	began := time.Now()
	mustSend(t, s, 1, 10)
	mustReceive(t, s, upTo(10)...)
	rest(30 * time.Second) // for the limits of the stalled one
	mustSend(t, s, 11, 12)
	mustReceive(t, s, 11, 12)
	require.Equal(t, uint64(1), s.Stats().Attempts, "the stalled one has not cost it an attempt")
	w.Cut(testnet.RST)
	mustSend(t, s, 13, 30)
	require.NoError(t, s.CloseSend())
	mustReceive(t, s, upTo(30)[12:]...)
	_, err := s.Recv()
	require.ErrorIs(t, err, io.EOF)
	require.Equal(t, upTo(30), f.stored)
	require.Equal(t, uint64(2), s.Stats().Attempts)
	require.Less(t, time.Since(began), 35*time.Second, "nothing has waited")

	select {
	case err := <-stuck:
		require.Fail(t, "the other stream is not stuck", "%v", err)
	default:
	}
	close(release)
	cancel()
	_ = within(t, stuck, "the end of the stalled stream")
	rest(2 * time.Hour) // for an observer that hangs
}
