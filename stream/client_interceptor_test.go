package stream_test

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go/hedgepolicy"
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

const (
	outputCall = testpb.TestService_StreamingOutputCall_FullMethodName
	inputCall  = testpb.TestService_StreamingInputCall_FullMethodName
	duplexCall = testpb.TestService_FullDuplexCall_FullMethodName
)

// stocked starts a world of h with a stock client behind an interceptor with these options.
func stocked(t *testing.T, h testpb.TestServiceServer, opts ...stream.InterceptorOption) (*world, testpb.TestServiceClient) {
	t.Helper()
	require.NoError(t, stream.ValidateClient(opts...))
	w := newWorldOf(t, &feed{}, h, grpc.WithStreamInterceptor(stream.ClientInterceptor(opts...)))
	return w, testpb.NewTestServiceClient(w.conn)
}

// asksAgain are callbacks for a stock client's download: the original request, from where the stream stands.
func asksAgain() callbacks {
	cb := downloads()
	cb.Request = func(original *request, from checkpoint.Position) (*request, error) {
		original.Payload = frame{kind: hello, seq: max(frameOf(original).seq, from.Seq), size: frameOf(original).size}.payload()
		return original, nil
	}
	return cb
}

// The request may be used again when the call has begun, and each attempt starts from the original (invariant 29).
func TestTheOriginalRequestIsKept(t *testing.T) {
	t.Parallel()
	for _, asks := range []bool{false, true} {
		t.Run(fmt.Sprintf("Request callback %v", asks), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var sizes []int
				h := &warehouse{download: func(r *request, s downstream) error {
					sizes = append(sizes, frameOf(r).size)
					if len(sizes) < 4 {
						return errGone
					}
					return s.Send(frame{kind: data, seq: 1}.response())
				}}
				var cb callbacks
				if asks {
					cb.Request = func(original *request, _ checkpoint.Position) (*request, error) {
						original.Payload = frame{kind: hello, size: frameOf(original).size + 1}.payload()
						return original, nil
					}
				}
				w, stock := stocked(t, h, stream.ForMethod(outputCall, cb))
				r := frame{kind: hello, size: 7}.request()
				s, err := stock.StreamingOutputCall(w.watch.context(t.Context()), r)
				require.NoError(t, err)
				r.Payload.Body = nil
				got, err := useDownload(s)
				require.Equal(t, io.EOF, err)
				require.Equal(t, upTo(1), got)
				want := []int{7, 7, 7, 7}
				if asks {
					want = []int{8, 8, 8, 8}
				}
				require.Equal(t, want, sizes, "the sizes of the requests")
			})
		})
	}
}

// Invariant 14, for a stock client: nothing remains, and it hears io.EOF from Recv, as of any stream that has ended.
func TestNothingRemainsForAStockClient(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cb := downloads()
		cb.Request = func(*request, checkpoint.Position) (*request, error) { return nil, stream.Complete }
		h := &warehouse{}
		duplex := callbacks{Resume: func(context.Context, *resumption) error { return stream.Complete }}
		w, stock := stocked(t, h, stream.ForMethod(outputCall, cb), stream.ForMethod(duplexCall, duplex))
		down, err := stock.StreamingOutputCall(w.watch.context(t.Context()), new(request))
		require.NoError(t, err)
		_, err = down.Recv()
		require.Equal(t, io.EOF, err)
		header, err := down.Header()
		require.NoError(t, err)
		require.Nil(t, header)
		require.Nil(t, down.Trailer())
		require.Empty(t, h.requests, "requests")
		both, err := stock.FullDuplexCall(w.watch.context(t.Context()))
		require.NoError(t, err)
		require.Equal(t, io.EOF, both.Send(new(request)))
		_, err = both.Recv()
		require.Equal(t, io.EOF, err)
	})
}

// A stream without a registration is the very one that grpc made, and costs nothing more.
func TestOtherStreamsPassUntouched(t *testing.T) { //nolint:paralleltest // AllocsPerRun counts what the whole process allocates
	intercept := stream.ClientInterceptor(stream.ForMethod(outputCall, asksAgain()), stream.ForMethod("/other.Service/*", callbacks{}))
	var made grpc.ClientStream = &ownContext{}
	streamer := func(context.Context, *grpc.StreamDesc, *grpc.ClientConn, string, ...grpc.CallOption) (grpc.ClientStream, error) {
		return made, nil
	}
	desc := &testpb.TestService_ServiceDesc.Streams[2]
	ctx := t.Context()
	opts := []grpc.CallOption{grpc.WaitForReady(true)}
	got, err := intercept(ctx, desc, nil, duplexCall, streamer, opts...)
	require.NoError(t, err)
	require.Same(t, made, got)
	require.Zero(t, testing.AllocsPerRun(100, func() { _, _ = intercept(ctx, desc, nil, duplexCall, streamer, opts...) }))
}

// The contract of grpc.ClientStream: after the end of its context, an error or the answer, nothing is left of a stream. The
// bubble finds what leaks.
func TestStockStreamsLeakNothing(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(t *testing.T, w *world, stock testpb.TestServiceClient, cancel context.CancelFunc, ctx context.Context){
		"cancelled": func(t *testing.T, _ *world, stock testpb.TestServiceClient, cancel context.CancelFunc, ctx context.Context) {
			t.Helper()
			s, err := stock.FullDuplexCall(ctx)
			require.NoError(t, err)
			cancel()
			_, err = s.Recv()
			require.Equal(t, codes.Canceled, status.Code(err))
		},
		"cancelled in an outage": func(t *testing.T, w *world, stock testpb.TestServiceClient, cancel context.CancelFunc, ctx context.Context) {
			t.Helper()
			s, err := stock.FullDuplexCall(ctx)
			require.NoError(t, err)
			w.Refuse(true)
			w.Cut(testnet.RST)
			ended := async(func() error { _, err := s.Recv(); return err })
			rest(time.Minute)
			cancel()
			require.Equal(t, codes.Canceled, status.Code(within(t, ended, "Recv")))
		},
		"a message that cannot be sent": func(t *testing.T, _ *world, stock testpb.TestServiceClient, _ context.CancelFunc, ctx context.Context) {
			t.Helper()
			s, err := stock.FullDuplexCall(ctx, grpc.MaxCallSendMsgSize(100))
			require.NoError(t, err)
			err = s.Send(frame{kind: data, seq: 1, size: 200}.request())
			wantEnd(t, err, stream.ReasonMessage, codes.ResourceExhausted, "the message")
			synctest.Wait()
			require.Error(t, s.Context().Err(), "the stream has ended")
			_, err = s.Recv()
			wantEnd(t, err, stream.ReasonMessage, codes.ResourceExhausted, "what Recv says of it")
		},
		"a request that cannot be sent": func(t *testing.T, _ *world, stock testpb.TestServiceClient, _ context.CancelFunc, ctx context.Context) {
			t.Helper()
			s, err := stock.StreamingOutputCall(ctx, frame{kind: hello, size: 200}.request(), grpc.MaxCallSendMsgSize(100))
			require.Nil(t, s)
			wantEnd(t, err, stream.ReasonServer, codes.ResourceExhausted, "the request")
		},
		"a server that nobody reaches": func(t *testing.T, w *world, stock testpb.TestServiceClient, _ context.CancelFunc, ctx context.Context) {
			t.Helper()
			w.Refuse(true)
			ctx, cancel := context.WithTimeout(ctx, time.Minute)
			defer cancel()
			_, err := stock.StreamingOutputCall(ctx, new(request))
			wantEnd(t, err, stream.ReasonContext, codes.DeadlineExceeded, "the call")
		},
		"a half-close without a request": func(t *testing.T, w *world, _ testpb.TestServiceClient, _ context.CancelFunc, ctx context.Context) {
			t.Helper()
			s, err := w.conn.NewStream(ctx, &testpb.TestService_ServiceDesc.Streams[0], outputCall)
			require.NoError(t, err)
			require.NoError(t, s.CloseSend())
			require.ErrorContains(t, s.RecvMsg(new(response)), "without a request")
			require.Error(t, s.SendMsg(new(request)))
		},
		"never begun": func(t *testing.T, w *world, _ testpb.TestServiceClient, cancel context.CancelFunc, ctx context.Context) {
			t.Helper()
			s, err := w.conn.NewStream(ctx, &testpb.TestService_ServiceDesc.Streams[0], outputCall)
			require.NoError(t, err)
			ended := async(func() error { return s.RecvMsg(new(response)) })
			rest(time.Second)
			cancel()
			wantEnd(t, within(t, ended, "RecvMsg"), stream.ReasonContext, codes.Canceled, "RecvMsg")
			require.Nil(t, s.Trailer())
			header, err := s.Header()
			require.NoError(t, err)
			require.Nil(t, header)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := &feed{handler: stays()}
				w, stock := stocked(t, f, stream.ForMethod(duplexCall, callbacks{}), stream.ForMethod(outputCall, asksAgain()))
				ctx, cancel := context.WithCancel(w.watch.context(t.Context()))
				defer cancel()
				leave(t, w, stock, cancel, ctx)
				synctest.Wait()
				require.Zero(t, active(w), "handlers that run")
			})
		})
	}
}

// A second request is an error, as grpc has it, and ends the stream.
func TestASecondRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, _ := stocked(t, &warehouse{total: 1}, stream.ForMethod(outputCall, asksAgain()))
		s, err := w.conn.NewStream(w.watch.context(t.Context()), &testpb.TestService_ServiceDesc.Streams[0], outputCall)
		require.NoError(t, err)
		require.NoError(t, s.SendMsg(new(request)))
		wantEnd(t, s.SendMsg(new(request)), stream.ReasonMessage, codes.InvalidArgument, "the second")
		synctest.Wait()
		require.Error(t, s.Context().Err())
	})
}

// A message there and back allocates nothing beyond what it does on a bare stream.
func TestAllocationsOfStockClients(t *testing.T) { //nolint:paralleltest // it counts the allocations of the whole process
	if verify.Enabled {
		t.Skip("the race detector changes what is allocated")
	}
	f := &feed{handler: echo}
	w, stock := stocked(t, f, stream.ForMethod(duplexCall, positions(), stream.WithAtMostOnceSends()))
	bareConn, err := w.Client()
	require.NoError(t, err)
	defer func() { _ = bareConn.Close() }()
	bare, err := testpb.NewTestServiceClient(bareConn).FullDuplexCall(t.Context())
	require.NoError(t, err)
	s, err := stock.FullDuplexCall(w.watch.context(t.Context()))
	require.NoError(t, err)
	base := roundTripAllocations(t, bare)
	require.LessOrEqual(t, roundTripAllocations(t, s)-base, 0.0)
}

// Streams of one registration share options, and have an id each: one does not fence the other.
func TestStockStreamsHaveIDsOfTheirOwn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ids := make(map[stream.StreamID]uint64)
		h := &warehouse{download: func(r *request, s downstream) error {
			told, ok := stream.AttemptFrom(s.Context())
			if !ok {
				return errLastWord
			}
			ids[told.Stream] = told.Epoch // handlers come one after the other
			if told.Epoch == 1 {
				return errGone
			}
			return nil
		}}
		w, stock := stocked(t, h, stream.ForMethod(outputCall, callbacks{}, stream.WithResumeMetadata()))
		for range 3 {
			s, err := stock.StreamingOutputCall(w.watch.context(t.Context()), new(request))
			require.NoError(t, err)
			_, err = s.Recv()
			require.Equal(t, io.EOF, err)
		}
		require.Len(t, ids, 3)
		for id, attempts := range ids {
			require.Equal(t, uint64(2), attempts, "the attempts of %v", id)
		}
	})
}

// Two opens race, each with a request of its own, and the slower one is closed.
func TestHedgedRequests(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hedge := hedgepolicy.NewWithDelay[any](time.Second)
		h := &warehouse{total: 3}
		var calls atomic.Int32
		slow := func(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, next grpc.Streamer,
			opts ...grpc.CallOption,
		) (grpc.ClientStream, error) {
			if calls.Add(1) == 1 {
				<-ctx.Done() // the first open hangs
				return nil, ctx.Err()
			}
			return next(ctx, desc, conn, method, opts...)
		}
		w := newWorldOf(t, &feed{}, h,
			grpc.WithChainStreamInterceptor(stream.ClientInterceptor(stream.ForMethod(outputCall, asksAgain(), stream.WithOpenPolicies(hedge))), slow))
		s, err := testpb.NewTestServiceClient(w.conn).StreamingOutputCall(w.watch.context(t.Context()), frame{kind: hello}.request())
		require.NoError(t, err)
		got, err := useDownload(s)
		require.Equal(t, io.EOF, err)
		require.Equal(t, upTo(3), got)
		require.Equal(t, []uint64{0}, h.requests)
	})
}
