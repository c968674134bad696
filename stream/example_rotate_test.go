package stream_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/streamsafe/streamsafe/stream"
)

// The server says that it will close. The stream opens the next attempt first, and the application notices nothing.
func ExampleRotate() {
	says := func(frames ...frame) func(bidi) error { // a server that stays until the client leaves
		return stays(append(frames, frame{kind: goodbye})...)
	}
	client, stop := startServer(says(numbered(1, 2)...), stays(numbered(3)...))
	defer stop()

	s, err := stream.Resilient(context.Background(), client.FullDuplexCall, stream.Callbacks[request, response]{
		Resume: func(_ context.Context, r *stream.Resumption[request, response]) error {
			if errors.Is(r.Cause(), stream.Rotate) {
				fmt.Println("attempt", r.Attempt(), "takes over after", r.Position().Seq)
			}
			return r.Send(resumeFrom(r.Position()))
		},
		Err: func(m *response) error {
			if frameOf(m).kind == goodbye {
				return stream.Rotate
			}
			return nil
		},
		Checkpoint: position,
		Control:    func(m *response) bool { return frameOf(m).kind == goodbye }, // not for the application
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = s.Close() }()
	for range 3 {
		m, err := s.Recv()
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println("got", describe(m))
	}
	st := s.Stats()
	fmt.Println("rotations:", st.Rotations, "outages:", st.Outages)
	// Output:
	// got number 1
	// got number 2
	// attempt 2 takes over after 2
	// got number 3
	// rotations: 1 outages: 0
}

// The streams of a fleet move to new servers every 25 to 30 minutes, and not all at the same time.
func ExampleWithMaxAge() {
	client, stop := startServer(stays(numbered(1)...))
	defer stop()

	s, err := stream.Resilient(context.Background(), client.FullDuplexCall, stream.Callbacks[request, response]{
		Resume: func(_ context.Context, r *stream.Resumption[request, response]) error {
			return r.Send(resumeFrom(r.Position()))
		},
		Checkpoint: position,
	}, stream.WithMaxAge(30*time.Minute, 5*time.Minute), stream.WithObserver(rotations{done: new(atomic.Int64), putOff: new(atomic.Int64)}))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = s.Close() }()
	m, err := s.Recv()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("got", describe(m))
	// Output: got number 1
}

// rotations counts planned rotations.
type rotations struct{ done, putOff *atomic.Int64 }

var _ stream.RotatedObserver = rotations{}

func (r rotations) OnRotated(stream.Info, uint64) { r.done.Add(1) }

func (r rotations) OnRotationPutOff(stream.Info, error) { r.putOff.Add(1) }
