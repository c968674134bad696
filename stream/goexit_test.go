package stream_test

import (
	"context"
	"runtime"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/internal/testnet"
	"github.com/streamsafe/streamsafe/stream"
)

// A callback that ends its goroutine, as t.FailNow does, ends the stream: nobody waits for ever.
func TestCallbackThatEndsTheGoroutine(t *testing.T) {
	t.Parallel()
	for attempt := range uint64(2) {
		t.Run([]string{"on the first attempt", "on the second"}[attempt], func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := scripted(t, stays(numbered(1)...))
				cb := positions()
				cb.Resume = func(_ context.Context, r *resumption) error {
					if r.Attempt() == attempt+1 {
						runtime.Goexit()
					}
					return nil
				}
				s, err := w.dial(t.Context(), cb)
				if attempt == 1 {
					require.NoError(t, err)
					mustReceive(t, s, 1)
					w.Cut(testnet.RST)
					_, err = s.Recv()
					require.NoError(t, s.Close())
				}
				requireReason(t, err, stream.ReasonResume, "end of the stream")
			})
		})
	}
}

// An error of the application's own is not the transport's, whatever it says.
func TestResumesErrorThatSoundsLikeTheTransport(t *testing.T) {
	t.Parallel()
	for text, want := range map[error]stream.Reason{
		plainError("unexpected EOF"):                  stream.ReasonResume,
		plainError("transport: it is late"):           stream.ReasonResume,
		status.Error(codes.NotFound, "transport: no"): stream.ReasonServer,
	} {
		t.Run(text.Error(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := scripted(t, stays())
				cb := positions()
				cb.Resume = func(context.Context, *resumption) error { return text }
				_, err := w.dial(t.Context(), cb)
				requireReason(t, err, want, "end of the stream")
			})
		})
	}
}

type plainError string

func (e plainError) Error() string { return string(e) }
