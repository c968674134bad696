package stream_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream"
)

// oldClient and its streams are as protoc-gen-go-grpc made them before it had generic types.
type (
	watchStream interface {
		Recv() (*response, error)
		grpc.ClientStream
	}
	uploadStream interface {
		Send(*uploadPart) error
		CloseAndRecv() (*answer, error)
		grpc.ClientStream
	}
	oldClient       struct{ conn grpc.ClientConnInterface }
	oldWatchStream  struct{ grpc.ClientStream }
	oldUploadStream struct{ grpc.ClientStream }
)

func (c *oldClient) Watch(ctx context.Context, in *request, opts ...grpc.CallOption) (watchStream, error) {
	s, err := c.conn.NewStream(ctx, &testpb.TestService_ServiceDesc.Streams[0], testpb.TestService_StreamingOutputCall_FullMethodName, opts...)
	if err != nil {
		return nil, err
	}
	x := &oldWatchStream{s}
	if err := x.SendMsg(in); err != nil {
		return nil, err
	}
	if err := x.CloseSend(); err != nil {
		return nil, err
	}
	return x, nil
}

func (s *oldWatchStream) Recv() (*response, error) {
	m := new(response)
	if err := s.RecvMsg(m); err != nil {
		return nil, err
	}
	return m, nil
}

func (c *oldClient) Upload(ctx context.Context, opts ...grpc.CallOption) (uploadStream, error) {
	s, err := c.conn.NewStream(ctx, &testpb.TestService_ServiceDesc.Streams[1], testpb.TestService_StreamingInputCall_FullMethodName, opts...)
	if err != nil {
		return nil, err
	}
	return &oldUploadStream{s}, nil
}

func (s *oldUploadStream) Send(m *uploadPart) error { return s.SendMsg(m) }

func (s *oldUploadStream) CloseAndRecv() (*answer, error) {
	if err := s.CloseSend(); err != nil {
		return nil, err
	}
	m := new(answer)
	if err := s.RecvMsg(m); err != nil {
		return nil, err
	}
	return m, nil
}

// useDownload and useUpload are helpers that take what generated code takes.
func useDownload(s grpc.ServerStreamingClient[response]) ([]uint64, error) {
	var got []uint64
	for {
		m, err := s.Recv()
		if err != nil {
			return got, err
		}
		got = append(got, frameOf(m).seq)
	}
}

func useUpload(s grpc.ClientStreamingClient[uploadPart, answer], n uint64) (uint64, error) {
	return upload(s, n)
}

// All type parameters are inferred from the method value, of generated code of any age, and from nothing else.
func TestTypesOfTheOtherKindsAreInferred(t *testing.T) {
	t.Parallel()
	require.Equal(t, "StreamingOutputCall", testpb.TestService_ServiceDesc.Streams[0].StreamName)
	require.Equal(t, "StreamingInputCall", testpb.TestService_ServiceDesc.Streams[1].StreamName)
	request := func(checkpoint.Position) (*request, error) { return frame{kind: hello}.request(), nil }
	tests := map[string]func(ctx context.Context, w *world) (*client, *uploader, error){
		"generic generated code": func(ctx context.Context, w *world) (*client, *uploader, error) {
			generated := testpb.NewTestServiceClient(w.conn)
			down, err1 := stream.ResilientServerStreaming(ctx, generated.StreamingOutputCall, request, callbacks{})
			up, err2 := stream.ResilientClientStreaming(ctx, generated.StreamingInputCall, uploads{})
			return down, up, errors.Join(err1, err2)
		},
		"older generated code": func(ctx context.Context, w *world) (*client, *uploader, error) {
			generated := &oldClient{w.conn}
			down, err1 := stream.ResilientServerStreaming(ctx, generated.Watch, request, callbacks{})
			up, err2 := stream.ResilientClientStreaming(ctx, generated.Upload, uploads{})
			return down, up, errors.Join(err1, err2)
		},
	}
	for name, open := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newShop(t, &warehouse{total: 3})
				down, up, err := open(w.watch.context(t.Context()), w)
				require.NoError(t, err)
				got, err := useDownload(down)
				require.ErrorIs(t, err, io.EOF)
				require.Equal(t, upTo(3), got)
				stored, err := useUpload(up, 4)
				require.NoError(t, err)
				require.Equal(t, uint64(4), stored)
			})
		})
	}
}

// Invariant 14: each request asks for what remains, and where nothing does, none is sent and the stream is complete.
func TestRequestsAskForWhatRemains(t *testing.T) {
	t.Parallel()
	for last := range uint64(4) {
		t.Run(fmt.Sprintf("nothing remains after %d", last), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := &warehouse{download: func(r *request, s downstream) error {
					if err := s.Send(frame{kind: data, seq: frameOf(r).seq + 1}.response()); err != nil {
						return err
					}
					return errGone // after each message
				}}
				w := newShop(t, h)
				s, err := stream.ResilientServerStreaming(w.watch.context(t.Context()), testpb.NewTestServiceClient(w.conn).StreamingOutputCall,
					func(from checkpoint.Position) (*request, error) {
						if from.Seq == last {
							return nil, fmt.Errorf("all is there: %w", stream.Complete)
						}
						return ask(from)
					}, downloads())
				if last == 0 {
					require.Equal(t, io.EOF, err, "nothing remains at once")
					require.Nil(t, s)
					return
				}
				require.NoError(t, err)
				got, err := receiveAll(s)
				require.Equal(t, io.EOF, err)
				require.Equal(t, upTo(last), got)
				require.Equal(t, upTo(last-1), append([]uint64(nil), h.requests[1:]...), "the positions of the requests after the first")
				mustClose(t, s, "at its end")
			})
		})
	}
}

// Invariant 16: an error of the request is classified as one of Resume's.
func TestErrorsOfTheRequest(t *testing.T) {
	t.Parallel()
	broken := errors.New("no such cursor")
	tests := map[string]struct {
		err    error
		reason stream.Reason
		code   codes.Code
	}{
		"without a status":        {broken, stream.ReasonResume, codes.Unknown},
		"a status that is final":  {errLastWord, stream.ReasonServer, codes.InvalidArgument},
		"the position is lost":    {stream.ErrPositionLost, stream.ReasonPositionLost, codes.OutOfRange},
		"a request that is nil":   {nil, stream.ReasonResume, codes.Unknown},
		"io.EOF, which is no end": {io.EOF, stream.ReasonResume, codes.Unknown},
	}
	for name, test := range tests {
		for _, attempt := range []int{1, 2} {
			t.Run(fmt.Sprintf("%s, attempt %d", name, attempt), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := newShop(t, &warehouse{download: func(_ *request, s downstream) error {
						if err := s.Send(frame{kind: data, seq: 1}.response()); err != nil {
							return err
						}
						return errGone
					}})
					asked := 0
					s, err := stream.ResilientServerStreaming(w.watch.context(t.Context()), testpb.NewTestServiceClient(w.conn).StreamingOutputCall,
						func(from checkpoint.Position) (*request, error) {
							if asked++; asked == attempt {
								return nil, test.err
							}
							return ask(from)
						}, downloads())
					if attempt == 2 {
						require.NoError(t, err)
						mustReceive(t, s, 1)
						_, err = s.Recv()
					}
					wantEnd(t, err, test.reason, test.code, name)
					require.NotErrorIs(t, err, io.EOF)
					require.ErrorContains(t, err, "stream: resume: ")
				})
			})
		}
	}
	t.Run("a status that is resumed", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := newShop(t, &warehouse{total: 2})
			asked := 0
			s, err := stream.ResilientServerStreaming(w.watch.context(t.Context()), testpb.NewTestServiceClient(w.conn).StreamingOutputCall,
				func(from checkpoint.Position) (*request, error) {
					if asked++; asked < 3 {
						return nil, errGone
					}
					return ask(from)
				}, downloads())
			require.NoError(t, err)
			got, err := receiveAll(s)
			require.ErrorIs(t, err, io.EOF)
			require.Equal(t, upTo(2), got)
			require.Equal(t, uint64(3), s.Stats().Attempts)
		})
	})
}

// A server-streaming call has nothing to send, and says so.
func TestServerStreamingTakesOneRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newShop(t, &warehouse{total: 3})
		cb := downloads()
		cb.Resume = func(_ context.Context, r *resumption) error {
			require.ErrorContains(t, r.Send(new(request)), "takes one request")
			m, err := r.Recv()
			if err != nil {
				return err
			}
			r.StartsAt(at(0))
			r.Deliver(m)
			return nil
		}
		s := w.watching(cb)
		err := s.Send(new(request))
		wantEnd(t, err, stream.ReasonMessage, codes.InvalidArgument, "Send")
		require.ErrorContains(t, err, "takes one request")
		require.NoError(t, s.CloseSend())
		got, err := receiveAll(s)
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, upTo(3), got)
	})
}

// OK is a planned close of an endless stream, though its half-close was sent with the request.
func TestServerStreamingEndless(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := &warehouse{}
		h.download = func(r *request, s downstream) error {
			return s.Send(frame{kind: data, seq: frameOf(r).seq + 1}.response())
		}
		w := newShop(t, h)
		s := w.watching(downloads(), stream.WithEndless())
		require.NoError(t, s.CloseSend(), "it says nothing new")
		mustReceive(t, s, upTo(20)...)
		require.Zero(t, s.Stats().Outages)
		h.rising(t)
	})
}

// The restart that a snapshot allows.
func TestServerStreamingWithoutPositions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := &warehouse{total: 2}
		n := 0
		h.download = func(r *request, s downstream) error {
			if err := h.send(r, s); err != nil {
				return err
			}
			if n++; n%2 == 1 {
				return errGone
			}
			return nil
		}
		w := newShop(t, h)
		got, err := receiveAll(w.watching(callbacks{}))
		wantEnd(t, err, stream.ReasonNoCheckpoint, codes.Unavailable, "after a message, without positions")
		require.Equal(t, upTo(2), got)
		n = 0
		got, err = receiveAll(w.watching(callbacks{}, stream.WithRestart()))
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, append(upTo(2), upTo(2)...), got)
	})
}

// What Resume delivers before it says Complete is handed over, of any kind of stream.
func TestDeliveredThenComplete(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, sends(errGone, numbered(1, 2)...), stays())
		s := w.mustDial(resumes(func(_ context.Context, r *resumption) error {
			if r.Attempt() == 1 {
				return nil
			}
			r.Deliver(frame{kind: data, seq: 2}.response()) // again
			r.Deliver(frame{kind: data, seq: 3}.response())
			return stream.Complete
		}))
		got, err := receiveAll(s)
		require.Equal(t, io.EOF, err)
		require.Equal(t, upTo(3), got)
	})
}

func TestOptionsThatDoNotFitTheKind(t *testing.T) {
	t.Parallel()
	replay := stream.WithReplay(stream.ReplayLimits{})
	for name, test := range map[string]struct {
		cb    callbacks
		opt   stream.ClientOption
		names []string
	}{
		"Acked":                         {callbacks{Acked: (&feed{}).callbacks().Acked}, nil, []string{"Acked", "takes one request"}},
		"Sequence":                      {callbacks{Sequence: func(*request) uint64 { return 1 }}, nil, []string{"Sequence", "takes one request"}},
		"replay":                        {callbacks{}, replay, []string{"WithReplay", "takes one request"}},
		"Request":                       {callbacks{Request: func(m *request, _ checkpoint.Position) (*request, error) { return m, nil }}, nil, []string{"Callbacks.Request", "argument"}},
		"WithEndless and WithoutResume": {callbacks{}, stream.WithEndless(), []string{"WithEndless", "WithoutResume"}},
	} {
		t.Run("server streaming, "+name, func(t *testing.T) {
			t.Parallel()
			open := func(context.Context, *request, ...grpc.CallOption) (grpc.ServerStreamingClient[response], error) {
				t.Error("something was opened")
				return nil, errGone
			}
			opts := []stream.ClientOption{stream.WithoutResume()}
			if test.opt != nil {
				opts = append(opts, test.opt)
			}
			_, err := stream.ResilientServerStreaming(t.Context(), open, ask, test.cb, opts...)
			wantEnd(t, err, stream.ReasonOptions, codes.InvalidArgument, name)
			for _, part := range test.names {
				require.ErrorContains(t, err, part)
			}
		})
	}
	for name, test := range map[string]struct {
		cb    uploads
		opt   stream.ClientOption
		names []string
	}{
		"Acked":      {uploads{Acked: func(*answer) (uint64, bool) { return 0, false }}, replay, []string{"Acked", "answers once"}},
		"Checkpoint": {uploads{Checkpoint: func(*answer) (checkpoint.Position, bool) { return checkpoint.Position{}, false }}, stream.WithRestart(), []string{"Checkpoint", "answers once"}},
		"Control":    {uploads{Control: func(*answer) bool { return true }}, replay, []string{"Control", "answers once"}},
		"endless":    {uploads{}, stream.WithEndless(), []string{"WithEndless", "answer"}},
		"Request":    {uploads{Request: func(m *uploadPart, _ checkpoint.Position) (*uploadPart, error) { return m, nil }}, replay, []string{"Callbacks.Request", "Resume"}},
		"ack limit":  {uploads{}, stream.WithAckTimeout(1), []string{"WithAckTimeout", "Acked"}},
	} {
		t.Run("client streaming, "+name, func(t *testing.T) {
			t.Parallel()
			open := func(context.Context, ...grpc.CallOption) (grpc.ClientStreamingClient[uploadPart, answer], error) {
				t.Error("something was opened")
				return nil, errGone
			}
			_, err := stream.ResilientClientStreaming(t.Context(), open, test.cb, test.opt)
			wantEnd(t, err, stream.ReasonOptions, codes.InvalidArgument, name)
			for _, part := range test.names {
				require.ErrorContains(t, err, part)
			}
		})
	}
	t.Run("arguments that are nil", func(t *testing.T) {
		t.Parallel()
		var watch func(context.Context, *request, ...grpc.CallOption) (grpc.ServerStreamingClient[response], error)
		_, err := stream.ResilientServerStreaming(t.Context(), watch, ask, callbacks{})
		wantEnd(t, err, stream.ReasonOptions, codes.InvalidArgument, "open is nil")
		watch = func(context.Context, *request, ...grpc.CallOption) (grpc.ServerStreamingClient[response], error) {
			return nil, errGone
		}
		_, err = stream.ResilientServerStreaming(t.Context(), watch, nil, callbacks{})
		wantEnd(t, err, stream.ReasonOptions, codes.InvalidArgument, "request is nil")
		var put func(context.Context, ...grpc.CallOption) (grpc.ClientStreamingClient[uploadPart, answer], error)
		_, err = stream.ResilientClientStreaming(t.Context(), put, uploads{})
		wantEnd(t, err, stream.ReasonOptions, codes.InvalidArgument, "open is nil")
		require.Equal(t, codes.InvalidArgument, status.Code(err))
	})
}
