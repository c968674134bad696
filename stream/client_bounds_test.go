package stream_test

import (
	"context"
	"encoding/json"
	"math"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/internal/testnet"
	"github.com/streamsafe/streamsafe/internal/verify"
	"github.com/streamsafe/streamsafe/stream"
)

// Invariant 40: what a slow reader makes us hold is bounded in bytes, and given back. These tests measure the heap of the whole
// process, and so do not run in parallel.

// heap returns how much of the heap is in use.
func heap() int64 {
	runtime.GC()
	runtime.GC() // what a pool had is gone after the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc) //nolint:gosec // no heap is that large
}

const mib = 1 << 20

// halted is an observer that does not return from its first event until it is released.
type halted struct{ release chan struct{} }

func (o halted) OnOpened(stream.Info)          { <-o.release }
func (o halted) OnDetached(stream.Info, error) {}

func (o halted) OnDuplicate(stream.Info, uint64, checkpoint.Position) {}

// Events carry what the server says: positions with tokens of 1 MiB, statuses of 256 KiB. An observer that is stuck does not make
// them pile up.
func TestEventsOfAStuckObserverAreBounded(t *testing.T) { //nolint:paralleltest // it measures the heap
	skipHeapUnderRace(t)
	t.Run("tokens", func(t *testing.T) { //nolint:paralleltest // as above
		synctest.Test(t, func(t *testing.T) {
			o := halted{make(chan struct{})}
			cb := positions()
			cb.Checkpoint = func(m *response) (checkpoint.Position, bool) {
				fr := frameOf(m)
				return checkpoint.Position{Seq: min(fr.seq, 1), Token: string(make([]byte, mib))}, true
			}
			s := scripted(t, stays(numbered(upTo(300)...)...)).mustDial(cb, stream.WithObserver(o)) // all but the first are duplicates
			before := heap()
			receiving(s)
			synctest.Wait()
			require.Equal(t, uint64(299), s.Stats().Duplicates)
			require.Less(t, heap()-before, int64(20*mib), "growth of the heap")
			require.Greater(t, s.Stats().EventsDropped, uint64(250))
			close(o.release)
			rest(time.Second)
			require.NoError(t, s.Close())
		})
	})
	t.Run("statuses", func(t *testing.T) { //nolint:paralleltest // as above
		synctest.Test(t, func(t *testing.T) {
			o := halted{make(chan struct{})}
			large := func() error { return status.Error(codes.Unavailable, string(make([]byte, mib/4))) }
			w := newWorld(t, &feed{handler: func(bidi) error { return large() }},
				grpc.WithMaxHeaderListSize(100*mib))
			before := heap()
			s := w.mustDial(positions(), stream.WithObserver(o),
				stream.WithStreamPolicies(stream.NewRetryPolicyBuilder().WithDelay(time.Second).Build()))
			receiving(s)
			for s.Stats().Attempts < 60 {
				rest(time.Second)
			}
			require.Less(t, heap()-before, int64(8*mib), "growth of the heap")
			close(o.release)
			require.NoError(t, s.Close())
		})
	})
}

// plain is a message that is no protobuf message.
type plain struct {
	Seq  uint64
	Body string
	More map[string][]string
}

// asJSON is a codec whose sizes nobody knows.
type asJSON struct{}

func (asJSON) Marshal(v any) ([]byte, error)      { return json.Marshal(v) }
func (asJSON) Unmarshal(data []byte, v any) error { return json.Unmarshal(data, v) }
func (asJSON) Name() string                       { return "json" }

// Messages of a codec that tells no sizes wait for Recv while the application only sends. They are bounded in bytes, too.
func TestWhatWaitsIsBoundedWithAnyCodec(t *testing.T) { //nolint:paralleltest // it measures the heap
	skipHeapUnderRace(t)
	shapes := map[string]func(seq uint64) *plain{
		"a string": func(seq uint64) *plain { return &plain{Seq: seq, Body: string(make([]byte, 10_000))} },
		"a map": func(seq uint64) *plain {
			return &plain{Seq: seq, More: map[string][]string{"k": {string(make([]byte, 10_000))}}}
		},
	}
	for name, shape := range shapes { //nolint:paralleltest // as above
		for how, option := range map[string]grpc.CallOption{
			"ForceCodec": grpc.ForceCodec(asJSON{}),
		} {
			t.Run(name+", "+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					const n = 20_000 // 200 MB
					network := testnet.NewMemory()
					server := grpc.NewServer(grpc.ForceServerCodec(asJSON{}))
					handler := func(_ any, s grpc.ServerStream) error {
						for seq := uint64(1); seq <= n; seq++ {
							if err := s.SendMsg(shape(seq)); err != nil {
								return err
							}
						}
						<-s.Context().Done()
						return s.Context().Err()
					}
					server.RegisterService(&grpc.ServiceDesc{
						ServiceName: "plain", HandlerType: (*any)(nil),
						Streams: []grpc.StreamDesc{{StreamName: "Watch", Handler: handler, ServerStreams: true, ClientStreams: true}},
					}, struct{}{})
					listener := network.Listener()
					go func() { _ = server.Serve(listener) }() // ends with the server
					conn, err := network.Client(grpc.WithConnectParams(fastConnect), grpc.WithDefaultCallOptions(option))
					require.NoError(t, err)
					defer func() { _, _ = conn.Close(), network.Close() }()
					defer server.Stop()
					s, err := stream.Resilient(t.Context(), func(ctx context.Context, opts ...grpc.CallOption) (grpc.BidiStreamingClient[plain, plain], error) {
						cs, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/plain/Watch", opts...)
						return &grpc.GenericClientStream[plain, plain]{ClientStream: cs}, err
					}, stream.Callbacks[plain, plain]{}, stream.WithAtMostOnceSends(), stream.WithRestart())
					require.NoError(t, err)
					defer func() { _ = s.Close() }()
					before := heap()
					go func() { // ends with the stream: the server does not read
						for s.Send(shape(1)) == nil {
						}
					}()
					rest(time.Hour)
					st := s.Stats()
					require.Greater(t, st.Waiting, 1000, "messages that wait")
					require.Less(t, st.Waiting, 1700, "16 MiB of 10,000 bytes and more each")
					require.Less(t, heap()-before, int64(60*mib), "growth of the heap")
				})
			})
		}
	}
}

// An empty message counts, too: 16 MiB of them are no million.
func TestHeldEmptyMessagesAreBounded(t *testing.T) { //nolint:paralleltest // it measures the heap
	skipHeapUnderRace(t)
	synctest.Test(t, func(t *testing.T) {
		f := &feed{handler: func(s bidi) error {
			for {
				if err := s.Send(&response{}); err != nil {
					return err
				}
			}
		}}
		cb := callbacks{
			Checkpoint: func(*response) (checkpoint.Position, bool) { return checkpoint.Position{}, false },
			Resume:     saysNothing,
		}
		w := newWorld(t, f)
		before := heap()
		var most int64
		cb.Control = func(*response) bool { return false }
		n := 0
		cb.Err = func(*response) error {
			if n++; n%20_000 == 0 {
				most = max(most, heap()-before)
			}
			return nil
		}
		s := w.mustDial(cb, stream.HoldUntilCheckpoint(16*mib, stream.OverflowFail))
		err := drain(s)
		requireReason(t, err, stream.ReasonHeldOverflow, "Recv")
		require.Less(t, n, 16*mib/96+10, "messages that were held")
		require.Less(t, most, int64(50*mib), "growth of the heap")
	})
}

// A burst that waited and was taken leaves nothing behind.
func TestABurstIsGivenBack(t *testing.T) { //nolint:paralleltest // it measures the heap
	skipHeapUnderRace(t)
	synctest.Test(t, func(t *testing.T) {
		const n = 60_000
		f := &feed{handler: func(s bidi) error {
			if err := sends(nil, numbered(upTo(n)...)...)(s); err != nil {
				return err
			}
			var got []uint64
			return reads(&got)(s)
		}}
		var dial []grpc.DialOption
		f.options, dial = smallWindows()
		w := newWorld(t, f, dial...)
		s := w.mustDial(acking(), withReplay())
		mustSend(t, s, 1, 16_000)
		rest(time.Minute)
		before := heap()
		require.NoError(t, sendChunks2(s, 100)) // waits until the stand-in has taken the burst
		rest(time.Minute)
		require.Equal(t, n, s.Stats().Waiting)
		for range n {
			_, err := s.Recv()
			require.NoError(t, err)
		}
		require.Zero(t, s.Stats().Waiting)
		require.Less(t, heap()-before, int64(3*mib), "growth of the heap: the 100 messages that are kept")
		runtime.KeepAlive(s)
	})
}

func sendChunks2(s *client, n uint64) error {
	for seq := uint64(1); seq <= n; seq++ {
		if err := s.Send(&request{Payload: &testpb.Payload{Body: make([]byte, 4096)}}); err != nil {
			return err
		}
	}
	return nil
}

// The highest numbers that there are: none follows, and nothing wraps around.
func TestTheHighestNumbers(t *testing.T) {
	t.Parallel()
	const most = uint64(math.MaxUint64)
	for _, seq := range []uint64{most, most - 1} {
		t.Run("Acknowledge, counted", func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := newPuppet()
				p.greetsWith(seq)
				_, err := newWorld(t, &feed{handler: p.handle}).open(t.Context(), withReplay())
				wantEnd(t, err, stream.ReasonProtocol, codes.Internal, "open: no number would be left")
			})
		})
		t.Run("Acknowledge, numbers of the application's own", func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := newPuppet()
				p.greetsWith(seq)
				f := &feed{handler: p.handle}
				cb := f.callbacks()
				cb.Sequence = func(m *request) uint64 { return frameOf(m).seq }
				s := newWorld(t, f).mustDial(cb, withReplay())
				requireReason(t, s.Send(frame{kind: data, seq: 1}.request()), stream.ReasonMessage, "1 does not follow")
				if seq == most-1 {
					require.NoError(t, s.Send(frame{kind: data, seq: most}.request()), "the last number")
				}
				requireReason(t, s.Send(frame{kind: data, seq: most}.request()), stream.ReasonMessage, "it is used")
				require.LessOrEqual(t, s.Stats().LastSeq, most)
				require.GreaterOrEqual(t, s.Stats().LastSeq, seq)
			})
		})
		t.Run("Acked", func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := newPuppet()
				s := newWorld(t, &feed{handler: p.handle}).mustOpen(withReplay())
				ended := receiving(s)
				mustSend(t, s, 1, 2)
				p.tell(frame{kind: ack, seq: seq})
				wantEnd(t, <-ended, stream.ReasonProtocol, codes.Internal, "never sent")
				wantUnacked, _ := keptBy(s)
				require.Equal(t, upTo(2), wantUnacked)
			})
		})
		for name, opt := range map[string]stream.ClientOption{"": stream.WithName(""), ", without gaps": stream.WithGapDetection()} {
			t.Run("Checkpoint"+name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					s := scripted(t, stays(numbered(seq, most)...)).mustDial(positions(), opt)
					got, err := receiveAll(s)
					wantEnd(t, err, stream.ReasonProtocol, codes.Internal, "the highest number: none follows")
					require.Equal(t, map[bool][]uint64{true: nil, false: {seq}}[seq == most], got)
				})
			})
		}
	}
}

// The server says that its history begins here, and then message 3 comes first: two are missing.
func TestAGapAtTheBeginning(t *testing.T) {
	t.Parallel()
	begins := func(_ context.Context, r *resumption) error {
		r.StartsAt(checkpoint.Position{})
		return nil
	}
	synctest.Test(t, func(t *testing.T) {
		s := scripted(t, stays(numbered(3)...)).mustDial(resumes(begins), stream.WithGapDetection())
		got, err := receiveAll(s)
		wantEnd(t, err, stream.ReasonGap, codes.DataLoss, "still missing after a resume")
		require.Empty(t, got)
		require.Equal(t, uint64(2), s.Stats().Attempts)
	})
	synctest.Test(t, func(t *testing.T) {
		s := scripted(t, stays(numbered(3)...), stays(numbered(1, 2, 3)...)).mustDial(resumes(begins), stream.WithGapDetection())
		mustReceive(t, s, 1, 2, 3)
	})
	synctest.Test(t, func(t *testing.T) {
		s := scripted(t, stays(numbered(1, 2)...)).mustDial(resumes(begins), stream.WithGapDetection())
		mustReceive(t, s, 1, 2)
		require.Equal(t, uint64(1), s.Stats().Attempts)
	})
}

// skipHeapUnderRace skips a test that measures the heap in builds with the race detector, which changes what is allocated and
// makes large messages slow. The plain tests run it.
func skipHeapUnderRace(t *testing.T) {
	t.Helper()
	if verify.Enabled {
		t.Skip("the race detector changes what is allocated")
	}
}
