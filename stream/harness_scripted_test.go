package stream_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/streamsafe/streamsafe/stream"
)

// The tools of tests in which the server follows a script, one handler for each attempt.

type (
	callbacks  = stream.Callbacks[request, response]
	resumption = stream.Resumption[request, response]
)

// inOrder gives each attempt the next handler, and the last one to all that follow.
func inOrder(handlers ...func(bidi) error) func(bidi) error {
	var mu sync.Mutex // guards next
	next := 0
	return func(s bidi) error {
		mu.Lock()
		handler := handlers[min(next, len(handlers)-1)]
		next++
		mu.Unlock()
		return handler(s)
	}
}

// sends is a handler that sends frames and ends with err.
func sends(err error, frames ...frame) func(bidi) error {
	return func(s bidi) error {
		for _, f := range frames {
			if err := s.Send(f.response()); err != nil {
				return err
			}
		}
		return err
	}
}

// stays is a handler that sends frames and then waits for its end.
func stays(frames ...frame) func(bidi) error {
	return func(s bidi) error {
		if err := sends(nil, frames...)(s); err != nil {
			return err
		}
		<-s.Context().Done()
		return s.Context().Err()
	}
}

// lasts is a handler that sends frames, waits for d, and ends with err.
func lasts(d time.Duration, err error, frames ...frame) func(bidi) error {
	return func(s bidi) error {
		if err := sends(nil, frames...)(s); err != nil {
			return err
		}
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
			return err
		case <-s.Context().Done():
			return s.Context().Err()
		}
	}
}

// numbered returns data frames with these sequence numbers.
func numbered(seqs ...uint64) []frame {
	frames := make([]frame, 0, len(seqs))
	for _, seq := range seqs {
		frames = append(frames, frame{kind: data, seq: seq})
	}
	return frames
}

// saysNothing is a Resume for servers that know by themselves where to go on.
func saysNothing(context.Context, *resumption) error { return nil }

// dial opens a stream with the callbacks given.
func (w *world) dial(ctx context.Context, cb callbacks, opts ...stream.ClientOption) (*client, error) {
	return stream.Resilient(w.watch.context(ctx), testpb.NewTestServiceClient(w.conn).FullDuplexCall, cb, opts...)
}

// mustDial is dial where that has to succeed. The stream is closed with the test.
func (w *world) mustDial(cb callbacks, opts ...stream.ClientOption) *client {
	w.t.Helper()
	s, err := w.dial(w.t.Context(), cb, opts...)
	require.NoError(w.t, err)
	closeAtTheEnd(w.t, s)
	return s
}

// scripted starts a world whose server has a handler for each attempt.
func scripted(t *testing.T, handlers ...func(bidi) error) *world {
	t.Helper()
	return newWorld(t, &feed{handler: inOrder(handlers...)})
}
