package stream_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
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

// The half-close that was answered is over: everything is acknowledged, trailers and targets are there, nothing runs.
func TestTheAnswerIsTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := &warehouse{}
		h.upload = func(s upstream, n int) error {
			s.SetTrailer(metadata.Pairs("checksum", "f00"))
			if err := s.SendHeader(metadata.Pairs("upload", "7")); err != nil {
				return err
			}
			if err := h.receive(s, n); err != nil {
				return err
			}
			return s.SendAndClose(h.answer())
		}
		w := newShop(t, h)
		var header, trailer metadata.MD
		s := w.uploading(uploads{}, stream.WithReplay(stream.ReplayLimits{}),
			stream.WithCallOptions(grpc.Header(&header), grpc.Trailer(&trailer)))
		stored, err := upload(s, 5)
		require.NoError(t, err)
		require.Equal(t, uint64(5), stored)
		require.Equal(t, []string{"f00"}, s.Trailer().Get("checksum"))
		require.Equal(t, []string{"f00"}, trailer.Get("checksum"), "grpc.Trailer")
		require.Equal(t, []string{"7"}, header.Get("upload"), "grpc.Header")
		require.Equal(t, stream.Closed, s.State())
		require.Error(t, s.Context().Err(), "the context of the stream")
		st := s.Stats()
		require.Equal(t, uint64(5), st.Acked)
		require.Zero(t, st.Unacked)
		require.NoError(t, s.Flush(t.Context()))
		_, err = s.Recv()
		require.Equal(t, io.EOF, err, "after the answer")
		require.Equal(t, io.EOF, s.Send(piece(6)), "after the answer")
		h.checkUploads(t, 5)
	})
}

// An answer counts, whatever else ends the attempt at the same time.
func TestNothingOverturnsTheAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := &warehouse{}
		cut := make(chan struct{})
		w := newShop(t, h, wrapped(func(_ context.Context, s grpc.ClientStream) grpc.ClientStream {
			return answeringStream{s, cut}
		}))
		s := w.uploading(uploads{}, stream.WithReplay(stream.ReplayLimits{}), stream.WithIdleTimeout(time.Second))
		answered := async(func() error { _, err := upload(s, 2); return err })
		rest(5 * time.Second) // the limit has passed, and RecvMsg has the answer
		close(cut)
		require.NoError(t, within(t, answered, "the answer"))
		require.Equal(t, uint64(1), s.Stats().Attempts, "attempts")
		require.Equal(t, 1, h.handlersOf())
	})
}

// answeringStream returns from RecvMsg when it is let go.
type answeringStream struct {
	grpc.ClientStream
	goOn chan struct{}
}

func (s answeringStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	<-s.goOn
	return err
}

// Without replay, what was sent is in doubt after a break. With nothing sent there is no doubt.
func TestUploadsWithoutReplay(t *testing.T) {
	t.Parallel()
	for _, sent := range []uint64{0, 1, 3} {
		for name, opt := range map[string]stream.ClientOption{"safe": stream.WithName("safe"), "at most once": stream.WithAtMostOnceSends()} {
			t.Run(fmt.Sprintf("%d sent, %s", sent, name), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					h := &warehouse{}
					h.upload = func(s upstream, n int) error {
						if err := h.receive(s, n); err != nil {
							return err
						}
						if n == 0 {
							return errGone // after the half-close
						}
						return s.SendAndClose(h.answer())
					}
					s := newShop(t, h).uploading(uploads{}, opt)
					stored, err := upload(s, sent)
					if sent > 0 && name == "safe" {
						wantEnd(t, err, stream.ReasonSendsInDoubt, codes.Unavailable, "the end")
						return
					}
					require.NoError(t, err)
					require.Equal(t, sent, stored)
					require.Equal(t, uint64(2), s.Stats().Attempts)
				})
			})
		}
	}
}

// Resume asks the server with another call how much it has: only the rest is sent again.
func TestUploadsResumeWhereTheServerIs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := &warehouse{}
		h.upload = func(s upstream, n int) error {
			if n < 4 {
				for range 3 {
					m, err := s.Recv()
					if err != nil {
						return err
					}
					h.store(n, frameOf(m).seq)
				}
				return errGone
			}
			if err := h.receive(s, n); err != nil {
				return err
			}
			return s.SendAndClose(h.answer())
		}
		s := newShop(t, h).uploading(uploads{Resume: h.asks}, stream.WithReplay(stream.ReplayLimits{}))
		stored, err := upload(s, 14)
		require.NoError(t, err)
		require.Equal(t, uint64(14), stored)
		attempts, _ := h.seen()
		require.Equal(t, [][]uint64{{1, 2, 3}, {4, 5, 6}, {7, 8, 9}, {10, 11, 12}, {13, 14}}, attempts)
	})
}

// The server has answered, and the answer was lost. Resume learns of it in another call, and nothing is sent again.
func TestAnAnswerThatResumeBrings(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		err    error // of Resume
		tells  func(*answer) error
		reason stream.Reason
	}{
		"complete":           {stream.Complete, nil, stream.ReasonUnknown},
		"attached":           {nil, nil, stream.ReasonUnknown},
		"complete, an error": {stream.Complete, func(*answer) error { return errLastWord }, stream.ReasonServer},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := &warehouse{}
				h.upload = func(s upstream, n int) error {
					if err := h.receive(s, n); err != nil {
						return err
					}
					return errGone
				}
				s := newShop(t, h).uploading(uploads{
					Err: test.tells,
					Resume: func(_ context.Context, r *stream.Resumption[uploadPart, answer]) error {
						if r.Attempt() == 1 {
							_, err := r.Recv()
							require.ErrorContains(t, err, "answers once")
							return nil
						}
						r.Deliver(h.answer())
						return test.err
					},
				}, stream.WithReplay(stream.ReplayLimits{}))
				stored, err := upload(s, 3)
				if test.reason != stream.ReasonUnknown {
					requireReason(t, err, test.reason, name)
					return
				}
				require.NoError(t, err)
				require.Equal(t, uint64(3), stored)
				attempts, _ := h.seen()
				require.Equal(t, [][]uint64{{1, 2, 3}}, attempts[:1])
				require.Zero(t, s.Stats().Replayed)
				require.Zero(t, s.Stats().Unacked)
				_, err = s.Recv()
				require.Equal(t, io.EOF, err)
			})
		})
	}
}

// OK acknowledges everything: of a Resume that finds nothing left to do, and of an answer that comes when the application has gone.
func TestOKOfAnUploadAcknowledges(t *testing.T) {
	t.Parallel()
	breaks := func(h *warehouse) {
		h.upload = func(s upstream, n int) error {
			if err := h.receive(s, n); err != nil {
				return err
			}
			return errGone
		}
	}
	t.Run("Complete", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			h := &warehouse{}
			breaks(h)
			s := newShop(t, h).uploading(uploads{Resume: func(_ context.Context, r *stream.Resumption[uploadPart, answer]) error {
				if r.Attempt() > 1 {
					return stream.Complete
				}
				return nil
			}}, withReplay())
			_, err := upload(s, 3)
			require.Equal(t, io.EOF, err, "there is no answer")
			require.Zero(t, s.Stats().Unacked)
		})
	})
	t.Run("the application has gone", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := newShop(t, &warehouse{})
			var s *uploader
			s = w.uploading(uploads{Err: func(*answer) error {
				_ = s.Close()
				rest(time.Second)
				return nil
			}}, withReplay())
			_, err := upload(s, 3)
			requireReason(t, err, stream.ReasonClosed, "CloseAndRecv")
			require.Zero(t, s.Stats().Unacked)
		})
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

// A server may answer before it has everything.
func TestAnEarlyAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := &warehouse{}
		h.upload = func(s upstream, n int) error {
			m, err := s.Recv()
			if err != nil {
				return err
			}
			h.store(n, frameOf(m).seq)
			return s.SendAndClose(h.answer())
		}
		s := newShop(t, h).uploading(uploads{}, stream.WithReplay(stream.ReplayLimits{}))
		var err error
		for n := uint64(1); err == nil; n++ {
			err = s.Send(piece(n))
			rest(time.Second)
		}
		require.Equal(t, io.EOF, err, "Send")
		m, err := s.CloseAndRecv()
		require.NoError(t, err)
		require.Equal(t, int32(1), m.GetAggregatedPayloadSize())
		require.Equal(t, uint64(1), s.Stats().Attempts)
	})
}

// A server that does not answer, and says OK, breaks the protocol of gRPC.
func TestOKWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := &warehouse{}
		h.upload = func(s upstream, n int) error { return h.receive(s, n) }
		_, err := upload(newShop(t, h).uploading(uploads{}), 1)
		wantEnd(t, err, stream.ReasonServer, codes.Internal, "no answer")
	})
}

// Nothing makes room in the buffer before the answer. So Send says that it is full, and does not wait for ever.
func TestAFullBufferOfAnUpload(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := &warehouse{}
		s := newShop(t, h).uploading(uploads{}, stream.WithReplay(stream.ReplayLimits{Messages: 3}))
		require.Error(t, s.Flush(t.Context()), "before CloseSend")
		for n := uint64(1); n <= 3; n++ {
			require.NoError(t, s.Send(piece(n)))
		}
		err := within(t, async(func() error { return s.Send(piece(4)) }), "the refusal")
		wantEnd(t, err, stream.ReasonWindowFull, codes.ResourceExhausted, "message 4")
		require.NoError(t, s.CloseSend())
		require.NoError(t, s.Flush(t.Context()), "the answer acknowledges")
		m, err := s.CloseAndRecv()
		require.NoError(t, err)
		require.Equal(t, int32(3), m.GetAggregatedPayloadSize())
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
