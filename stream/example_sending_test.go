package stream_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/streamsafe/streamsafe/stream"
)

// The server wants an answer to each message, on the connection that it sent it on. An answer for a connection that is gone
// must not reach the next one.
func ExampleClientStream_SendOn() {
	client, stop := startServer(numbersTo(2, errRestart), numbersTo(3, nil))
	defer stop()

	s, err := stream.Resilient(context.Background(), client.FullDuplexCall, stream.Callbacks[request, response]{
		Resume: func(_ context.Context, r *stream.Resumption[request, response]) error {
			return r.Send(resumeFrom(r.Position()))
		},
		Checkpoint: position,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = s.Close() }()
	for m, err := s.Recv(); err == nil; m, err = s.Recv() {
		fmt.Println(describe(m), "came on attempt", s.Attempt())
		if err := s.SendOn(s.Attempt(), answering(m)); err != nil && !errors.Is(err, stream.ErrAttemptOver) {
			fmt.Println(err)
		}
	}
	// Output:
	// number 1 came on attempt 1
	// number 2 came on attempt 1
	// number 3 came on attempt 2
}

// The client subscribes to topics, and changes its mind while the connection breaks. It keeps no list, and Resume does nothing:
// each new attempt gets what is subscribed to then.
func ExampleCallbacks_key() {
	client, stop := startServer(subscribers(2, errRestart), subscribers(1, nil))
	defer stop()

	s, err := stream.Resilient(context.Background(), client.FullDuplexCall, stream.Callbacks[request, response]{
		Key: func(m *request) (key string, last bool) { return topic(m), isUnsubscribe(m) },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = s.Close() }()
	if err := s.Send(subscribe("oil")); err != nil {
		fmt.Println(err)
	}
	if err := s.Send(unsubscribe("oil")); err != nil { // the server goes away after that
		fmt.Println(err)
	}
	if err := s.Send(subscribe("tea")); err != nil {
		fmt.Println(err)
	}
	_, err = s.Recv()
	fmt.Println("end:", err)
	// Output:
	// server got subscribe oil
	// server got unsubscribe oil
	// server got subscribe tea
	// end: EOF
}
