package stream_test

import (
	"context"
	"errors"
	"io"
	"strconv"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream"
)

// What the interceptor makes of its own options, and of those of a call.

// Callbacks for other types than the method's are refused before anything is opened. If generated code does not tell, the first
// message does.
func TestCallbacksOfOtherTypes(t *testing.T) {
	t.Parallel()
	nothing := func(context.Context, *grpc.StreamDesc, *grpc.ClientConn, string, ...grpc.CallOption) (grpc.ClientStream, error) {
		return nil, errors.New("something was opened")
	}
	desc := &grpc.StreamDesc{StreamName: "S", ServerStreams: true, ClientStreams: true}
	for name, opt := range map[string]stream.InterceptorOption{
		"the request":  stream.ForMethod(duplexCall, stream.Callbacks[uploadPart, response]{}),
		"the response": stream.ForMethod(duplexCall, stream.Callbacks[request, answer]{}),
		"a service":    stream.ForMethod("/grpc.testing.TestService/*", stream.Callbacks[request, answer]{}),
		"all":          stream.ForMethod("*", stream.Callbacks[request, answer]{}),
		"no messages":  stream.ForMethod(duplexCall, stream.Callbacks[string, int]{}),
	} {
		_, err := stream.ClientInterceptor(opt)(t.Context(), desc, nil, duplexCall, nothing)
		wantEnd(t, err, stream.ReasonOptions, codes.InvalidArgument, name)
		require.ErrorContains(t, err, "takes grpc.testing.StreamingOutputCallRequest and returns grpc.testing.StreamingOutputCallResponse", name)
		if name != "a service" && name != "all" && name != "no messages" { // no method of its own
			require.ErrorContains(t, stream.ValidateClient(opt), "takes grpc.testing.", name)
		}
	}
	t.Run("the first message tells", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w, _ := stocked(t, &feed{handler: stays()}, stream.ForMethod("/unknown.S/Download", stream.Callbacks[string, string]{}),
				stream.ForMethod("/unknown.S/Chat", callbacks{}))
			s, err := w.conn.NewStream(w.watch.context(t.Context()), &grpc.StreamDesc{ServerStreams: true}, "/unknown.S/Download")
			require.NoError(t, err)
			err = s.SendMsg(new(request))
			wantEnd(t, err, stream.ReasonMessage, codes.InvalidArgument, "SendMsg")
			require.ErrorContains(t, err, "the message is a *grpc_testing.StreamingOutputCallRequest, not a *string")
			require.Equal(t, err, s.RecvMsg(new(response)), "what RecvMsg says then")
			require.Error(t, s.Context().Err(), "the stream has ended")

			s, err = w.conn.NewStream(w.watch.context(t.Context()), desc, "/unknown.S/Chat")
			require.NoError(t, err)
			err = s.RecvMsg(new(answer))
			wantEnd(t, err, stream.ReasonMessage, codes.InvalidArgument, "RecvMsg")
			synctest.Wait()
			require.Error(t, s.Context().Err(), "the stream has ended")
		})
	})
}

// Wrong options are reported by ValidateClient, and refuse the streams that they are for.
func TestWrongInterceptorOptions(t *testing.T) {
	t.Parallel()
	made := &ownContext{}
	streamer := func(context.Context, *grpc.StreamDesc, *grpc.ClientConn, string, ...grpc.CallOption) (grpc.ClientStream, error) {
		return made, nil
	}
	bidi := &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}
	replay := stream.WithReplay(stream.ReplayLimits{})
	for name, test := range map[string]struct {
		opts   []stream.InterceptorOption
		text   string
		others bool // other streams pass
	}{
		"no pattern":     {[]stream.InterceptorOption{stream.ForMethod("nonsense", callbacks{})}, "method pattern", false},
		"twice":          {[]stream.InterceptorOption{stream.ForMethod(duplexCall, callbacks{}), stream.ForMethod(duplexCall[1:], callbacks{})}, "two ForMethod", false},
		"contradiction":  {[]stream.InterceptorOption{stream.ForMethod(duplexCall, callbacks{}, replay)}, "WithReplay needs Callbacks.Acked", true},
		"a nil option":   {[]stream.InterceptorOption{stream.ForMethod(duplexCall, callbacks{}, nil)}, "an option is nil", true},
		"a nil function": {[]stream.InterceptorOption{stream.ForMethodFunc[request, response](duplexCall, nil)}, "the function is nil", false},
		"Request":        {[]stream.InterceptorOption{stream.ForMethod(duplexCall, asksAgain())}, "Callbacks.Request is for server-streaming", true},
		"a unary method": {[]stream.InterceptorOption{stream.ForMethod(testpb.TestService_EmptyCall_FullMethodName, stream.Callbacks[testpb.Empty, testpb.Empty]{})}, "package unary", true},
	} {
		err := stream.ValidateClient(test.opts...)
		wantEnd(t, err, stream.ReasonOptions, codes.InvalidArgument, name)
		require.ErrorContains(t, err, test.text, name)
		intercept := stream.ClientInterceptor(test.opts...)
		if name != "a unary method" {
			_, err = intercept(t.Context(), bidi, nil, duplexCall, streamer)
			wantEnd(t, err, stream.ReasonOptions, codes.InvalidArgument, name)
			require.ErrorContains(t, err, test.text, name)
		}
		got, err := intercept(t.Context(), bidi, nil, "/other.S/M", streamer)
		require.Equal(t, test.others, err == nil, "%s: another method: %v", name, err)
		if test.others {
			require.Same(t, made, got)
		}
	}
	require.ErrorContains(t, stream.ValidateClient(stream.ForMethod("/grpc.testing.TestService/FullDuplexCal", callbacks{})), "has no method")
	require.ErrorContains(t, stream.ValidateClient(stream.ForMethod(outputCall, downloads())), "Callbacks.Request")
	require.ErrorContains(t, stream.ValidateClient(stream.ForMethod("/unknown.S/M", callbacks{}, stream.WithEndless(), stream.WithoutResume())), "WithEndless")
	require.NoError(t, stream.ValidateClient(stream.ForMethod("/unknown.S/M", asksAgain()), stream.InterceptorOption{},
		stream.ForMethodFunc("/unknown.S/N", func(context.Context) callbacks { return callbacks{} })))
	_, err := stream.ClientInterceptor(stream.ForMethod("*", callbacks{}))(t.Context(), &grpc.StreamDesc{}, nil, "/a.B/C", streamer)
	wantEnd(t, err, stream.ReasonOptions, codes.InvalidArgument, "a unary call, opened as a stream")
}

// What a call has is on each attempt: metadata, options. Targets have what the last one got, and OnFinish is called once.
func TestCallOptionsOfAStockClient(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var said []string
		h := &warehouse{}
		h.download = func(r *request, s downstream) error {
			md, _ := metadata.FromIncomingContext(s.Context())
			said = append(said, md.Get("tenant")...)
			n := strconv.Itoa(len(said))
			s.SetTrailer(metadata.Pairs("trailer", n))
			if err := s.SendHeader(metadata.Pairs("header", n)); err != nil {
				return err
			}
			if len(said) < 3 {
				return errors.Join(s.Send(frame{kind: data, seq: frameOf(r).seq + 1}.response()), errGone)
			}
			return errLastWord
		}
		h.download = func(next func(*request, downstream) error) func(*request, downstream) error {
			return func(r *request, s downstream) error {
				if err := next(r, s); status.Code(err) != codes.Unknown {
					return err
				}
				return errGone
			}
		}(h.download)
		w, stock := stocked(t, h, stream.ForMethod(outputCall, asksAgain(), stream.WithCallOptions(grpc.WaitForReady(true))))
		var header, trailer metadata.MD
		var finished []error
		ctx := metadata.AppendToOutgoingContext(w.watch.context(t.Context()), "tenant", "acme")
		s, err := stock.StreamingOutputCall(ctx, frame{kind: hello}.request(), grpc.Header(&header), grpc.Trailer(&trailer),
			grpc.OnFinish(func(err error) { finished = append(finished, err) }))
		require.NoError(t, err)
		first, err := s.Header()
		require.NoError(t, err)
		require.NotEmpty(t, first.Get("header"))
		got, err := useDownload(s)
		wantEnd(t, err, stream.ReasonServer, codes.InvalidArgument, "the end")
		require.Equal(t, upTo(2), got)
		require.Equal(t, []string{"acme", "acme", "acme"}, said)
		require.Equal(t, []string{"3"}, header.Get("header"), "grpc.Header")
		require.Equal(t, []string{"3"}, trailer.Get("trailer"), "grpc.Trailer")
		require.Equal(t, []string{"3"}, s.Trailer().Get("trailer"))
		require.Equal(t, []error{err}, finished, "grpc.OnFinish")
		require.ErrorIs(t, s.Context().Err(), context.Canceled, "the context of a stream that has ended")
	})
}

// grpc.OnFinish has nil if all went well.
func TestOnFinishAfterOK(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, stock := stocked(t, &warehouse{}, stream.ForMethod(inputCall, uploads{}))
		var finished []error
		s, err := stock.StreamingInputCall(w.watch.context(t.Context()), grpc.OnFinish(func(err error) { finished = append(finished, err) }))
		require.NoError(t, err)
		_, err = s.CloseAndRecv()
		require.NoError(t, err)
		require.Equal(t, []error{nil}, finished)
	})
}

// Callbacks that count have a stream of their own each.
func TestForMethodFunc(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		type key struct{}
		h := &warehouse{download: func(r *request, s downstream) error { // messages have no numbers
			for seq := frameOf(r).seq + 1; seq <= 10; seq++ {
				if err := s.Send(frame{kind: fragment, seq: 100 + seq}.response()); err != nil {
					return err
				}
				if seq%3 == 0 {
					return errGone
				}
			}
			return nil
		}}
		var contexts []any
		w, stock := stocked(t, h, stream.ForMethodFunc(outputCall, func(ctx context.Context) callbacks {
			contexts = append(contexts, ctx.Value(key{}))
			var n uint64
			return callbacks{
				Request:    func(_ *request, from checkpoint.Position) (*request, error) { n = from.Seq; return ask(from) },
				Checkpoint: func(*response) (checkpoint.Position, bool) { n++; return at(n), true },
			}
		}))
		for i := range 2 {
			ctx := context.WithValue(w.watch.context(t.Context()), key{}, i)
			s, err := stock.StreamingOutputCall(ctx, new(request))
			require.NoError(t, err)
			got, err := useDownload(s)
			require.Equal(t, io.EOF, err)
			require.Equal(t, []uint64{101, 102, 103, 104, 105, 106, 107, 108, 109, 110}, got)
		}
		require.Equal(t, []any{0, 1}, contexts)
	})
}

// Messages that are none of protobuf's: the codec of the call copies the request.
func TestACodecOfTheApplications(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := 0
		h := &warehouse{download: func(r *request, s downstream) error {
			if n++; n < 3 {
				return errGone
			}
			return s.Send(frameOf(r).response())
		}}
		w, _ := stocked(t, h, stream.ForMethod("/grpc.testing.TestService/*", stream.Callbacks[rawMessage, rawMessage]{
			Request: func(original *rawMessage, _ checkpoint.Position) (*rawMessage, error) { return original, nil },
		}))
		s, err := w.conn.NewStream(w.watch.context(t.Context()), &testpb.TestService_ServiceDesc.Streams[0], outputCall, grpc.ForceCodecV2(rawCodec{}))
		require.NoError(t, err)
		sent, err := encoding.GetCodecV2("proto").Marshal(frame{kind: data, seq: 42}.request())
		require.NoError(t, err)
		r := &rawMessage{sent.Materialize()}
		require.NoError(t, s.SendMsg(r))
		r.data = nil
		var got rawMessage
		require.NoError(t, s.RecvMsg(&got))
		require.NotEmpty(t, got.data)
		require.Equal(t, io.EOF, s.RecvMsg(&got))
		require.Equal(t, 3, n)
	})
}

// A call that ends while it is opened has its trailer in grpc.Trailer, too.
func TestTargetsOfAnOpenThatFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &feed{handler: func(s bidi) error {
			s.SetTrailer(metadata.Pairs("why", "quota"))
			return errLastWord
		}}
		_, stock := stocked(t, f, stream.ForMethod(duplexCall, callbacks{Resume: func(_ context.Context, r *resumption) error {
			_, err := r.Recv()
			return err
		}}))
		var trailer metadata.MD
		_, err := stock.FullDuplexCall(t.Context(), grpc.Trailer(&trailer))
		wantEnd(t, err, stream.ReasonServer, codes.InvalidArgument, "the call")
		require.Equal(t, []string{"quota"}, trailer.Get("why"))
	})
}
