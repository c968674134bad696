package stream_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/streamsafe/streamsafe/stream"
)

type ownContext struct {
	grpc.ClientStream
	ctx context.Context
}

func (s ownContext) Context() context.Context { return s.ctx }

// That grpc has aborted an attempt is known also where an interceptor gives the stream a context of its own.
func TestATooLargeMessageAndAContextOfAnInterceptors(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &feed{handler: stays()}, wrapped(func(ctx context.Context, s grpc.ClientStream) grpc.ClientStream {
			return ownContext{s, context.WithValue(ctx, frame{}, 1)}
		}))
		s := w.mustDial(positions(), stream.WithAtMostOnceSends(), stream.WithCallOptions(grpc.MaxCallSendMsgSize(1000)))
		ended := receiving(s)
		err := s.Send(frame{kind: data, size: 5000}.request())
		wantEnd(t, err, stream.ReasonMessage, codes.ResourceExhausted, "the message")
		goesOn(t, ended)
		require.NoError(t, s.Send(frame{kind: data}.request()))
	})
}

// A message that grpc refused was never on the wire, and its number is free, also where the attempt is just ending.
func TestATooLargeMessageWhileTheAttemptEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var ending atomic.Bool
		ends := make(chan struct{})
		w := newWorld(t, &feed{handler: inOrder(lasts(time.Second, errGone), stays())})
		s := w.mustDial(acking(), withReplay(), stream.WithCallOptions(grpc.MaxCallSendMsgSize(1000), grpc.OnFinish(func(error) {
			if ending.CompareAndSwap(false, true) {
				<-ends // before grpc cancels the stream's context
			}
		})))
		mustSend(t, s, 1, 1)
		receiving(s)
		time.Sleep(2 * time.Second)
		require.True(t, ending.Load())
		requireReason(t, s.Send(frame{kind: data, seq: 2, size: 5000}.request()), stream.ReasonMessage, "too large")
		close(ends)
		rest(20 * time.Second)
		mustSend(t, s, 2, 2)
		require.Equal(t, uint64(2), s.Stats().LastSeq)
	})
}
