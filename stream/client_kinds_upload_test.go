package stream_test

import (
	"context"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/streamsafe/streamsafe/stream"
)

// Client-streaming methods.

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
